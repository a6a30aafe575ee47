"""What the stage `transfer` compares; the golden loops have the numbers of its steps."""

from __future__ import annotations

import pytest
import torch

from dsgcli.models.dualstylegan import DualConfig, DualStyleGAN
from dsgcli.models.stylegan2 import Discriminator, GeneratorConfig
from dsgcli.recipe import TransferRecipe
from dsgcli.training.perceptual import DiscriminatorFeatures
from dsgcli.training.stage import OneProcess
from dsgcli.training.stages.dual import DualPlayers
from dsgcli.training.stages.transfer import Exemplars, TransferTraining

CONFIG = GeneratorConfig.compact(32, base=256, most=8, style_dim=16)
MOUTH, CORNER = (slice(22, 26), slice(14, 18)), (slice(2, 6), slice(2, 6))


def pixel_distance(place: tuple[slice, slice], **weights: float) -> float:
    """Of a gray picture to one that is white in this place."""
    torch.manual_seed(0)
    dual, judge = DualStyleGAN.of(DualConfig(generator=CONFIG)), Discriminator(CONFIG)
    codes = torch.randn(1, dual.layout.num_latents, CONFIG.style_dim)
    portrait = torch.zeros(1, 3, 32, 32)
    training = TransferTraining(
        DualPlayers.of(dual, judge),
        TransferRecipe(lambda_pixel=1.0, **weights),
        Exemplars(codes, codes, lambda numbers: portrait),
        DiscriminatorFeatures(judge),
        None,
    )
    drawn = portrait.clone()
    drawn[..., place[0], place[1]] = 1.0
    terms = training._style_terms(drawn, portrait, OneProcess(), paired=True)
    return float(terms["pixel"][1])


def test_pairs_are_compared_where_the_recipe_looks():
    assert pixel_distance(MOUTH) == pytest.approx(pixel_distance(CORNER), rel=0.15)
    closer = {"face_weight": 4.0, "feature_weight": 16.0}
    assert pixel_distance(MOUTH, **closer) > 5 * pixel_distance(CORNER, **closer)
