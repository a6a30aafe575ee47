"""How good a model is on photographs that it has never seen: likeness, faces found, style.

    python benchmarks/quality.py PHOTOS... [--held-out RUN [--folder base/photos]]
                                 [--pretrained DIR] [--style NAME ...]
                                 [--base FILE --encoder FILE | --checkpoint FILE]
                                 [--exemplars DIR] [--per-style 8]
                                 [--json FILE] [--markdown FILE] [--sheets DIR]

PHOTOS are pictures, or folders of such; --held-out RUN --folder base/photos adds those of a
training run's data that were kept out. Without --style, all styles of the first folder of the store
are measured; with --base and --encoder, a base alone; with --checkpoint, a base in training,
RUN/base/checkpoints/base-2-128px.safetensors with RUN/recipe.toml. --exemplars is a folder with the
exemplars' pictures, DIR/STYLE/NAME or DIR/NAME; without it, what the base makes of their codes
stands for them. --sheets writes a picture a style: a row a person, the plain reconstruction first.

Everything is measured on aligned crops, lengths in percent of the crop's width. Landmarks are
MediaPipe's, found in the whole crop and in the whole output in the same way, both at 256 px or
more. Yaw is where the tip of the nose lies between the sides of the face, mouth opening the
distance of the inner lips in face heights: both follow the pose, neither is an angle. "The best"
is what a perfect reconstruction of the model's size would get: the photograph, shrunk. Colors are
means of whole pictures in Lab. "wanted" is what the shipped model is held to.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from quality_figures import (
    NEAR,
    correlation,
    decibels,
    differ,
    features_off,
    mean_lab,
    mouth_opening,
    table,
    yaw,
)
from quality_photos import (
    LOOK_PX,
    Find,
    Photograph,
    finder,
    held_out,
    pictures_of,
    read_photographs,
)
from safetensors.torch import load_file

from dsgcli.errors import UsageError
from dsgcli.faces.align import crop_whole
from dsgcli.faces.detect import open_detector
from dsgcli.faces.masks import hull_distance
from dsgcli.media.images import read_image, write_image
from dsgcli.media.sheets import make_sheet
from dsgcli.models.dualstylegan import DualConfig, DualStyleGAN
from dsgcli.models.encoder import Encoder
from dsgcli.models.stylegan2 import Generator
from dsgcli.portraits import (
    Look,
    Portraits,
    area_resize,
    load_portraits,
    pick_weights,
    to_images,
    to_pixels,
)
from dsgcli.recipe import read_recipe
from dsgcli.runtime import pick_precision
from dsgcli.store import ModelStore, Style
from dsgcli.store.networks import load_encoder
from dsgcli.training.stages.base import encoder_config, generator_config

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

BATCH, SHOWN = 8, 8


def shrunk(pixels: Pixels, size_px: int) -> Pixels:
    """As large as the model draws."""
    small: Pixels = to_pixels(area_resize(to_images([pixels], torch.device("cpu")), size_px))[0]
    return small


def in_batches(draw: Callable[[torch.Tensor], Pixels], codes: torch.Tensor) -> Pixels:
    return np.concatenate([draw(part) for part in codes.split(BATCH)])


# ── a base ───────────────────────────────────────────────────────────────────────────────────────


def encode(portraits: Portraits, photographs: Sequence[Photograph]) -> torch.Tensor:
    """(N, L, D)."""
    parts = [
        portraits.encode([p.pixels for p in photographs[start : start + BATCH]])
        for start in range(0, len(photographs), BATCH)
    ]
    return torch.cat(parts)


def judge_base(
    portraits: Portraits, photographs: Sequence[Photograph], codes: torch.Tensor, find: Find
) -> dict[str, float]:
    """How alike the plain reconstructions are."""
    plain = in_batches(lambda part: portraits.draw_plain(part), codes)
    size_px, face_db, crop_db = portraits.size_px, [], []
    found: list[tuple[Points, Points]] = []
    best: list[tuple[Points, Points]] = []
    for photograph, picture in zip(photographs, plain, strict=True):
        original = shrunk(photograph.pixels, size_px)
        face = hull_distance(photograph.points, size_px) >= 0
        face_db.append(decibels(original, picture, face))
        crop_db.append(decibels(original, picture))
        for pixels, pairs in ((picture, found), (original, best)):
            points = find(pixels)
            if points is not None:
                pairs.append((photograph.points, points))
    off = [float(100 * np.hypot(*(a - b).T).mean()) for a, b in found]
    return {
        "photographs": len(photographs),
        "reconstruction: faces found, %": 100 * len(found) / len(photographs),
        "reconstruction: landmarks off, %": float(np.mean(off)) if off else math.nan,
        "reconstruction: PSNR of the face, dB": float(np.mean(face_db)),
        "reconstruction: PSNR of the crop, dB": float(np.mean(crop_db)),
        "reconstruction: yaw, correlation": alike(yaw, found),
        "  the best for yaw": alike(yaw, best),
        "reconstruction: mouth opening, correlation": alike(mouth_opening, found),
        "  the best for mouth opening": alike(mouth_opening, best),
    }


def alike(measure: Callable[[Points], float], pairs: Sequence[tuple[Points, Points]]) -> float:
    """Correlation of what is measured on the first and on the second of each pair."""
    sides = zip(*pairs, strict=True) if pairs else ((), ())
    ours, theirs = (np.array([measure(points) for points in side]) for side in sides)
    return correlation(ours, theirs) if pairs else math.nan


# ── a style ──────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What a style makes of the photographs: (E, N, S, S, 3), E exemplars of N photographs."""

    default: Pixels
    halved: Pixels
    """At --structure 0.5."""
    exemplars: tuple[Pixels, ...]
    """Their pictures."""


def draw_style(
    portraits: Portraits,
    style: Style,
    codes: torch.Tensor,
    numbers: Sequence[int],
    root: Path | None,
) -> Drawn:
    """All photographs after these exemplars."""
    default: list[Pixels] = []
    halved: list[Pixels] = []
    for number in numbers:
        exstyle = style.default[number]
        for drawn, structure in ((default, None), (halved, 0.5)):
            weights = pick_weights(portraits.layout, structure=structure)
            drawn.append(draw_look(portraits, Look(exstyle=exstyle, weights=weights), codes))
    if root is None:
        exemplars = tuple(redrawn(portraits, style.exstyle[list(numbers)]))
    else:
        exemplars = tuple(exemplar_picture(root, style, n, portraits.size_px) for n in numbers)
    return Drawn(np.stack(default), np.stack(halved), exemplars)


@torch.inference_mode()
def redrawn(portraits: Portraits, exstyle: torch.Tensor) -> Pixels:
    """(N, S, S, 3): what the base makes of the codes (N, L, D) of exemplars, which are z+."""
    network, bound = portraits.generator.generator, portraits.bound(None)
    codes = exstyle.to(portraits.device)
    return in_batches(lambda part: to_pixels(bound(network.map_plus(part))), codes)


def draw_look(portraits: Portraits, look: Look, codes: torch.Tensor) -> Pixels:
    """(N, S, S, 3). With networks of its own: one value keeps all looks that it has drawn."""
    once = Portraits(
        generator=portraits.generator,
        encoder=portraits.encoder,
        device=portraits.device,
        dtype=portraits.dtype,
        size=portraits.size,
    )
    return in_batches(lambda part: once.draw(part, look), codes)


def exemplar_picture(root: Path, style: Style, number: int, size_px: int) -> Pixels:
    """The picture an exemplar was made from."""
    name = style.names[number]
    folders = [folder for folder in (root / style.name, root) if folder.is_dir()]
    for folder in folders:
        for path in (folder / name, *sorted(folder.glob(f"{Path(name).stem}.*"))):
            if path.is_file():
                return crop_whole(read_image(path), size_px).pixels
    raise UsageError(f"no picture of the exemplar {name!r} of {style.name} in {root}")


def judge_style(
    portraits: Portraits,
    photographs: Sequence[Photograph],
    codes: torch.Tensor,
    drawn: Drawn,
    exstyle: torch.Tensor,
    find: Find,
) -> dict[str, float]:
    """How well faces survive, and how much of the exemplar shows."""
    flat = drawn.default.reshape(-1, *drawn.default.shape[2:])
    seen = [find(picture) is not None for picture in flat]
    off, lost = [], 0
    for pictures in drawn.halved:
        for photograph, picture in zip(photographs, pictures, strict=True):
            points = find(picture)
            if points is None:
                lost += 1
            else:
                off.append(features_off(photograph.points, points))
    tried = len(off) + lost
    return {
        "default weights: faces found, %": 100 * float(np.mean(seen)),
        "structure 0.5: faces found, %": 100 * len(off) / tried,
        "structure 0.5: eyes and mouth off, %": float(np.mean(off)) if off else math.nan,
        "  of nineteen in twenty at most": float(np.quantile(off, 0.95)) if off else math.nan,
        f"  outputs within {NEAR:g} %, %": 100 * sum(d <= NEAR for d in off) / tried,
        **follow_color(drawn),
        **differ(drawn.default),
        "weights 0 against plain, levels of 255": off_against_plain(portraits, codes, exstyle),
    }


def follow_color(drawn: Drawn) -> dict[str, float]:
    """Mean color of outputs, over photographs, against that of the exemplars. The one figure takes
    the three channels together, each about its own mean, so that those that vary count."""
    ours = np.array([mean_lab(list(pictures)) for pictures in drawn.default])
    theirs = np.array([mean_lab([picture]) for picture in drawn.exemplars])
    channels = {f"  {name}": correlation(ours[:, i], theirs[:, i]) for i, name in enumerate("Lab")}
    return {"color against the exemplar's, correlation": correlation(ours, theirs), **channels}


def off_against_plain(portraits: Portraits, codes: torch.Tensor, exstyle: torch.Tensor) -> float:
    """Largest difference of --structure 0 --color 0 to the extrinsic path off."""
    weights = pick_weights(portraits.layout, structure=0.0, color=0.0)
    look = Look(exstyle=exstyle, weights=weights)
    off = draw_look(portraits, look, codes[:BATCH]).astype(np.int16)
    return float(np.abs(off - portraits.draw_plain(codes[:BATCH], look.truncation)).max())


def sheet_of(portraits: Portraits, codes: torch.Tensor, drawn: Drawn) -> Pixels:
    """A row a person: the plain reconstruction, then one portrait an exemplar."""
    plain = portraits.draw_plain(codes[:SHOWN])
    rows = [[picture, *drawn.default[:, row]] for row, picture in enumerate(plain)]
    return make_sheet([cell for row in rows for cell in row], columns=len(rows[0]))


# ── the report ───────────────────────────────────────────────────────────────────────────────────


def bare_base(options: argparse.Namespace, store: ModelStore) -> Portraits:
    """A base and its encoder without a style, finished or in training."""
    if options.checkpoint:
        generator, encoder = in_training(options.checkpoint)
    else:
        generator, encoder = store.plain_generator(options.base), load_encoder(options.encoder)
    dual = DualStyleGAN.of(DualConfig(generator=generator.config))
    dual.generator.load_state_dict(generator.state_dict())
    dtype = pick_precision(options.precision, torch.device("cpu"))
    return Portraits(generator=dual, encoder=encoder, dtype=dtype)


def in_training(checkpoint: Path) -> tuple[Generator, Encoder]:
    """The averages of a base that grows as an autoencoder; without its prior, which random codes
    alone need."""
    model = read_recipe(checkpoint.parents[2] / "recipe.toml").model
    tensors = load_file(checkpoint)

    def part(name: str) -> dict[str, torch.Tensor]:
        start = f"modules/{name}/"
        own = {key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)}
        return {key: value for key, value in own.items() if not key.startswith("prior.")}

    size_px = int(checkpoint.stem.split(".")[0].rpartition("-")[2].removesuffix("px"))
    generator, encoder = Generator(generator_config(model, size_px)), Encoder(encoder_config(model))
    generator.load_state_dict(part("g_ema"))
    encoder.load_state_dict(part("e_ema"))
    return generator, encoder


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """By what was measured: a style, or the base alone."""
    store, paths = ModelStore.open(options.pretrained), pictures_of(options.photos)
    if options.held_out:
        paths += held_out(options.held_out, options.folder)
    paths = paths[: options.limit]
    first = store.roots[0]
    own = [s.qualified for s in store.styles() if s.root == first and not s.problem]
    alone = options.base or options.checkpoint
    names = options.style or ([] if alone else own)
    if not names and not alone:
        raise UsageError(f"no style in {first.path}; name one, or --base and --encoder")
    report: dict[str, dict[str, float]] = {}
    with open_detector(task_file=store.face_landmarker()) as detector:
        find = finder(detector)
        if alone:
            networks = bare_base(options, store)
            photographs = read_photographs(
                paths, max(networks.crop_px, LOOK_PX), store, options.aligned, find
            )
            codes = encode(networks, photographs)
            report["base"] = judge_base(networks, photographs, codes, find)
        for name in names:
            report[name] = measure_style(store, name, paths, find, options)
    return report


def measure_style(
    store: ModelStore, name: str, paths: Sequence[Path], find: Find, options: argparse.Namespace
) -> dict[str, float]:
    """All figures of a style, its base's included."""
    portraits, style = load_portraits(store, name, precision=options.precision), store.style(name)
    photographs = read_photographs(
        paths, max(portraits.crop_px, LOOK_PX), store, options.aligned, find
    )
    codes = encode(portraits, photographs)
    count = min(options.per_style, len(style.names))
    numbers = np.linspace(0, len(style.names) - 1, count).round().astype(int).tolist()
    drawn = draw_style(portraits, style, codes, numbers, options.exemplars)
    if options.sheets:
        options.sheets.mkdir(parents=True, exist_ok=True)
        sheet = sheet_of(portraits, codes, drawn)
        write_image(options.sheets / f"{style.name}.jpg", sheet, overwrite=True)
    exstyle = style.default[numbers[0]]
    return {
        **judge_base(portraits, photographs, codes, find),
        "exemplars": count,
        **judge_style(portraits, photographs, codes, drawn, exstyle, find),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="*", help="pictures, or folders of such")
    parser.add_argument("--held-out", type=Path, help="a training run, for what it kept out")
    parser.add_argument("--folder", default="", help="with --held-out: of this folder of its data")
    parser.add_argument("--pretrained", type=Path, help="folder of models")
    parser.add_argument("--style", action="append", help="may be given several times")
    parser.add_argument("--base", help="a generator alone: its name or file")
    parser.add_argument("--encoder", type=Path, help="with --base: the encoder's file")
    parser.add_argument("--checkpoint", type=Path, help="a base in training, in its run's folder")
    parser.add_argument("--exemplars", type=Path, help="folder with the exemplars' pictures")
    parser.add_argument("--per-style", type=int, default=8, help="exemplars to draw with")
    parser.add_argument("--limit", type=int, help="at most this many photographs")
    parser.add_argument("--aligned", choices=("auto", "yes", "no"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    parser.add_argument("--sheets", type=Path, help="write a picture a style into this folder")
    options = parser.parse_args()
    if not options.photos and not options.held_out:
        parser.error("name photographs, or --held-out")
    if (options.base is None) != (options.encoder is None):
        parser.error("--base and --encoder go together")
    return options


def main() -> None:
    options = parse()
    report = measure(options)
    text = table(report)
    print(text)
    if options.markdown:
        options.markdown.write_text(f"# Quality\n\n{text}\n", "utf-8")
    if options.json:
        known = {
            name: {key.strip(): value if math.isfinite(value) else None for key, value in f.items()}
            for name, f in report.items()
        }
        options.json.write_text(json.dumps(known, indent=1), "utf-8")


if __name__ == "__main__":
    main()
