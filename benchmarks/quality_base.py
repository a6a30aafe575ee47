"""How alike the plain reconstructions of a base are, on photographs that it has never seen.

    python benchmarks/quality_base.py PHOTOS... [--held-out RUN [--folder base/photos]]
                                      [--pretrained DIR]
                                      [--base NAME --encoder FILE | --checkpoint FILE]
                                      [--json FILE] [--markdown FILE]

PHOTOS are pictures, or folders of such; --held-out RUN --folder base/photos adds those of a
training run's data that were kept out. Without --base, the base of the first DualStyleGAN style of
the store is measured; with --checkpoint RUN/base/checkpoints/base-2-128px.safetensors, one in
training, which has RUN/recipe.toml.

Everything is measured on aligned crops, lengths in percent of the crop's width. Landmarks are
MediaPipe's, found in the whole crop and in the whole output in the same way, both at 256 px or
more. Yaw is where the tip of the nose lies between the sides of the face, mouth opening the
distance of the inner lips in face widths: both follow the pose, neither is an angle. "The best" is
what a perfect reconstruction of the model's size would get: the photograph, shrunk.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from quality_figures import correlation, decibels, mouth_opening, table, yaw
from quality_photos import LOOK_PX, Find, Photograph, finder, pictures_of, read_photographs
from safetensors.torch import load_file

from dsgcli.errors import UsageError
from dsgcli.faces.detect import open_detector
from dsgcli.faces.masks import hull_distance
from dsgcli.models.dualstylegan import DualConfig, DualStyleGAN
from dsgcli.models.encoder import Encoder
from dsgcli.models.stylegan2 import Generator
from dsgcli.portraits import Portraits, area_resize, load_portraits, to_images, to_pixels
from dsgcli.recipe import read_recipe
from dsgcli.store import ModelStore
from dsgcli.store.networks import load_encoder
from dsgcli.training.prepare import is_held_out, list_set
from dsgcli.training.stages.base import encoder_config, generator_config

if TYPE_CHECKING:
    from dsgcli.types import Pixels, Points

BATCH = 8


def judge_base(
    portraits: Portraits, photographs: Sequence[Photograph], find: Find
) -> dict[str, float]:
    """How alike the plain reconstructions are."""
    size_px, face_db, crop_db = portraits.size_px, [], []
    found: list[tuple[Points, Points]] = []
    best: list[tuple[Points, Points]] = []
    for photograph, picture in zip(photographs, redrawn(portraits, photographs), strict=True):
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


def redrawn(portraits: Portraits, photographs: Sequence[Photograph]) -> Pixels:
    """(N, S, S, 3)."""
    parts = [photographs[start : start + BATCH] for start in range(0, len(photographs), BATCH)]
    drawn = [portraits.draw_plain(portraits.encode([p.pixels for p in part])) for part in parts]
    return np.concatenate(drawn)


def shrunk(pixels: Pixels, size_px: int) -> Pixels:
    """As large as the model draws."""
    small: Pixels = to_pixels(area_resize(to_images([pixels], torch.device("cpu")), size_px))[0]
    return small


def alike(measure: Callable[[Points], float], pairs: Sequence[tuple[Points, Points]]) -> float:
    """Correlation of what is measured on the first and on the second of each pair."""
    sides = zip(*pairs, strict=True) if pairs else ((), ())
    ours, theirs = (np.array([measure(points) for points in side]) for side in sides)
    return correlation(ours, theirs) if pairs else math.nan


# ── which base ───────────────────────────────────────────────────────────────────────────────────


def open_base(options: argparse.Namespace, store: ModelStore) -> Portraits:
    """A base and its encoder, of a style, alone, or in training."""
    if options.base:
        generator, encoder = store.plain_generator(options.base), load_encoder(options.encoder)
    elif options.checkpoint:
        generator, encoder = in_training(options.checkpoint)
    else:
        usable = [s for s in store.styles() if not (s.of_translator or s.problem)]
        if not usable:
            raise UsageError("no DualStyleGAN style is here; name a --base with its --encoder")
        return load_portraits(store, usable[0].qualified)
    dual = DualStyleGAN.of(DualConfig(generator=generator.config))
    dual.generator.load_state_dict(generator.state_dict())
    return Portraits(generator=dual, encoder=encoder)


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


def held_out(run: Path, folder: str) -> list[Path]:
    """The portraits of a run that training never saw, of one folder of its data."""
    data = read_recipe(run / "recipe.toml").data
    listed = list_set(Path(data.root), data, "base")
    ours = [item for item in listed if item.name.startswith(folder)]
    return [item.path for item in ours if is_held_out(item.name, data.holdout)]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("photos", type=Path, nargs="*", help="pictures, or folders of such")
    parser.add_argument("--held-out", type=Path, help="a training run, for what it kept out")
    parser.add_argument("--folder", default="", help="with --held-out: of this folder of its data")
    parser.add_argument("--pretrained", type=Path, help="folder of models")
    parser.add_argument("--base", help="a generator alone: its name or file")
    parser.add_argument("--encoder", type=Path, help="with --base: the encoder's file")
    parser.add_argument("--checkpoint", type=Path, help="a base in training, in its run's folder")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--markdown", type=Path, help="write the table here")
    options = parser.parse_args()
    if not options.photos and not options.held_out:
        parser.error("name photographs, or --held-out")
    if (options.base is None) != (options.encoder is None):
        parser.error("--base and --encoder go together")
    return options


def main() -> None:
    options = parse()
    store = ModelStore.open(options.pretrained)
    paths = pictures_of(options.photos) if options.photos else []
    if options.held_out:
        paths += held_out(options.held_out, options.folder)
    networks = open_base(options, store)
    with open_detector(task_file=store.face_landmarker()) as detector:
        find = finder(detector)
        photographs = read_photographs(paths, max(networks.crop_px, LOOK_PX), store, find)
        report = {"base": judge_base(networks, photographs, find)}
    text = table(report)
    print(text)
    if options.markdown:
        options.markdown.write_text(f"# Quality\n\n{text}\n", "utf-8")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1), "utf-8")


if __name__ == "__main__":
    main()
