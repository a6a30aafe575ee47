"""The ComfyUI node, with the host's interface as its documentation gives it: a class with
INPUT_TYPES, RETURN_TYPES and FUNCTION in NODE_CLASS_MAPPINGS, pictures (B, H, W, C) from 0 to 1,
and `comfy.utils.ProgressBar`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import numpy as np
import pytest
import torch

from dsgcli.training.drawn import draw_portrait

NODE = Path(__file__).parents[1] / "integrations" / "comfyui" / "__init__.py"


class ProgressBar:
    """The host's: `ProgressBar(total)`, `update(steps)`."""

    made: ClassVar[list] = []

    def __init__(self, total):
        self.total, self.done = total, 0
        self.made.append(self)

    def update(self, steps):
        self.done += steps


@pytest.fixture
def node(only_tiny_store, monkeypatch):
    """The node as the host makes it: the module is imported, its class is called once."""
    host, utils = ModuleType("comfy"), ModuleType("comfy.utils")
    utils.ProgressBar, host.utils = ProgressBar, utils
    monkeypatch.setitem(sys.modules, "comfy", host)
    monkeypatch.setitem(sys.modules, "comfy.utils", utils)
    monkeypatch.setattr(ProgressBar, "made", [])
    spec = importlib.util.spec_from_file_location("dsg_comfyui", NODE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.NODE_CLASS_MAPPINGS.keys() == module.NODE_DISPLAY_NAME_MAPPINGS.keys()
    return module.NODE_CLASS_MAPPINGS["DsgStylize"]()


def run(node, image, **values):
    """What the host does: defaults of the inputs, then the function by its name."""
    inputs = node.INPUT_TYPES()
    given = {
        name: kind[1]["default"]
        for name, kind in {**inputs["required"], **inputs["optional"]}.items()
        if len(kind) > 1
    }
    (drawn,) = getattr(node, node.FUNCTION)(image=image, **{**given, **values})
    return drawn


def batch(count=2):
    """(B, 240, 320, 3): the first picture has a face, and the second has none."""
    pixels = np.full((count, 240, 320, 3), 90, np.uint8)
    pixels[0, 40:200, 80:240] = draw_portrait(3, 160)
    return torch.from_numpy(pixels).float() / 255


def test_node_lists_the_styles_of_the_store(node):
    (styles,) = node.INPUT_TYPES()["required"]["style"]
    assert styles == ["ink", "toon"]
    assert node.RETURN_TYPES == ("IMAGE",)


def test_node_redraws_faces_and_keeps_pictures_without_one(node):
    image = batch()
    drawn = run(node, image, style="toon")
    assert drawn.shape == image.shape and drawn.dtype == torch.float32
    assert drawn.min() >= 0 and drawn.max() <= 1
    assert (drawn[0] - image[0]).abs().max() > 0.1
    assert drawn[1].equal(image[1])
    assert [(bar.total, bar.done) for bar in ProgressBar.made] == [(2, 2)]


def test_node_follows_exemplar_and_strength(node):
    image = batch(1)
    whole, other = run(node, image, style="toon"), run(node, image, style="toon", exemplar="bo")
    faint = run(node, image, style="toon", strength=0.0)
    assert not whole.equal(other) and not whole.equal(faint)


def test_node_draws_a_video_in_order(node):
    image = batch(1).expand(3, -1, -1, -1)
    drawn = run(node, image, style="toon", video=True)
    assert drawn.shape == image.shape and (drawn[2] - image[2]).abs().max() > 0.1


def test_node_tells_of_an_exemplar_that_is_not_there(node):
    with pytest.raises(Exception, match="nobody"):
        run(node, batch(1), style="toon", exemplar="nobody")
    assert run(node, batch(1), style="toon").shape[0] == 1
