"""A folded translator draws what the translator draws, by every backend that is here."""

from __future__ import annotations

import pytest
import torch
from small_models import small_translator

from dsgcli.inference import winograd
from dsgcli.inference.backend import AutoTranslatorBackend, pick_translator_backend, problem_of
from dsgcli.inference.translator import FoldedConv, fold_translator
from dsgcli.models.translator import Translator, TranslatorConfig

CPU = torch.device("cpu")
WEIGHTS = {
    "all": [1.0] * 14,
    "none": [0.0] * 14,
    "half": [0.5] * 14,
    "structure": [1.0] * 7 + [0.0] * 7,
    "color": [0.0] * 7 + [0.8] * 7,
    "each its own": [k / 13 for k in range(14)],
    "beyond": [1.4] * 7 + [-0.2] * 7,
}


@pytest.fixture(scope="module")
def translator():
    return small_translator()


def crops(side=64, count=2):
    return torch.rand(count, 3, side, side) * 2 - 1


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("side", [64, 96])
def test_folding_changes_nothing(translator, weights, side):
    code, x = torch.randn(14, 8), crops(side)
    wanted = translator(x, code[None], torch.tensor(weights))
    assert not any(weights) or (wanted - x).abs().max() > 0.05
    torch.testing.assert_close(
        fold_translator(translator, code, weights)(x), wanted, atol=1e-4, rtol=1e-4
    )


def test_wide_layers_are_folded_into_winograds_form():
    config = TranslatorConfig(widths=(8, 8, 128, 160), code_dim=8, style_hidden=8)
    wide = Translator(config).eval().requires_grad_(False)
    wide.color[-1].conv.weight.mul_(100.0)
    code, x = torch.randn(14, 8), crops(128, 1)
    folded = fold_translator(wide, code, [1.0] * 14)
    assert any(m.quick is not None for m in folded.modules() if isinstance(m, FoldedConv))
    wanted = wide(x, code[None], torch.ones(14))
    torch.testing.assert_close(folded(x), wanted, atol=1e-4, rtol=1e-4)
    uneven = crops(96, 1)  # six pixels at a sixteenth: no whole tiles
    assert 96 // 16 % winograd.TILE
    wanted = wide(uneven, code[None], torch.ones(14))
    torch.testing.assert_close(folded(uneven), wanted, atol=1e-4, rtol=1e-4)


def test_weights_of_zero_give_the_crop_itself(translator):
    x = crops()
    assert fold_translator(translator, torch.randn(14, 8), [0.0] * 14)(x).equal(x)


def test_half_precision_keeps_the_photograph(translator):
    code, x = torch.randn(14, 8), crops()
    low = fold_translator(translator, code, [0.01] * 14, torch.bfloat16)(x)
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, translator(x, code[None], [0.01] * 14), atol=2e-2, rtol=0)


@pytest.mark.parametrize("name", ["torch", "openvino"])
@pytest.mark.parametrize("weights", ["all", "none", "each its own"])
def test_backends_agree(translator, name, weights):
    if reason := problem_of(name, CPU):
        pytest.skip(reason)
    backend = pick_translator_backend(name, CPU, torch.float32)
    code = torch.randn(14, 8)
    run = backend.bind_translator(translator, code, WEIGHTS[weights])
    for side in (64, 96):  # one network serves crops of all sizes
        x = crops(side)
        wanted = translator(x, code[None], WEIGHTS[weights])
        torch.testing.assert_close(run(x), wanted, atol=1e-4, rtol=1e-4)


def test_auto_changes_to_openvino_for_many_pictures():
    if reason := problem_of("openvino", CPU):
        pytest.skip(reason)
    backend = pick_translator_backend("auto", CPU, torch.float32)
    assert isinstance(backend, AutoTranslatorBackend)
    assert backend.name == "torch"
    assert backend.expect(1000)
    assert backend.name == "openvino"
