"""Codes between stages: found in the run, matched with portraits by name, kept while they are made.

Flow: destylize -> codes file -> transfer, refine, sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from torch import Tensor

from dsgcli.errors import TrainingError
from dsgcli.store.codes import Codes
from dsgcli.store.contents import open_model
from dsgcli.training.stage import RunContext


def open_codes(context: RunContext) -> Codes:
    """The codes that an earlier stage made, or that the recipe starts from.

    Raises:
        TrainingError: a file without extrinsic codes.
    """
    model = open_model(context.find("codes"))
    roles = model.part("codes")
    if "exstyle" not in roles:
        raise TrainingError(f"{model.path} holds no extrinsic codes")
    return Codes(
        names=tuple(model.header.names),
        exstyle=roles["exstyle"].float(),
        refined=_wide(roles.get("refined")),
        instyle=_wide(roles.get("instyle")),
    )


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
