"""Pictures and videos: path -> frames -> path.

    sources.py     open_source: a picture, an animation or a video as an iterable of frames
    sinks.py       open_sink: frames as a video, an animation, a picture or a folder of pictures
    images.py      read_image, write_image;  animations.py  GIF, WebP, PNG;  sheets.py  contact
                   sheets (these three are all of Pillow)
    video_*.py     everything that touches PyAV: decode -> source -> color; codecs -> sink, with
                   copy and tracks for sound and the rest; segments for runs that resume; gif
    tones.py       HDR and wide gamuts to sRGB;  times.py  timestamps;  files.py  whole or nothing

What a file is is decided by its content, never by its name; what to write, by the name.
"""
