"""dsg: photographs and videos of people as portraits in the style of one chosen picture."""

__version__ = "0.1.0.dev0"
