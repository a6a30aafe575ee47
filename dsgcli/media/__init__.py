"""Frames in and out: pictures (Pillow) and videos (PyAV) behind `FrameSource` and `FrameSink`."""
