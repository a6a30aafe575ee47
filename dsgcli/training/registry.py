"""Every stage by its name: one line each, in the order they run.

To add a stage: CONTRIBUTING.md has the list.
"""

from __future__ import annotations

from dsgcli.recipe import STAGES
from dsgcli.training.evaluate import EvaluateStage
from dsgcli.training.prepare import Prepare
from dsgcli.training.stage import Stage
from dsgcli.training.stages.base import BaseStage
from dsgcli.training.stages.destylize import DestylizeStage
from dsgcli.training.stages.distill import DistillStage
from dsgcli.training.stages.encoder import EncoderStage
from dsgcli.training.stages.enlarge import EnlargeStage
from dsgcli.training.stages.finetune import FinetuneStage
from dsgcli.training.stages.pretrain import PretrainStage
from dsgcli.training.stages.refine import RefineStage
from dsgcli.training.stages.sampler import SamplerStage
from dsgcli.training.stages.transfer import TransferStage

_ALL: tuple[Stage, ...] = (
    Prepare(),
    BaseStage(),
    EncoderStage(),
    FinetuneStage(),
    DestylizeStage(),
    PretrainStage(),
    TransferStage(),
    RefineStage(),
    EnlargeStage(),
    DistillStage(),
    SamplerStage(),
    EvaluateStage(),
)
_BY_NAME = {stage.name: stage for stage in _ALL}


def stage_named(name: str) -> Stage:
    """The stage that the recipe's table [name] belongs to."""
    assert name in STAGES, name
    return _BY_NAME[name]
