"""frames -> faces -> crops -> latents -> portraits -> frames: the main job, whole.

options    what was asked            run        a batch of inputs
jobs       inputs and outputs        file       one input: a still, or a video in segments
cast       who is drawn how          flow       the loop itself
settings   what need not be made again          preview    a contact sheet first
"""
