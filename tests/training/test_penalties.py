"""Penalties on networks, and losses on features, agree with the published ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from reference import fill, golden
from torch import Tensor, nn

from dsgcli.models.dualstylegan import AdaIN
from dsgcli.training.adversary import average_decay, lazy_adam, update_average
from dsgcli.training.losses import (
    PRETRAIN_LAYERS,
    TRANSFER_LAYERS,
    contextual_loss,
    feature_l1,
    feature_matching,
    identity_loss,
    path_lengths,
    path_penalty,
    r1_penalty,
)
from dsgcli.training.perceptual import IrseIdentity


def agree(case: dict, outputs: dict[str, object], f64: bool = True) -> None:
    values = {k: v.detach().numpy() if isinstance(v, Tensor) else v for k, v in outputs.items()}
    results = golden.check(case, values, f64=f64)
    assert all(ok for _, ok, _, _ in results), [r for r in results if not r[1]]


def doubles(case: dict) -> dict[str, Tensor]:
    return {k: torch.as_tensor(v).double() for k, v in golden.inputs(case).items()}


def summary(name: str, tensor: Tensor) -> dict[str, np.ndarray]:
    return {name + key: value for key, value in golden.summ(tensor.detach().numpy()).items()}


@pytest.mark.slow
@pytest.mark.golden("loss.r1")
def test_r1_agrees_with_published(made: Callable[[str], nn.Module]) -> None:
    case = golden.case("loss.r1")
    x = doubles(case)["x"].requires_grad_()
    scores = made("disc64")(x)
    (gradient,) = torch.autograd.grad(scores.sum(), x, retain_graph=True)
    agree(case, {"r1": r1_penalty(scores, x), **summary("grad", gradient)})


@pytest.mark.golden("loss.path")
def test_path_length_of_stylegan_agrees_with_published(made: Callable[[str], nn.Module]) -> None:
    case, generator = golden.case("loss.path"), made("gen64_noisy")
    inputs = doubles(case)
    ws = generator.broadcast(generator.map(inputs["z"]))
    lengths = path_lengths(generator(ws), ws, inputs["y"])
    penalty, mean = path_penalty(lengths, 0.3)
    agree(case, {"pen": penalty, "mean": mean, "lens": lengths})


@pytest.mark.slow
@pytest.mark.golden("loss.path")
def test_path_length_of_dualstylegan_agrees_with_published(
    made: Callable[[str], nn.Module],
) -> None:
    case, dual = golden.case("loss.path"), made("dual64_noisy")
    inputs = doubles(case)
    z = inputs["z"].requires_grad_()
    ws = dual.generator.broadcast(dual.generator.map(z))
    lengths = path_lengths(dual(ws, inputs["ex"]), ws, inputs["y"])
    penalty, mean = path_penalty(lengths, 0.3)
    picture = (dual(ws, inputs["ex"]) * inputs["y"]).sum() / 64
    (gz,) = torch.autograd.grad(picture, z)
    outputs = {"dual_pen": penalty, "dual_mean": mean, "dual_lens": lengths}
    agree(case, {**outputs, "dual_gz": gz[:, :16]})


def test_gradient_through_adain_is_the_same_in_any_memory_format() -> None:
    """torch's instance norm has a wrong gradient for one sample in channels_last (2.13, CPU)."""
    x, weight = torch.randn(2, 1, 4, 8, 8, dtype=torch.float64).unbind(0)
    norm = AdaIN(4, 3).double()
    style, gradients = torch.randn(1, 3, dtype=torch.float64), []
    for layout in (torch.contiguous_format, torch.channels_last):
        own = x.contiguous(memory_format=layout).requires_grad_()
        y = norm(own, style)
        gradients += torch.autograd.grad(y, own, weight.contiguous(memory_format=layout))
    torch.testing.assert_close(*gradients)
    assert torch.autograd.gradcheck(lambda v: norm(v, style), x.requires_grad_())


@pytest.mark.golden("idloss")
def test_identity_loss_agrees_with_published(made: Callable[[str], nn.Module]) -> None:
    case = golden.case("idloss")
    inputs, identity = doubles(case), IrseIdentity(made("irse50"))
    y_hat = inputs["y_hat"].requires_grad_()
    embedding = identity.embed(y_hat)
    loss = identity_loss(embedding, identity.embed(inputs["y"]))
    (gradient,) = torch.autograd.grad(loss, y_hat)
    feats = embedding.detach()
    agree(case, {"loss": loss, "feats": feats, **summary("grad", gradient)}, f64=False)


@pytest.mark.golden("loss.perc_style")
def test_losses_on_vgg_features_agree_with_published(made: Callable[[str], nn.Module]) -> None:
    case, vgg = golden.case("loss.perc_style"), made("vgg19")
    inputs = doubles(case)
    with torch.no_grad():
        x, y = vgg(inputs["x"]), vgg(inputs["y"])
    single = [feature_l1(x, y, [float(k == j) for j in range(5)]) for k in range(5)]
    outputs = {
        "l1": torch.stack(single),
        "perc_pre": feature_l1(x, y, PRETRAIN_LAYERS),
        "perc_ft": feature_l1(x, y, TRANSFER_LAYERS),
        "fm": feature_matching(x, y),
        "cx": contextual_loss(x[2], y[2]),
    }
    agree(case, outputs, f64=False)


@pytest.mark.golden("ema")
def test_average_agrees_with_published() -> None:
    case = golden.case("ema")
    decay = average_decay(10_000 / 32)
    a, b = (torch.from_numpy(fill.unit(f"ema:{k}", (2, 3))) for k in "ab")
    outputs: dict[str, object] = {"decay": np.array(decay)}
    average, model = nn.Linear(3, 2, bias=False), nn.Linear(3, 2, bias=False)
    for first in (a, b):
        average.weight.data, model.weight.data = first.clone(), (b if first is a else a).clone()
        for step in range(1, 4):
            update_average(average, model, decay)
            outputs[f"after{step}"] = average.weight.detach().clone()
        outputs.pop("after2")
        update_average(average, model, 0.0)
        outputs["decay0"] = average.weight.detach().clone()
        if golden.check(case, {"decay0": outputs["decay0"].numpy()})[0][1]:
            break
    agree(case, outputs, f64=False)


@pytest.mark.golden("adam_hparams")
def test_optimizers_have_the_published_rates() -> None:
    weight = [nn.Parameter(torch.zeros(1))]
    found = {}
    for name, every in {"g": 4, "d": 16}.items():
        group = lazy_adam(weight, 0.002, every).param_groups[0]
        found[name] = np.array([group["lr"], *group["betas"]])
    agree(golden.case("adam_hparams"), found)
