"""A ComfyUI node that redraws the faces of pictures in the style of an exemplar.

Copy this folder to `ComfyUI/custom_nodes/dsg`, install dsgcli into ComfyUI's Python
(`pip install dsgcli`), and start ComfyUI again. The node is in the menu under `image/stylize`.

ComfyUI hands pictures over as tensors (B, H, W, C), float32 from 0 to 1, RGB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dsgcli import ModelStore, Stylizer
from dsgcli.errors import NoFaceError


class DsgStylize:
    """Picture batch, style and strength in; picture batch of the same size out."""

    CATEGORY = "image/stylize"
    DESCRIPTION = "Redraws every face in the style of an exemplar."
    FUNCTION = "draw"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)

    def __init__(self) -> None:
        self._stylizer: Stylizer | None = None
        self._settings: tuple[str, float] | None = None

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, tuple[Any, ...]]]:  # noqa: N802 (ComfyUI's name)
        """Inputs of the node; ComfyUI asks each time it builds its menus."""
        styles = [style.name for style in ModelStore.open().styles()]
        return {
            "required": {
                "image": ("IMAGE",),
                "style": (styles,),
                "exemplar": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Number or name of an exemplar; empty is the first.",
                    },
                ),
                "strength": (
                    "FLOAT",
                    {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.05, "display": "slider"},
                ),
                "video": (
                    "BOOLEAN",
                    {
                        "default": False,
                        "tooltip": "The batch is one video: steady faces over time.",
                    },
                ),
            },
            "optional": {
                "frame_rate": ("FLOAT", {"default": 25.0, "min": 1.0, "max": 240.0}),
            },
        }

    def draw(
        self,
        image: torch.Tensor,
        style: str,
        exemplar: str = "",
        strength: float = 1.0,
        video: bool = False,
        frame_rate: float = 25.0,
    ) -> tuple[torch.Tensor]:
        """The batch (B, H, W, 3) with its faces redrawn; pictures without a face are kept."""
        name = f"{style}:{exemplar.strip()}" if exemplar.strip() else style
        stylizer = self._open(name, float(strength))
        pixels = image[..., :3].mul(255.0).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        frames = [np.ascontiguousarray(frame) for frame in pixels]  # (H, W, 3) each
        bar = _progress(len(frames))
        drawn = []
        for result in stylizer.stream(frames, frame_rate) if video else _each(stylizer, frames):
            drawn.append(torch.from_numpy(result))
            bar.update(1)
        return (torch.stack(drawn).float().div_(255.0),)

    def _open(self, name: str, strength: float) -> Stylizer:
        """The networks of a style; they stay loaded until the style or its strength changes."""
        if self._stylizer is None or self._settings != (name, strength):
            if self._stylizer is not None:
                self._stylizer.close()
            self._stylizer, self._settings = None, None  # should loading fail
            self._stylizer = Stylizer(name, strength=strength)
            self._settings = name, strength
        return self._stylizer


def _each(stylizer: Stylizer, frames: list[np.ndarray]) -> Any:
    """The pictures one by one, unrelated to each other."""
    for frame in frames:
        try:
            yield stylizer(frame)
        except NoFaceError:
            yield frame


def _progress(total: int) -> Any:
    """ComfyUI's progress bar on the node."""
    from comfy.utils import ProgressBar

    return ProgressBar(total)


NODE_CLASS_MAPPINGS = {"DsgStylize": DsgStylize}
NODE_DISPLAY_NAME_MAPPINGS = {"DsgStylize": "Stylize faces (dsg)"}
