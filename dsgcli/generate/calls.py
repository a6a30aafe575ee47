"""Random portraits from Python, as arrays; what `dsgcli` exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dsgcli.generate.sample import SampleOptions, sit
from dsgcli.portraits import to_pixels

if TYPE_CHECKING:
    from dsgcli.types import Pixels


def sample(style: str = "default", **choices: Any) -> Pixels:
    """Portraits of people who do not exist, as `dsg sample` draws them.

    >>> from dsgcli import sample
    >>> sample("toon:ada", n=3).shape
    (3, 64, 64, 3)
    >>> bool((sample("toon:ada", seeds="2")[0] == sample("toon:ada", n=3)[2]).all())
    True

    Args:
        style: `NAME` or `NAME:EXEMPLAR`.
        choices: any other field of `SampleOptions`: `n`, `seeds`, `truncation`, ...;
            those about files are not looked at.

    Returns:
        (N, S, S, 3) uint8 RGB; the same seed is the same picture.

    Raises:
        UsageError, ModelError: something that is not there, or does not fit.
    """
    sitting = sit(SampleOptions(style=style, **choices))
    return np.concatenate([to_pixels(image[None]) for image in sitting.images])
