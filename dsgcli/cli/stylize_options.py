"""The flags that only `dsg stylize` has: files, faces, compositing, video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from dsgcli.cli.options import FILES_GROUP, MACHINE_GROUP, Overwrite, output_to

FACES_GROUP = "Which faces"
PASTE_GROUP = "Back into the picture"
VIDEO_GROUP = "Video"


@dataclass(frozen=True, kw_only=True)
class FileFlags:
    """Flags for inputs and outputs."""

    input: Annotated[
        list[str] | None,
        typer.Option(
            "--input", "-i", metavar="PATH", help="Same as INPUT.", rich_help_panel=FILES_GROUP
        ),
    ] = None
    output: Annotated[
        Path | None,
        output_to("PATH", "A file for one output, a folder for several.", "beside the input"),
    ] = None
    output_pattern: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="File names in a folder, from {stem}, {style}, {ext}, {index} and {parent}.",
            rich_help_panel=FILES_GROUP,
        ),
    ] = "{stem}_{style}.{ext}"
    recursive: Annotated[
        bool,
        typer.Option("--recursive", "-r", help="Include subfolders.", rich_help_panel=FILES_GROUP),
    ] = False
    overwrite: Overwrite = False
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Continue an interrupted video, or start again.",
            rich_help_panel=FILES_GROUP,
        ),
    ] = True
    location: Annotated[
        bool,
        typer.Option(
            "--location/--no-location",
            help="Keep where a photograph or video was taken (GPS), or leave it out.",
            rich_help_panel=FILES_GROUP,
        ),
    ] = True
    preview: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Only write a sheet of N frames, before and after.",
            rich_help_panel=FILES_GROUP,
        ),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Which faces are drawn, and how they are followed over time."""

    aligned: Annotated[
        Literal["auto", "yes", "no"],
        typer.Option(
            metavar="auto|yes|no",
            help="Whether inputs are already FFHQ face crops.",
            rich_help_panel=FACES_GROUP,
        ),
    ] = "auto"
    faces: Annotated[
        str,
        typer.Option(
            metavar="largest|all|N|I,J",
            help="Faces to draw: the largest, all, the N largest, or these numbers.",
            rich_help_panel=FACES_GROUP,
        ),
    ] = "all"
    face_style: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NUMBER=STYLE",
            help="A style for one face; may be repeated.",
            rich_help_panel=FACES_GROUP,
        ),
    ] = None
    smooth: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Smooth the faces of a video over this time.",
            show_default="chosen for you",
            rich_help_panel=FACES_GROUP,
        ),
    ] = None
    no_smooth: Annotated[
        bool,
        typer.Option("--no-smooth", help="The same as --smooth 0.", rich_help_panel=FACES_GROUP),
    ] = False
    on_missing: Annotated[
        Literal["keep", "hold", "fail"],
        typer.Option(
            metavar="keep|hold|fail",
            help="If a face is lost: keep the frame, fade out and in, or stop.",
            rich_help_panel=FACES_GROUP,
        ),
    ] = "keep"


@dataclass(frozen=True, kw_only=True)
class Paste:
    """How portraits come back into their frames."""

    crop: Annotated[
        bool,
        typer.Option("--crop", help="Write the face crop alone.", rich_help_panel=PASTE_GROUP),
    ] = False
    mask: Annotated[
        Literal["auto", "feather", "face", "head", "person"],
        typer.Option(
            metavar="KIND",
            help="Part that is replaced: feather (the square), face, head or person; auto depends "
            "on the style.",
            rich_help_panel=PASTE_GROUP,
        ),
    ] = "auto"
    blend: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.5,
            metavar="0..0.5",
            help="Width of the soft edge, as a part of the crop.",
            rich_help_panel=PASTE_GROUP,
        ),
    ] = 0.08
    match_color: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="0..1",
            help="Move the portrait's mean color towards the photograph's.",
            rich_help_panel=PASTE_GROUP,
        ),
    ] = 0.0
    grade: Annotated[
        bool | None,
        typer.Option(
            "--grade/--no-grade",
            help="Give the rest of the frame the light and color of the drawing, or leave it.",
            show_default="by the style",
            rich_help_panel=PASTE_GROUP,
        ),
    ] = None
    alpha: Annotated[
        bool,
        typer.Option(
            "--alpha",
            help="Write only the stylized head, cut out, on a transparent background.",
            rich_help_panel=PASTE_GROUP,
        ),
    ] = False
    compare: Annotated[
        Literal["side", "split", "page"] | None,
        typer.Option(
            metavar="side|split|page",
            help="Show before and after: side by side, in two halves, or (photographs) on a page "
            "with a slider.",
            show_default="off",
            rich_help_panel=PASTE_GROUP,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Video:
    """Flags for reading and encoding videos."""

    rate: Annotated[
        str | None,
        typer.Option(
            metavar="FPS",
            help="Read a folder of numbered pictures, or frame_%05d.png, as one video.",
            rich_help_panel=VIDEO_GROUP,
        ),
    ] = None
    start: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Start here: 75, 1:15 or 0:01:15.5.", rich_help_panel=VIDEO_GROUP
        ),
    ] = None
    end: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="End here.", rich_help_panel=VIDEO_GROUP),
    ] = None
    audio: Annotated[
        Literal["copy", "none"],
        typer.Option(metavar="copy|none", help="Sound tracks.", rich_help_panel=VIDEO_GROUP),
    ] = "copy"
    codec: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Video encoder; `dsg doctor` lists the ones of this machine.",
            show_default="by the file's ending",
            rich_help_panel=VIDEO_GROUP,
        ),
    ] = None
    crf: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Quality; lower is better and larger.",
            show_default="17 for H.264",
            rich_help_panel=VIDEO_GROUP,
        ),
    ] = None
    codec_preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The encoder's speed: ultrafast, ..., veryslow.",
            rich_help_panel=VIDEO_GROUP,
        ),
    ] = None
    codec_option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Another option of the encoder; may be repeated.",
            rich_help_panel=VIDEO_GROUP,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Flags for workers."""

    workers: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Processes that share the files, and the segments of long videos; auto takes as "
            "many as are useful.",
            rich_help_panel=MACHINE_GROUP,
        ),
    ] = "1"
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A Dask scheduler such as tcp://host:8786, whose workers do the work.",
            rich_help_panel=MACHINE_GROUP,
        ),
    ] = None
