"""Codes between stages: found in the run, matched with portraits by name, kept while they are made.

Flow: destylize -> codes file -> transfer, refine, sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from dsgcli.errors import TrainingError
from dsgcli.store.codes import Codes
from dsgcli.store.contents import open_model
from dsgcli.store.write import save_codes
from dsgcli.training.stage import RunContext
from dsgcli.types import LatentLayout


def open_codes(context: RunContext) -> Codes:
    """The codes that an earlier stage made, or that the recipe starts from.

    Raises:
        TrainingError: a file without extrinsic codes.
    """
    return read_part(context.find("codes"))


def read_part(path: Path) -> Codes:
    """The codes in one file.

    Raises:
        TrainingError: a file without extrinsic codes.
    """
    model = open_model(path)
    roles = model.part("codes")
    if "exstyle" not in roles:
        raise TrainingError(f"{model.path} holds no extrinsic codes")
    return Codes(
        names=tuple(model.header.names),
        exstyle=roles["exstyle"].float(),
        refined=_wide(roles.get("refined")),
        instyle=_wide(roles.get("instyle")),
    )


Make = Callable[[range, Callable[[int], None]], Codes]
"""(numbers of a batch, a callback for the number of finished steps) -> its codes."""


class Parts:
    """Codes made batch by batch, each written when it is done: a stopped stage goes on after it.

    Args:
        count: exemplars in all.
        steps: optimizer steps a batch, for the bar.
    """

    def __init__(
        self, context: RunContext, count: int, batch: int, steps: int, layout: LatentLayout
    ) -> None:
        self.context, self.steps, self.layout = context, steps, layout
        self.chunks = [range(i, min(i + batch, count)) for i in range(0, count, batch)]
        self.folder = context.folder / "parts"

    def run(self, make: Make) -> Codes:
        """Make what is not there yet; returns all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        total, found = len(self.chunks) * self.steps, []
        for number, indices in enumerate(self.chunks):
            path = self.folder / f"{indices.start:06d}-{indices.stop:06d}.safetensors"
            done = number * self.steps
            if not path.is_file():
                with self._precision():
                    codes = make(indices, partial(self._tell, done, total))
                save_codes(path, codes, layout=self.layout, keep_order=True)
            self._tell(done, total, self.steps)
            found.append(read_part(path))
        return joined(found)

    def _precision(self) -> AbstractContextManager[object]:
        """bf16 in the networks where the recipe says so, as in the loop; codes stay fp32."""
        if self.context.recipe.run.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.context.device.type, torch.bfloat16)

    def _tell(self, done: int, total: int, step: int) -> None:
        self.context.advance(done + step, total)


def joined(parts: Sequence[Codes]) -> Codes:
    """Codes of several files, one after the other; roles that all of them have."""
    roles = set.intersection(*(set(part.roles) for part in parts))
    together = {role: torch.cat([part.roles[role] for part in parts]) for role in sorted(roles)}
    return Codes(names=tuple(name for part in parts for name in part.names), **together)


def exemplar_names(names: Sequence[str]) -> list[str]:
    """Names of exemplars: file names without folder and ending, if these are unique."""
    short = [PurePosixPath(name).stem for name in names]
    return short if len(set(short)) == len(short) else list(names)


def by_style(codes: Codes) -> dict[str, Codes]:
    """Codes by the style that their names begin with, as in `toon:ann`; all under "" where they
    name none. Names lose their style.
    """
    folders = [name.partition(":")[0] if ":" in name else "" for name in codes.names]
    found = {}
    for folder in dict.fromkeys(folders):
        own = codes.select([i for i, f in enumerate(folders) if f == folder])
        names = tuple(name.removeprefix(f"{folder}:") for name in own.names)
        found[folder] = replace(own, names=names)
    return found


def exemplar_indices(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """Where in `names` each of the `wanted` is: by the whole name, or by its last part without an
    ending, if only one has it.

    Raises:
        TrainingError: names the first few that are missing.
    """
    whole = {name: index for index, name in enumerate(names)}
    short: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        short.setdefault(PurePosixPath(name).stem, []).append(index)
    found, missing = [], []
    for name in wanted:
        places = [whole[name]] if name in whole else short.get(PurePosixPath(name).stem, [])
        found += places[:1]
        missing += [] if len(places) == 1 else [name]
    if missing:
        raise TrainingError(
            f"{len(missing)} of {len(wanted)} codes have no portrait of their name "
            f"({', '.join(missing[:3])}): prepare the portraits that the codes were made of"
        )
    return found


def _wide(codes: Tensor | None) -> Tensor | None:
    return None if codes is None else codes.float()
