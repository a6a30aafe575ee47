"""Put the default model together from the run that trained it.

    python benchmarks/ship.py RUN [-o pretrained/default]

RUN is a run folder of `dsg train recipes/default/translator.toml`. It writes the translator and a
file of codes for each style, in half precision; base and encoder stay as they are. Exemplars are
numbered, since their files are named by hashes; those in `FIRST` come first. The first style is
what `dsg stylize` draws in when no style is named.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from dsgcli.store.networks import load_sampler, load_translator
from dsgcli.store.write import save_translator, save_translator_style
from dsgcli.training.package import LAST
from dsgcli.training.run_dir import RunFolder
from dsgcli.training.stages.codes import by_style, read_part
from dsgcli.training.stages.sampler import sampler_name
from dsgcli.types import Provenance

ROOT = Path(__file__).parents[1]
PROVENANCE = Provenance(
    license="CC-BY-4.0",
    source="trained by dsg, recipes/default/translator.toml",
    notes="attribution: artflow.ai; docs/model-card.md has all sources",
)
FIRST = {
    "toon": (46, 148, 145, 104, 14, 146, 42, 93, 17, 152, 138, 10),
    "comic": (60, 20, 73, 120, 153, 36, 102, 133, 85, 134, 25, 94),
    "noir": (110, 0, 88, 2, 52, 102, 80, 31, 64, 125, 29, 147),
    "neon": (107, 156, 103, 108, 95, 43, 147, 113, 86, 140, 101, 10),
}
"""Exemplars that come first, chosen by eye, by their position among the style's files by name."""


def found(run: RunFolder, artifact: str) -> Path:
    """A file that the run has made."""
    path = run.find(artifact, before=LAST)
    if path is None:
        raise SystemExit(f"{run.path} has no {artifact}; train it first")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "pretrained" / "default")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    run, path = RunFolder(options.run), options.output / "translator.safetensors"
    first = replace(PROVENANCE, extra={"default_style": next(iter(FIRST))})
    save_translator(path, load_translator(found(run, "translator")), provenance=first, half=True)
    for style, codes in by_style(read_part(found(run, "codes"))).items():
        count = len(codes.names)
        order = list(dict.fromkeys((*FIRST[style], *range(count))))
        exstyle = codes.default[order]
        sampler = load_sampler(found(run, sampler_name(style)), style_dim=exstyle.shape[2])
        save_translator_style(
            options.output / f"{style}.safetensors",
            exstyle,
            tuple(f"{number:03}" for number in range(count)),
            translator=path,
            sampler=sampler,
            provenance=PROVENANCE,
        )
    for made in sorted(options.output.glob("*.safetensors")):
        print(f"{made.name:24} {made.stat().st_size / 1e6:6.2f} MB")


if __name__ == "__main__":
    main()
