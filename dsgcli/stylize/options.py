"""Options of `dsg stylize`: one frozen value, checked before any work starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from dsgcli.errors import RecipeError

Aligned = Literal["auto", "yes", "no"]
MaskKind = Literal["auto", "feather", "face", "head", "person"]
Compare = Literal["side", "split", "page"]
"""`side`: the source to the left of the drawing. `split`: its left half, and the drawing's right
one. `page`: the drawing alone, and a page with a slider beside it; for photographs."""
OnMissing = Literal["keep", "hold", "fail"]
EncoderSpace = Literal["auto", "z+", "w+"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StylizeOptions:
    """Every choice of `dsg stylize`; the names are those of its flags."""

    # what to draw
    style: tuple[str, ...] = ("default",)
    """Style references; each makes an output of its own from one encoding pass."""
    exemplar: Path | None = None
    """A picture to take the style from, instead of a stored exemplar."""
    strength: float = 1.0
    """Factor of all weights, 0 to 1: 0 gives back the photograph (or its reconstruction)."""
    structure: float | None = None
    """Weight of all structure layers, 0 to 1; None takes the preset's (0.75)."""
    color: float | None = None
    """Weight of all color layers, 0 to 1; None takes the preset's (1)."""
    weights: tuple[float, ...] | None = None
    """One weight a layer, instead of `structure` and `color`."""
    preset: str | None = None
    """Published weights of a style by name."""
    preserve_color: bool = False
    """Keep the photograph's colors (through the codes, not by painting over)."""
    truncation: float = 0.75
    """How far the face may be from the average, 0 to 1."""
    encoder: EncoderSpace = "auto"
    """Latent space of the encoder; auto takes z+ where there is one."""
    refine: int = 0
    """Steps of optimising the code of a still against the photograph."""
    size: int | None = None
    """Side of the portraits in pixels, a power of two; None is the model's own."""
    seed: int = 0
    """Random seed."""

    # which faces, and how they are put back
    aligned: Aligned = "auto"
    """Whether inputs are FFHQ crops already."""
    crop: bool = False
    """Write the aligned portrait, not the whole frame."""
    faces: str = "all"
    """`largest`, `all`, a number of faces, or their numbers `i,j`."""
    face_style: tuple[str, ...] = ()
    """`NUMBER=STYLE` for single faces."""
    mask: MaskKind = "auto"
    """Part of the portrait that replaces the frame."""
    blend: float = 0.08
    """Width of the soft edge, as a part of the crop's side."""
    match_color: float = 0.0
    """How far the portrait's mean color is moved to the photograph's, 0 to 1."""
    grade: bool | None = None
    """Give the rest of the frame the light and color that the faces got; None where the style keeps
    what is around the face."""
    alpha: bool = False
    """Write only the stylized head, on a transparent background."""
    compare: Compare | None = None
    """Show before and after: side by side, in two halves, or on a page beside the drawing."""
    smooth: float | None = None
    """Seconds over which the faces of a video are smoothed; 0 is off, None the default."""
    on_missing: OnMissing = "keep"
    """Treatment of frames in which a tracked face is lost."""

    # files
    output_pattern: str = "{stem}_{style}.{ext}"
    """Names in an output folder; `style` is the style's label, such as `arcane-12`."""
    overwrite: bool = False
    recursive: bool = False
    resume: bool = True
    """Continue an interrupted video from its finished segments."""
    location: bool = True
    """Keep where a photograph or video was taken (GPS)."""
    preview: int = 0
    """Write a contact sheet of so many frames instead of the whole."""

    # video
    rate: Fraction | None = None
    """Frames a second; a folder or a numbered pattern is then read as one video."""
    start: Fraction | None = None
    """Seconds into the video at which to start."""
    end: Fraction | None = None
    """Seconds into the video at which to end."""
    codec: str | None = None
    crf: int | None = None
    codec_preset: str | None = None
    codec_option: tuple[str, ...] = ()
    audio: Literal["copy", "none"] = "copy"

    # the machine
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    backend: Literal["auto", "torch", "compile", "openvino"] = "auto"
    batch_size: int | None = None
    """Frames that go through the networks together; None chooses."""
    workers: int | Literal["auto"] = 1
    """Processes that share the inputs, and the segments of long videos; auto chooses."""
    cluster: str | None = None
    """Address of a Dask scheduler whose workers do the work instead."""
    pretrained: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        problems = [
            *_outside(
                self, 0.0, 1.0, "strength", "structure", "color", "truncation", "match_color"
            ),
            *_outside(self, 0.0, 0.5, "blend"),
            *_outside(self, 0, None, "refine", "preview", "smooth", "crf", "start"),
            *_outside(self, 1, None, "batch_size"),
            *["rate must be above 0"] * (self.rate is not None and self.rate <= 0),
        ]
        if self.workers != "auto" and self.workers < 1:
            problems.append(f"workers must be auto or at least 1, got {self.workers}")
        if self.compare and self.alpha:
            problems.append("compare needs the whole picture; drop alpha")
        if self.compare and self.preview:
            problems.append("preview shows before and after by itself; drop compare")
        if not self.style:
            problems.append("style needs at least one reference")
        if self.start is not None and self.end is not None and self.end <= self.start:
            problems.append(f"end ({float(self.end):g} s) must come after start")
        problems += [
            f"codec_option takes key=value, got {option!r}"
            for option in self.codec_option
            if not option.partition("=")[0] or "=" not in option
        ]
        if problems:
            raise RecipeError("the command", problems)


def _outside(options: StylizeOptions, low: float, high: float | None, *names: str) -> list[str]:
    """A line for each of the named values that lies outside [low, high]; None values are unset."""
    problems = []
    for name in names:
        value = getattr(options, name)
        if value is None or (value >= low and (high is None or value <= high)):
            continue
        rule = f"between {low:g} and {high:g}" if high is not None else f"at least {low:g}"
        problems.append(f"{name} must be {rule}, got {float(value):g}")
    return problems
