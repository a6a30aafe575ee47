"""`dsg styles`: list styles, show them, and add your own exemplars."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dsgcli.cli.completion import complete_style
from dsgcli.cli.flags import expand, values_of
from dsgcli.cli.layout import add, group
from dsgcli.cli.options import (
    Aligned,
    Device,
    Machine,
    OutputFlags,
    Overwrite,
    Pretrained,
    output_to,
)
from dsgcli.console import Cell, Table

if TYPE_CHECKING:
    from dsgcli.store import StyleInfo
    from dsgcli.store.exchange import StyleDiff

EXAMPLES = """
Examples:
  dsg styles list
  dsg styles show noir -o gallery.html
  dsg styles add noir mine.jpg --as me
"""

styles = group("styles", "List, look at, extend, export and compare styles.", EXAMPLES)

StyleName = Annotated[
    str,
    typer.Argument(
        metavar="NAME[:EXEMPLAR]", help="A style in the store.", autocompletion=complete_style
    ),
]


@expand
def list_(pretrained: Pretrained = None, *, talk: OutputFlags) -> None:
    """List the styles in the store, with their exemplars, size, license and origin."""
    from dsgcli.store import ModelStore

    found = ModelStore.open(pretrained).styles()
    rows = [
        (
            style.name,
            len(style.exemplars),
            style.layout.size_px if style.layout else None,
            round(style.num_bytes / 1e6, 1),
            style.license or "unknown",
            style.root.origin,
        )
        for style in found
        if not style.shadowed
    ]
    columns = ("style", "exemplars", "px", "MB", "license", "from")
    hint = "" if rows else "no styles here; `dsg models pull NAME` fetches one"
    for style in found:
        if style.problem:
            talk.terminal.warn(style.problem)
    talk.terminal.show(
        {"styles": [_described(style) for style in found]}, hint or Table(columns, rows)
    )


def _described(style: StyleInfo) -> dict[str, object]:
    return {
        "name": style.name,
        "exemplars": style.exemplars,
        "added": style.num_added,
        "size_px": style.layout.size_px if style.layout else None,
        "refined": style.has_refined,
        "sampler": style.has_sampler,
        "bytes": style.num_bytes,
        "license": style.license,
        "path": style.path,
        "from": style.root.origin,
        "shadowed": style.shadowed,
        "problem": style.problem or None,
    }


@expand
def show(
    name: StyleName,
    output: Annotated[
        Path | None,
        output_to("FILE", "A sheet (png, jpg, webp) or a page (html).", "NAME.png here"),
    ] = None,
    overwrite: Overwrite = False,
    *,
    machine: Machine,
    talk: OutputFlags,
) -> None:
    """Draw a gallery of a style's exemplars, or one exemplar large at several weights."""
    from dsgcli.generate.gallery import ShowOptions
    from dsgcli.generate.gallery import show as write_gallery

    values = values_of(machine) | {"name": name, "output": output, "overwrite": overwrite}
    with talk.terminal.progress() as progress:
        done = write_gallery(ShowOptions(**values), progress)
    count, style = len(done["exemplars"]), str(name).partition(":")[0]
    hint = f"; draw one with --style {style}:NUMBER" if count > 1 else ""
    shown = f"{count} exemplars" if count > 1 else str(done["exemplars"][0]["name"])
    talk.terminal.summary(done, f"Wrote {done['output']} ({shown} of {style}){hint}")


@expand
def add_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The style to extend.")],
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="The new exemplar.")],
    label: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="LABEL",
            help="Name of the new exemplar.",
            show_default="that of the file",
        ),
    ] = None,
    refine: Annotated[
        int,
        typer.Option(min=0, metavar="STEPS", help="Steps of fitting the code to the picture."),
    ] = 100,
    aligned: Aligned = "auto",
    overwrite: Overwrite = False,
    device: Device = "auto",
    pretrained: Pretrained = None,
    *,
    talk: OutputFlags,
) -> None:
    """Add an exemplar of your own to a style, without training.

    It is stored in your data folder; the style itself is not changed.
    """
    from dsgcli.generate.exemplars import AddOptions, run

    options = AddOptions(
        name=name,
        picture=picture,
        label=label,
        refine=refine,
        aligned=aligned,
        overwrite=overwrite,
        device=device,
        pretrained=pretrained,
    )
    with talk.terminal.progress() as progress:
        done = run(options, progress)
    said = f"{done['style']}:{done['number']} is {done['exemplar']}, kept in {done['file']}"
    if "sheet" in done:
        share = max(0, round(100 * done["colors_moved"]))
        said += (
            f"\nWrote {done['sheet']}: your picture, a person, and the person drawn in it; color "
            f"and contrast came {share} % of the way to your picture"
        )
    talk.terminal.summary(done, said)


@expand
def remove(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME:EXEMPLAR",
            help="A style and an exemplar that you added.",
            autocompletion=complete_style,
        ),
    ],
    pretrained: Pretrained = None,
    *,
    talk: OutputFlags,
) -> None:
    """Delete an exemplar that you added to a style; the style itself is not changed."""
    from dsgcli.errors import UsageError
    from dsgcli.store import ModelStore

    style, _, exemplar = name.rpartition(":")
    if not style or not exemplar:
        raise UsageError(f"name the exemplar to remove as STYLE:EXEMPLAR, not {name!r}")
    gone = ModelStore.open(pretrained).remove_exemplar(style, exemplar)
    talk.terminal.show({"removed": f"{style}:{gone}"}, f"removed {gone} from {style}")


@expand
def export(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A style.", autocompletion=complete_style)
    ],
    output: Annotated[
        Path | None,
        output_to("FILE", "Where to write it.", "NAME.safetensors"),
    ] = None,
    overwrite: Overwrite = False,
    pretrained: Pretrained = None,
    *,
    talk: OutputFlags,
) -> None:
    """Write a style with your own exemplars into one file, to share it.

    The file has the name of the style's base, not the base itself.
    """
    from dsgcli.store import ModelStore
    from dsgcli.store.exchange import export_style

    path = output or Path(f"{name}.safetensors")
    header = export_style(ModelStore.open(pretrained), name, path, overwrite=overwrite)
    base = header.base.name if header.base else None
    document = {"output": path, "exemplars": header.names, "base": base}
    said = f"{path}: {len(header.names)} exemplars; needs the base {base!r}"
    talk.terminal.summary(document, said)


@expand
def diff(
    first: Annotated[
        str, typer.Argument(metavar="NAME", help="A style.", autocompletion=complete_style)
    ],
    second: Annotated[
        str, typer.Argument(metavar="OTHER", help="Another.", autocompletion=complete_style)
    ],
    pretrained: Pretrained = None,
    *,
    talk: OutputFlags,
) -> None:
    """Compare two styles: exemplars, codes, weights, base."""
    from dsgcli.store import ModelStore
    from dsgcli.store.exchange import diff_styles

    found = diff_styles(ModelStore.open(pretrained), first, second)
    talk.terminal.show(found, *_diff_parts(found))


def _diff_parts(found: StyleDiff) -> list[Table | str]:
    same = {True: "yes", False: "no", None: "no (other sizes)"}[found.same_base]
    rows: list[tuple[Cell, ...]] = [
        ("size", *(f"{px} px" for px in found.size_px)),
        ("exemplars", *map(str, found.num_exemplars)),
        ("only here", len(found.only_first), len(found.only_second)),
        ("license", *(name or "unknown" for name in found.licenses)),
    ]
    shared = found.same_codes + len(found.changed)
    parts: list[Table | str] = [
        Table(("", *found.names), rows),
        f"Same base: {same}. Exemplars of both: {shared}, of which {len(found.changed)} differ.",
    ]
    if found.weights:
        weights = ", ".join(f"{name} {100 * off:.3g} %" for name, off in found.weights.items())
        parts.append(f"Weights are apart by: {weights}.")
    if found.changed:
        changed: list[tuple[Cell, ...]] = [
            (c.exemplar, round(c.structure, 4), round(c.color, 4)) for c in found.changed
        ]
        parts.append(Table(("exemplar", "structure", "color"), changed))
    return parts


add(styles, list_, "Examples:\n  dsg styles list\n  dsg styles list --json", name="list")
add(
    styles,
    show,
    "Examples:\n  dsg styles show noir -o gallery.html\n  dsg styles show noir:3 -o three.png",
)
add(styles, add_, "Examples:\n  dsg styles add noir mine.jpg --as me", name="add")
add(styles, remove, "Examples:\n  dsg styles remove noir:me")
add(styles, export, "Examples:\n  dsg styles export noir -o noir.safetensors")
add(styles, diff, "Examples:\n  dsg styles diff noir comic")
