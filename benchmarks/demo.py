"""`make demo`: the main job, for real, with nothing but this checkout.

Draws a short clip of two people who never lived, and stylizes it with `dsg stylize`: faces are
found, followed, encoded, drawn anew and pasted back, and the video is written. With the model that
is shipped with dsg if there is one; else with one of random weights, which paints stains.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

from dsgcli.__main__ import main
from dsgcli.errors import ModelError
from dsgcli.media.sinks import SinkOptions, open_sink
from dsgcli.store import ModelStore
from dsgcli.training.drawn_clip import draw_clip

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "demo"
NUM_FRAMES, WIDTH, HEIGHT = 72, 640, 360


def write_clip(path: Path) -> None:
    """Three seconds of two drawn people who pass each other."""
    with open_sink(path, SinkOptions(overwrite=True)) as sink:
        for frame in draw_clip(NUM_FRAMES, WIDTH, HEIGHT, faces=2, seed=4):
            sink.write(frame)


def has_default_model() -> bool:
    """Whether a model is shipped in this checkout or already on this machine."""
    with contextlib.suppress(ModelError):
        return ModelStore.open().info("default") is not None
    return False


def run_demo() -> int:
    """Returns the exit code of `dsg stylize`."""
    source, target = FOLDER / "people.mp4", FOLDER / "people_stylized.mp4"
    FOLDER.mkdir(exist_ok=True)
    print(f"Drawing {NUM_FRAMES} frames of two people who never lived: {source}")
    write_clip(source)
    command = ["stylize", str(source), "-o", str(target), "--overwrite"]
    with tempfile.TemporaryDirectory() as models:
        if not has_default_model():
            print(
                "No model is shipped yet, so this demo makes a tiny one of RANDOM weights: "
                "everything runs as it would, but faces become stains."
            )
            sys.path.insert(0, str(ROOT / "tests"))  # where the tests' tiny models are made
            from tiny_store import write_tiny_store

            command += ["--pretrained", str(write_tiny_store(Path(models)))]
        print("$ dsg " + " ".join(command))
        code = main(command)
    if code == 0:
        print(f"\nLook at {target}, beside {source.name}.")
    return code


if __name__ == "__main__":
    sys.exit(run_demo())
