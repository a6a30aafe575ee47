"""Damaged and hostile files, from a fixed seed: does anything that reads a stranger's file end in a
traceback, hang, or leave something behind?

    python benchmarks/mutations.py               1,000 files
    python benchmarks/mutations.py --count 60    fewer
    python benchmarks/mutations.py --only models,codes

Each input is a good file of its kind in which bytes were changed, cut, doubled or exchanged, or a
text in which values were replaced by absurd ones. It is read as the commands read it. Reading may
succeed, or end in a `DsgError`; anything else is printed with the number of the input.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import struct
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1] / "tests")  # whose `media` is not the one beside this

LIMIT_S = 60
"""Longest time for one input; more counts as a hang."""
ABSURD = (
    *("0", "-1", "1e999", "nan", "inf", "99999999999999999999", "9" * 5000, "0x" + "f" * 5000),
    *(
        "true",
        '""',
        '"\\u001b[2J"',
        '"../../x"',
        "[]",
        "{}",
        "[[" * 2000,
        "1979-05-27",
        '"\\u202e"',
    ),
)
"""Values that replace those of a text."""

ABSURD_JSON: tuple[object, ...] = (
    *(None, -1, 0, 1, 10**9, 10**30, 1.5, float("inf"), float("nan"), "", "../x", [], {}),
    *([1], ["a", "a"], [10**9] * 4, "\x1b[2J", "x" * 70000, True, {"a": {}}, [[]]),
)

Reader = Callable[[Path], object]


def main() -> int:
    """Make and read the files; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="kinds, separated by commas")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder), given.count, given.seed, given.only)


def run(folder: Path, count: int, seed: int, only: str = "") -> int:
    """Read `count` files in a folder of one's own."""
    kinds = [kind for kind in kinds_in(folder) if not only or kind[0] in only.split(",")]
    outcomes: Counter[str] = Counter()
    failed = 0
    for number in range(count):
        name, good, read = kinds[number % len(kinds)]
        rng = random.Random(f"{seed}/{number}")
        path = folder / "input" / good.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(mutated(good.read_bytes(), good.suffix, rng))
        outcome = attempt(path, read)
        left = [item for item in path.parent.iterdir() if item != path]
        if left or outcome.startswith("failed"):
            failed += 1
            print(f"{name} {number}: {outcome} {[item.name for item in left]}", flush=True)
            kept = Path(tempfile.gettempdir()) / f"mutation-{number}{good.suffix}"
            kept.write_bytes(path.read_bytes())
        path.unlink(missing_ok=True)
        outcomes[f"{name}: {outcome.partition(' ')[0]}"] += 1
    for outcome, times in sorted(outcomes.items()):
        print(f"{times:5d}  {outcome}")
    print(f"{failed} of {count} failed")
    return int(failed > 0)


def attempt(path: Path, read: Reader) -> str:
    """What became of reading one file: "read", "refused" or "failed", and why."""
    from dsgcli.errors import DsgError

    def hangs(*_: object) -> None:
        raise TimeoutError(f"more than {LIMIT_S} s")

    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, hangs)
        signal.alarm(LIMIT_S)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            read(path)
    except DsgError as error:
        text = str(error)
        return "failed control characters in a message" if "\x1b" in text else f"refused {text}"
    except BaseException:
        return "failed " + traceback.format_exc()
    finally:
        if hasattr(signal, "SIGALRM"):
            signal.alarm(0)
    return "read"


# ── what is changed ──────────────────────────────────────────────────────────────────────────────


def mutated(data: bytes, suffix: str, rng: random.Random) -> bytes:
    """The file with one to three changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if suffix == ".toml" or suffix == ".svg":
            data = changed_text(data, rng)
        elif suffix == ".safetensors" and rng.random() < 0.9:
            data = changed_header(data, rng)
        else:
            data = changed_bytes(data, rng)
    return data


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut, doubled, zeroed or exchanged; mostly near the head, where sizes are."""
    if not data:
        return b"\0"
    head = min(len(data), 600)
    at = rng.randrange(head) if rng.random() < 0.7 else rng.randrange(len(data))
    length = min(len(data) - at, rng.choice((1, 1, 2, 4, 8, 64, 4096)))
    match rng.randrange(6):
        case 0:
            return data[:at] + rng.randbytes(length) + data[at + length :]
        case 1:
            return data[: max(1, at)]
        case 2:
            return data[:at] + data[at : at + length] * 2 + data[at + length :]
        case 3:
            return data[:at] + rng.choice((b"\0", b"\xff")) * length + data[at + length :]
        case 4:
            return data[:at] + data[at + length :]
        case _:
            word = struct.pack(rng.choice("<>") + "I", rng.choice((0, 1, 2**31 - 1, 2**32 - 1)))
            return data[:at] + word + data[at + 4 :]


def changed_text(data: bytes, rng: random.Random) -> bytes:
    """A value of a line replaced, or a line doubled, or bytes changed."""
    lines = data.decode("utf-8", "replace").splitlines()
    with_value = [number for number, line in enumerate(lines) if "=" in line]
    if not with_value or rng.random() < 0.2:
        return changed_bytes(data, rng)
    number = rng.choice(with_value)
    key = lines[number].partition("=")[0]
    lines[number] = f"{key}= {rng.choice(ABSURD)}" if rng.random() < 0.9 else lines[number] * 2
    return "\n".join(lines).encode()


def changed_header(data: bytes, rng: random.Random) -> bytes:
    """One value in the JSON of a safetensors file replaced: the table's, or the description's."""
    length = int.from_bytes(data[:8], "little")
    try:
        table = json.loads(data[8 : 8 + length])
        inner = json.loads(table["__metadata__"]["dsg"])
    except (ValueError, KeyError, TypeError):
        return changed_bytes(data, rng)
    if rng.random() < 0.7 and isinstance(inner, dict):
        replace_one(inner, rng)
        table["__metadata__"]["dsg"] = json.dumps(inner)
    else:
        replace_one(table, rng)
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def replace_one(value: dict, rng: random.Random) -> None:
    """Replace, drop or rename one entry, at any depth."""
    key = rng.choice(list(value)) if value else "x"
    inner = value.get(key)
    if isinstance(inner, dict) and inner and rng.random() < 0.75:
        replace_one(inner, rng)
        return
    match rng.randrange(8):
        case 0:
            value.pop(key, None)
        case 1:
            value[str(key) + rng.choice(("/", "\x1b[31m", "x" * 300, "\u202e"))] = value.pop(key, 0)
        case _:
            value[key] = rng.choice(ABSURD_JSON)


# ── what is read, and how ────────────────────────────────────────────────────────────────────────


def kinds_in(folder: Path) -> list[tuple[str, Path, Reader]]:
    """Name, a good file, and how a command reads it."""
    from small_models import save_npy, small_codes, small_dual
    from tiny_store import write_tiny_store

    default = write_tiny_store(folder / "pretrained") / "default"
    codes = small_codes("a.png", "b.png")
    good = folder / "good"
    npy = save_npy(good / "exstyle_code.npy", codes.names, codes.exstyle)
    import torch

    torch.save({"g_ema": small_dual().state_dict()}, good / "generator.pt")
    kinds: list[tuple[str, Path, Reader]] = [
        *(("models", default / f"{name}.safetensors", read_model) for name in ("toon", "base")),
        ("models", default / "encoder.safetensors", read_model),
        ("codes", npy, read_code),
        ("checkpoints", good / "generator.pt", read_model),
        *(("recipes", path, read_recipe_file) for path in recipes(good)),
        ("settings", settings_file(good), read_settings_file),
        *(("pictures", path, read_picture) for path in pictures(good)),
        *(("videos", path, read_video) for path in videos(good)),
    ]
    return kinds


def read_model(path: Path) -> None:
    """As `dsg models verify`, `show` and `styles show` do."""
    from dsgcli.errors import ModelCorruptError
    from dsgcli.store import ModelStore
    from dsgcli.store.catalog import own_file
    from dsgcli.store.contents import open_model
    from dsgcli.store.convert import ImportOptions, described, import_models
    from dsgcli.store.places import Root
    from dsgcli.store.verify import verify

    good = path.parent.parent / "pretrained"
    if path.suffix == ".safetensors":
        known = ModelStore.open(good).models()
        problem = verify([own_file(path, Root(path.parent, ""), "")], known)[0].problem
        if not problem and path.stem == "toon":
            ModelStore.open(good).generator(str(path))
        home = path.parent.parent / "home"
        before = sorted(p for p in path.parent.parent.iterdir())
        home.mkdir(exist_ok=True)
        import_models(path, ImportOptions(target=home, overwrite=True))
        outside = set(path.parent.parent.iterdir()) - {*before, home}
        assert not outside, f"wrote outside of its folder: {outside}"
        if problem:
            raise ModelCorruptError(problem)
    else:
        model = open_model(path)
        described(model.header)
        for part in model.parts:
            model.part(part)


def read_code(path: Path) -> None:
    """As a style in the published layout."""
    from dsgcli.store.codes import join_codes
    from dsgcli.store.unpickle import read_code_names

    read_code_names(path)
    join_codes({"exstyle": path})


def read_recipe_file(path: Path) -> None:
    """As `dsg train --dry-run` begins."""
    from dsgcli.recipe import read_recipe, recipe_values, write_toml

    write_toml(recipe_values(read_recipe(path)))


def read_settings_file(path: Path) -> None:
    """As every command does at its start."""
    from dsgcli.cli.settings import read_settings

    flags = {("stylize",): {"crf": False, "style": True, "device": False}}
    settings = read_settings(flags, {"DSG_HOME": str(path.parent / "none")}, path.parent)
    settings.default_map(flags)
    settings.check()


def read_picture(path: Path) -> None:
    """As a photograph to draw."""
    from dsgcli.media.read import open_source, read_metadata

    read_metadata(path)
    with open_source(path) as source:
        for number, _ in enumerate(source):
            if number > 50:
                break


def read_video(path: Path) -> None:
    """As a video to draw, to its end."""
    read_picture(path)


def recipes(folder: Path) -> list[Path]:
    """A recipe with every stage."""
    source = Path(__file__).parents[1] / "recipes"
    made = []
    for name in ("tiny.toml", "mystyle.toml"):
        if (found := next(source.rglob(name), None)) is not None:
            made.append(folder / name)
            made[-1].write_bytes(found.read_bytes())
    return made


def settings_file(folder: Path) -> Path:
    """A `dsg.toml`."""
    path = folder / "dsg.toml"
    path.write_text('device = "cpu"\n[stylize]\ncrf = 17\nstyle = ["noir", "neon:3"]\n', "utf-8")
    return path


def pictures(folder: Path) -> list[Path]:
    """A small picture in each format."""
    import numpy as np
    from PIL import Image

    y, x = np.mgrid[0:48, 0:64]
    image = Image.fromarray(np.stack([4 * x, 5 * y, x + y], -1).astype(np.uint8))
    made = []
    for name in ("a.png", "a.jpg", "a.webp", "a.bmp", "a.tif", "a.gif", "a.ppm"):
        image.save(folder / name)
        made.append(folder / name)
    frames = [image, image.rotate(90), image.rotate(180)]
    frames[0].save(folder / "b.gif", save_all=True, append_images=frames[1:], duration=40)
    frames[0].save(folder / "b.webp", save_all=True, append_images=frames[1:], duration=40)
    return [*made, folder / "b.gif", folder / "b.webp"]


def videos(folder: Path) -> list[Path]:
    """A small video in each container."""
    from media.clips import write_clip

    made = []
    for name, options in (
        ("a.mp4", {"pix_fmt": "yuv420p"}),
        ("a.mkv", {"pix_fmt": "yuv420p", "audio": ["libopus"]}),
        ("a.avi", {"codec": "mpeg4", "pix_fmt": "yuv420p"}),
        ("a.webm", {"codec": "libvpx-vp9", "pix_fmt": "yuv420p"}),
        ("a.ts", {"pix_fmt": "yuv420p"}),
    ):
        made.append(write_clip(folder / name, **options))
    return made


if __name__ == "__main__":
    sys.exit(main())
