"""Frames -> faces -> crops, and portraits -> frames."""
