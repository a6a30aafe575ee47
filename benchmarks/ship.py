"""Put the default model together from the runs that trained it.

    python benchmarks/ship.py RUNS [--styles neon noir doll grit] [-o pretrained/default]

RUNS holds the run folders `base-256` and one a style, as `dsg train recipes/default/NAME.toml`
leaves them. The base is written once; a style file holds only what differs from it. Everything is
in half precision. The first style is what `dsg stylize` draws in when no style is named.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from dsgcli.recipe import read_recipe
from dsgcli.store.codes import Codes
from dsgcli.training.candidates import chosen_style
from dsgcli.training.folder import RunFolder
from dsgcli.training.package import LAST, write_base, write_encoder, write_style
from dsgcli.training.stages.codes import read_part
from dsgcli.types import Provenance

ROOT = Path(__file__).parents[1]
PROVENANCE = Provenance(
    license="CC-BY-4.0",
    source="trained by dsg, recipes/default",
    notes="attribution: artflow.ai; docs/model-card.md has all sources",
)

FIRST = {
    "neon": "755827e8ce9d",
    "noir": "66a0fe19c0ca",
    "doll": "622380344f72",
    "grit": "61bbad334856",
}
"""The portrait, by its file, that a style draws like when none is named: chosen by eye. One that is
not among the best fitted leaves the order as it is."""


def found(run: RunFolder, artifact: str) -> Path:
    """A file that the run has made."""
    path = run.find(artifact, before=LAST)
    if path is None:
        raise SystemExit(f"{run.path} has no {artifact}; train it first")
    return path


def best_codes(run: RunFolder, count: int, first: str | None, *, keep_names: bool) -> Codes:
    """The codes of the exemplars that destylization fitted best, in their old order after the
    first; numbered if they are not to keep their files' names, which are hashes."""
    codes = read_part(found(run, "codes"))
    scores = json.loads((run.stage("destylize") / "scores.json").read_text("utf-8"))["scores"]
    by_score = sorted(range(len(codes.names)), key=lambda i: scores[codes.names[i]])
    chosen = sorted(by_score[:count], key=lambda i: (codes.names[i] != first, i))
    best = replace(codes.select(chosen), instyle=None)  # that serves training
    if keep_names:
        return best
    return replace(best, names=tuple(f"{number:03}" for number in range(len(best.names))))


def ship_style(run: RunFolder, base: Path, path: Path, codes: Codes) -> None:
    """One style, with its codes and its sampler."""
    style = chosen_style(read_recipe(run.path / "recipe.toml"), run)
    if style is None:
        raise SystemExit(f"{run.path} has no style; train it first")
    found(run, "sampler")
    write_style(run, style, codes, base, path, PROVENANCE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--styles", nargs="+", default=["neon", "noir", "doll", "grit"])
    parser.add_argument("--base", default="base-256", help="name of the base's run folder")
    parser.add_argument("--exemplars", type=int, default=140, help="most of a style")
    parser.add_argument("--keep-names", action="store_true", help="of pictures, for quality.py")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "pretrained" / "default")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    run = RunFolder(options.runs / options.base)
    first = replace(PROVENANCE, extra={"default_style": options.styles[0]})
    base = write_base(found(run, "base"), options.output / "base.safetensors", first)
    write_encoder(found(run, "encoder"), options.output / "encoder.safetensors", PROVENANCE)
    for name in options.styles:
        path = options.output / f"{name}.safetensors"
        run = RunFolder(options.runs / name)
        codes = best_codes(run, options.exemplars, FIRST.get(name), keep_names=options.keep_names)
        ship_style(run, base, path, codes)
    for path in sorted(options.output.glob("*.safetensors")):
        print(f"{path.name:24} {path.stat().st_size / 1e6:6.1f} MB")


if __name__ == "__main__":
    main()
