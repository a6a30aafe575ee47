"""Latents -> pictures: samples, ways between codes, figures, galleries of styles.

codes.py        seeds and codes          contents.py   people: photographs or seeds
scenes.py       codes -> pictures        styles.py     exemplars as stops of a way
sample.py       `dsg sample`             interpolate.py, paths.py, figures.py: `dsg interpolate`
gallery.py, exemplars.py                 `dsg styles`
sheets.py       many pictures on one     terminal.py   pictures in a terminal
"""
