"""Two photographs of real people that installed packages bring: official portraits of the United
States government, in the public domain.

They are read where they lie and are never copied into this repository; what our model draws of them
is in its pages, and is what `make demo` shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Photograph:
    """A photograph, where it is installed."""

    person: str
    package: str
    file: str
    """Inside the package's folder."""

    @property
    def path(self) -> Path | None:
        """Where it is; None where the package, or the file in it, is not installed. The package is
        not imported."""
        found = find_spec(self.package)
        if found is None or found.origin is None:
            return None
        path = Path(found.origin).parent / self.file
        return path if path.is_file() else None


PHOTOGRAPHS = (
    Photograph("Grace Hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    Photograph("Eileen Collins", "skimage", "data/astronaut.png"),
)
"""matplotlib comes with MediaPipe; scikit-image (skimage) with `pip install 'dsgcli[docs]'`."""


def photographs() -> list[Path]:
    """Those that are here."""
    return [photo.path for photo in PHOTOGRAPHS if photo.path is not None]
