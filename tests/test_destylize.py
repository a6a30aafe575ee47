"""Destylizing pictures: what is written, and that a portrait does not depend on its neighbors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_store import write_tiny_store

from dsgcli.errors import OutputExistsError, SourceMissingError
from dsgcli.generate.destylize import CODES, DestylizeOptions, destylize, middle_square
from dsgcli.media.images import read_image
from dsgcli.progress import NULL_PROGRESS
from dsgcli.training.stages.codes import read_part


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, size in {"a": (64, 64), "b": (80, 64), "c": (64, 90)}.items():
        pixels = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return tmp_path


def options(source: Path, pretrained: Path, **values: object) -> DestylizeOptions:
    made = DestylizeOptions(
        source=source, style="toon", pretrained=pretrained, device="cpu", steps=3
    )
    return replace(made, **values)


def test_one_portrait_gives_the_recovered_photograph(folder: Path, pretrained: Path) -> None:
    done = destylize(options(folder / "a.png", pretrained))
    assert read_image(Path(done["output"])).size_px == (64, 64)
    again = destylize(options(folder / "a.png", pretrained))
    assert again["output"] == str(folder / "a_recovered-2.png")
    (folder / "mine.png").write_bytes((folder / "b.png").read_bytes())
    with pytest.raises(OutputExistsError):
        destylize(options(folder / "a.png", pretrained, output=folder / "mine.png"))


def test_a_style_without_a_finetuned_generator_is_fitted_by_its_own_network(
    folder: Path, pretrained: Path
) -> None:
    """As the shipped neon-dual; the tiny store has the generator of one style only."""
    notes = []

    class Listener(type(NULL_PROGRESS)):
        def note(self, text: str) -> None:
            notes.append(text)

    made = options(folder / "a.png", pretrained, style="ink", output=folder / "out.png")
    done = destylize(made, Listener())
    assert read_image(Path(done["output"])).size_px == (64, 64)
    assert "without a fine-tuned generator" in notes[0]


def test_folder_gives_codes_that_do_not_depend_on_the_batch(folder: Path, pretrained: Path) -> None:
    found = []
    for batch in (1, 3):
        output = folder / f"out{batch}"
        destylize(options(folder, pretrained, output=output, batch_size=batch))
        assert len(list((output / "sheets").iterdir())) == 3
        found.append(read_part(output / CODES))
    one, three = found
    assert one.names == three.names == ("a", "b", "c")
    torch.testing.assert_close(one.exstyle, three.exstyle, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.instyle, three.instyle, atol=2e-2, rtol=2e-2)


def test_missing_pictures_are_told(tmp_path: Path, pretrained: Path) -> None:
    with pytest.raises(SourceMissingError, match="no picture in"):
        destylize(options(tmp_path, pretrained))
    with pytest.raises(SourceMissingError, match="no picture and no folder"):
        destylize(options(tmp_path / "none", pretrained))


def test_middle_square_keeps_the_middle() -> None:
    pixels = np.arange(5 * 3 * 3, dtype=np.uint8).reshape(5, 3, 3)
    np.testing.assert_array_equal(middle_square(pixels), pixels[1:4])
