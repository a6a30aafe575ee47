"""Latents -> pictures: samples, transitions between codes, figures, galleries of styles.

codes.py        seeds and codes              people.py      photographs or seeds -> codes
scenes.py       codes -> pictures            keyframes.py   interpolation between codes
sample.py       `dsg sample`                 interpolate.py, figures.py   `dsg interpolate`
gallery.py      `dsg styles show`            exemplars.py   `dsg styles add`
destylize.py    `dsg destylize`
"""
