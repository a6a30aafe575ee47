"""Pictures and videos: path -> frames -> path.

    sources.py   open_source: a picture, an animation or a video as an iterable of frames
    sinks.py     open_sink: frames as a video, an animation, a picture or a folder of pictures
    images.py    read_image, write_image (Pillow);  sheets.py  contact sheets
    video_*.py   everything that touches PyAV

What a file is is decided by its content, never by its name; what to write, by the name.
"""
