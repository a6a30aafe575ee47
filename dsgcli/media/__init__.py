"""Pictures and videos: path -> frames -> path.

    base.py          FrameSource, FrameSink and the facts that pass between them; imports no library
    read.py          open_source: a picture, an animation, a video or a sequence as frames
    write.py         open_sink: frames as a video, an animation, a picture or numbered pictures
    images.py        read_image, write_image; animated.py GIF, WebP, PNG; sheets.py contact sheets
                     (these three are all of Pillow)
    video_reader.py  decode, make timestamps usable, deinterlace (from here on: PyAV)
    video_writer.py  encoders, the muxer, GIF
    remux.py         sound, subtitles, chapters and metadata of a video, copied or encoded again
    color.py         YUV, HDR and wide gamuts to sRGB, and back
    segments.py      videos in parts, for runs that resume
    files.py         outputs that appear whole or not at all, locks

The content of a file decides what it is; the name of a target decides what to write.
"""
