"""Options that several commands share, each written once.

CamelCase names of single options are annotations (`seed: Seed = 0`); `LookFlags`, `Machine` and
`OutputFlags` are groups of flags (see `flags.py`). Their order here is their order in `--help`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dsgcli.cli.completion import complete_exemplar, complete_style
from dsgcli.console import ProgressMode, Terminal
from dsgcli.memory import require_limit

STYLE_GROUP = "What to draw"
FILES_GROUP = "Files"
MACHINE_GROUP = "Models and machine"
PRINT_GROUP = "What is printed"

# ── what to draw ─────────────────────────────────────────────────────────────────────────────────

Styles = Annotated[
    list[str],
    typer.Option(
        "--style",
        "-s",
        metavar="NAME[:EXEMPLAR]",
        help="noir, noir:3 (by number), arcane:Jinx_02 (by name), or a blend "
        "noir:3*0.6+noir:8*0.4; may be repeated.",
        autocompletion=complete_style,
        rich_help_panel=STYLE_GROUP,
    ),
]
OneStyle = Annotated[
    str,
    typer.Option(
        "--style",
        "-s",
        metavar="NAME[:EXEMPLAR]",
        help="noir, noir:3 (by number), arcane:Jinx_02 (by name), or a blend "
        "noir:3*0.6+noir:8*0.4.",
        autocompletion=complete_style,
        rich_help_panel=STYLE_GROUP,
    ),
]
Strength = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        metavar="0..1",
        help="How strong the style is; scales --structure and --color together.",
        rich_help_panel=STYLE_GROUP,
    ),
]
Structure = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="0..1",
        help="How far shapes follow the exemplar; 0 keeps the face's own.",
        show_default="the preset's, else 0.75",
        rich_help_panel=STYLE_GROUP,
    ),
]
Color = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="0..1",
        help="How far colors follow the exemplar; 0 keeps the photograph's.",
        show_default="the preset's, else 1",
        rich_help_panel=STYLE_GROUP,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="W0,W1,...",
        help="A weight for each layer, instead of --structure and --color: 18 for 1024 px, "
        "14 for 256 px.",
        rich_help_panel=STYLE_GROUP,
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The method's published weights for a style: caricature, anime, arcane, ...",
        rich_help_panel=STYLE_GROUP,
    ),
]
Truncation = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        metavar="0..1",
        help="How far a face may be from the average face; lower is safer and more ordinary.",
        rich_help_panel=STYLE_GROUP,
    ),
]
Seed = Annotated[
    int,
    typer.Option(metavar="N", help="Random seed.", rich_help_panel=STYLE_GROUP),
]
Size = Annotated[
    int | None,
    typer.Option(
        metavar="PX",
        help="Side of the portraits: a power of two up to the model's own, or of a translator a "
        "multiple of 32.",
        show_default="the model's own",
        rich_help_panel=STYLE_GROUP,
    ),
]
Aligned = Annotated[
    Literal["auto", "yes", "no"],
    typer.Option(
        metavar="auto|yes|no",
        help="Whether pictures are already FFHQ face crops.",
        rich_help_panel=STYLE_GROUP,
    ),
]


@dataclass(frozen=True, kw_only=True)
class LookFlags:
    """Flags for the look of a stylized portrait."""

    style: Styles = field(default_factory=lambda: ["default"])
    exemplar: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER|NAME|PICTURE",
            help="Exemplar of the style, as in --style NAME:EXEMPLAR; or your own picture.",
            autocompletion=complete_exemplar,
            rich_help_panel=STYLE_GROUP,
        ),
    ] = None
    strength: Strength = 1.0
    structure: Structure = None
    color: Color = None
    weights: Weights = None
    preset: Preset = None
    preserve_color: Annotated[
        bool,
        typer.Option(
            "--preserve-color",
            help="Take the color codes from the photograph.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = False
    truncation: Truncation = 0.75
    encoder: Annotated[
        Literal["auto", "z+", "w+"],
        typer.Option(
            metavar="auto|z+|w+",
            help="Latent space of the face: z+ takes the style better, w+ keeps more of the "
            "person.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = "auto"
    refine: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="STEPS",
            help="First fit the face's code to the photograph; 100 is a good start.",
            rich_help_panel=STYLE_GROUP,
        ),
    ] = 0
    size: Size = None
    seed: Seed = 0


# ── files ────────────────────────────────────────────────────────────────────────────────────────


def output_to(metavar: str, says: str, shown: str | bool = True) -> Any:
    """`--output`, which every command describes for itself."""
    return typer.Option(
        "--output",
        "-o",
        metavar=metavar,
        help=says,
        show_default=shown,
        rich_help_panel=FILES_GROUP,
    )


Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace existing files.", rich_help_panel=FILES_GROUP),
]

# ── models and machine ───────────────────────────────────────────────────────────────────────────

Pretrained = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="First folder to search for models, before DSG_PRETRAINED and ./pretrained.",
        rich_help_panel=MACHINE_GROUP,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="DEVICE",
        help="auto, cpu, cuda, cuda:N or mps.",
        rich_help_panel=MACHINE_GROUP,
    ),
]
Precision = Annotated[
    Literal["auto", "fp32", "bf16", "fp16"],
    typer.Option(
        metavar="FORMAT",
        help="auto, fp32, bf16 or fp16; auto takes bf16 where the hardware has it.",
        rich_help_panel=MACHINE_GROUP,
    ),
]
Backend = Annotated[
    Literal["auto", "torch", "compile", "openvino"],
    typer.Option(
        metavar="NAME",
        help="Engine of the networks: auto, torch, compile or openvino; auto takes the "
        "fastest that is installed and worth its start-up time.",
        rich_help_panel=MACHINE_GROUP,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Number of faces in one batch.",
        show_default="chosen for you",
        rich_help_panel=MACHINE_GROUP,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Which models, and on what they run."""

    pretrained: Pretrained = None
    device: Device = "auto"
    precision: Precision = "auto"
    backend: Backend = "auto"
    batch_size: BatchSize = None

    def begin(self) -> None:
        """Before libraries are loaded that end the process where memory is short."""
        require_limit()


# ── what is printed ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """Flags for the output of a command."""

    json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON document on stdout, also when it fails.",
            rich_help_panel=PRINT_GROUP,
        ),
    ] = False
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="No progress, no notes, no summary.",
            rich_help_panel=PRINT_GROUP,
        ),
    ] = False
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            metavar="",
            show_default=False,
            help="Print more on stderr; -vv prints everything.",
            rich_help_panel=PRINT_GROUP,
        ),
    ] = 0
    progress: Annotated[
        ProgressMode,
        typer.Option(
            metavar="auto|json|none",
            help="auto draws bars on a terminal; json writes one event a line to stderr.",
            rich_help_panel=PRINT_GROUP,
        ),
    ] = "auto"
    no_progress: Annotated[
        bool,
        typer.Option(
            "--no-progress", help="The same as --progress none.", rich_help_panel=PRINT_GROUP
        ),
    ] = False

    @property
    def terminal(self) -> Terminal:
        """How the command talks."""
        mode: ProgressMode = "none" if self.no_progress else self.progress
        return Terminal(json=self.json, quiet=self.quiet, verbose=self.verbose, progress_mode=mode)

    def begin(self) -> None:
        """Commands import what is heavy; a person at a terminal should see that they live."""
        self.terminal.starting()


# ── values of more than one word ─────────────────────────────────────────────────────────────────


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """`0.75,1 1` -> (0.75, 1.0, 1.0); None stays None.

    Raises:
        UsageError: something between the commas is no number.
    """
    from dsgcli.errors import UsageError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise UsageError(f"{option} takes numbers with commas between, got {text!r}") from None
