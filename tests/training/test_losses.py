"""Losses: agree with the published ones, and have the properties they are used for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import golden
from torch import Tensor

from dsgcli.training import losses


def agree(case: dict, outputs: dict[str, object], f64: bool = False) -> None:
    values = {k: v.detach().numpy() if isinstance(v, Tensor) else v for k, v in outputs.items()}
    results = golden.check(case, values, f64=f64)
    assert all(ok for _, ok, _, _ in results), [r for r in results if not r[1]]


def tensors(case: dict) -> dict[str, Tensor]:
    return {k: torch.as_tensor(v) for k, v in golden.inputs(case).items()}


def summary(name: str, tensor: Tensor) -> dict[str, np.ndarray]:
    return {name + key: value for key, value in golden.summ(tensor.detach().numpy()).items()}


@pytest.mark.golden("loss.gan")
def test_adversarial_losses_agree_with_published() -> None:
    case = golden.case("loss.gan")
    x = tensors(case)
    d = losses.discriminator_loss(x["real"], x["fake"])
    agree(case, {"d": d, "g": losses.generator_loss(x["fake"])})


@pytest.mark.golden("cx")
def test_contextual_loss_agrees_with_published() -> None:
    case = golden.case("cx")
    t = tensors(case)
    x, y = t["x"].requires_grad_(), t["y"]
    loss = losses.contextual_loss(x, y)
    (gx,) = torch.autograd.grad(loss, x)
    center = y.mean(dim=(0, 2, 3), keepdim=True)
    columns = [(v - center)[0].flatten(1) for v in (x, y)]
    distance = losses.cosine_distance(*columns)
    relative = losses.relative_distance(distance)
    outputs = {"cx02": loss, "gx": gx, "cx05": losses.contextual_loss(x, y, 0.5)}
    outputs |= {"dist0": distance, "rel0": relative}
    agree(case, {**outputs, "aff0": losses.contextual_affinity(relative)})


@pytest.mark.golden("cx")
def test_contextual_loss_of_a_picture_with_itself_agrees_in_float64() -> None:
    case = golden.case("cx")
    y = tensors(case)["y"].double()
    x = tensors(case)["x"].double()
    both = {"x": losses.contextual_loss(x, x), "y": losses.contextual_loss(y, y)}
    errors = [golden.check(case, {"self": v.numpy()}, f64=True)[0] for v in both.values()]
    assert any(ok for _, ok, _, _ in errors), errors


@pytest.mark.golden("noise_reg")
def test_noise_regularizer_agrees_with_published() -> None:
    case = golden.case("noise_reg")
    maps = {name: t.requires_grad_() for name, t in tensors(case).items()}
    loss = losses.noise_regularizer(maps.values())
    g4, g16, g64 = torch.autograd.grad(loss, list(maps.values()))
    each = torch.stack([losses.noise_regularizer([m]) for m in maps.values()])
    outputs = {"loss": loss, "per_map": each, "g4": g4, "g16": g16, **summary("g64", g64)}
    copies = [m.detach().clone() for m in maps.values()]
    losses.normalize_noise(copies)
    outputs |= {"norm4": copies[0], "norm16": copies[1], **summary("norm64", copies[2])}
    agree(case, outputs)


def test_noise_regularizer_of_each_is_that_of_one_alone() -> None:
    maps = [torch.randn(3, 1, s, s) for s in (4, 16, 32)]
    alone = [losses.noise_regularizer([m[b : b + 1] for m in maps]) for b in range(3)]
    torch.testing.assert_close(losses.noise_regularizer_each(maps), torch.stack(alone))
    whole = [m.clone() for m in maps]
    losses.normalize_noise_each(whole)
    for b in range(3):
        one = [m[b : b + 1].clone() for m in maps]
        losses.normalize_noise(one)
        for each, single in zip(whole, one, strict=True):
            torch.testing.assert_close(each[b : b + 1], single)


@pytest.mark.golden("lr_ramp")
def test_rate_ramps_as_published() -> None:
    rates = {n: np.array([losses.ramped_rate(i / n, 0.1) for i in range(n)]) for n in (300, 20)}
    agree(golden.case("lr_ramp"), {f"iter{n}": values for n, values in rates.items()})


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_contextual_loss_is_small_for_a_shuffled_copy(shift: float) -> None:
    """It compares what there is, not where."""
    y = torch.randn(2, 16, 8, 8)
    shuffled = y.flatten(2)[:, :, torch.randperm(64)].view_as(y)
    other = torch.randn(2, 16, 8, 8)
    same = losses.contextual_loss(shuffled + shift, y + shift)
    assert same < 0.01 < losses.contextual_loss(other, y)


def test_path_lengths_of_a_linear_map_are_its_gradient() -> None:
    """For an orthogonal map from one row to the picture every direction has the same length."""
    matrix = torch.linalg.qr(torch.randn(12, 12))[0]
    ws = torch.randn(2, 3, 12, requires_grad=True)
    images = (ws[:, 0] @ matrix).view(2, 3, 2, 2)
    noise = torch.randn(2, 3, 2, 2)
    wanted = noise.flatten(1).norm(dim=1) / 2
    lengths = losses.path_lengths(images, ws, noise, rows=slice(0, 1))
    torch.testing.assert_close(lengths, wanted)
    all_rows = losses.path_lengths((ws[:, 0] @ matrix).view(2, 3, 2, 2), ws, noise)
    torch.testing.assert_close(all_rows, wanted / 3**0.5)


def test_path_penalty_moves_its_mean_by_a_hundredth() -> None:
    penalty, mean = losses.path_penalty(torch.tensor([1.0, 3.0]), 1.0)
    assert mean == pytest.approx(1.01) and penalty == pytest.approx((0.01**2 + 1.99**2) / 2)


def test_code_spread_is_zero_for_a_z_code_and_pulls_rows_together() -> None:
    z = torch.randn(2, 1, 8).expand(-1, 6, -1)
    assert losses.code_spread(z) < 1e-6
    codes = torch.randn(2, 6, 8, requires_grad=True)
    spread = losses.code_spread(codes)
    (gradient,) = torch.autograd.grad(spread, codes)
    assert losses.code_spread(codes - 0.1 * gradient) < spread


def test_color_distance_is_of_means_and_deviations_alone() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 8, 8)
    shuffled = images.flatten(2)[..., torch.randperm(64)].view_as(images)
    assert losses.color_distance(images, shuffled) < 1e-6
    assert losses.color_distance(images + 0.5, images) == pytest.approx(0.5, abs=1e-5)
    mean = images.mean(dim=(2, 3), keepdim=True)
    assert losses.color_distance(mean.expand_as(images), images) > 0.2  # flat: no deviation


def test_color_distance_tells_gray_from_colors_that_spread_alike() -> None:
    torch.manual_seed(0)
    gray = torch.rand(2, 1, 8, 8).expand(-1, 3, -1, -1)
    colored = gray.clone()
    colored[:, 1] = gray[:, 1].flip(2)  # green the other way up: means and deviations are the same
    assert losses.color_distance(colored, gray) > 0.3


# ── strokes ──────────────────────────────────────────────────────────────────────────────────────


def strokes_of(a, photos, exemplars, degrees) -> float:
    """`stroke_distance` at places and along directions that are always the same."""
    from dsgcli.training.losses import STROKE_PX, stroke_distance

    generator = torch.Generator().manual_seed(0)
    places = torch.rand(2, len(a), 300, generator=generator)
    directions = torch.randn(2, 24, 3 * STROKE_PX**2, generator=generator)
    directions = torch.nn.functional.normalize(directions, dim=2)
    importance = torch.ones(len(a), 1, *a.shape[2:])
    return float(stroke_distance(a, photos, exemplars, degrees, importance, places, directions))


def striped(width: int) -> torch.Tensor:
    """(1, 3, 64, 64): stripes of a width in pixels."""
    x = torch.arange(64)
    return ((x // width % 2) * 1.0 - 0.5).expand(1, 3, 64, 64).contiguous()


def test_strokes_of_the_exemplar_are_at_no_distance_wherever_they_lie():
    exemplar, photo = striped(4), 0.1 * striped(8)
    full = torch.ones(1)
    assert strokes_of(exemplar, photo, exemplar, full) < 1e-5
    shifted = strokes_of(exemplar.roll(4, dims=3), photo, exemplar, full)
    assert shifted < 0.2 * strokes_of(photo, photo, exemplar, full)


def test_strokes_are_wanted_as_far_as_the_degree_says():
    exemplar, photo = striped(3), 0.1 * striped(8)
    assert strokes_of(photo, photo, exemplar, torch.zeros(1)) < 1e-5
    distances = [strokes_of(photo, photo, exemplar, torch.tensor([d])) for d in (0.25, 0.5, 1.0)]
    assert distances[0] < distances[1] < distances[2]


def test_finest_level_counts_as_its_weight_says():
    from dsgcli.training.losses import pyramid_l1

    a = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    b = a.roll(1, dims=3)
    usual, less = pyramid_l1(a, b)[0], pyramid_l1(a, b, fine_weight=0.25)[0]
    finest = (a - b).abs().mean()
    assert float(usual - less) > 0.74 * float(finest)  # and the middle level in part
    same = pyramid_l1(a, b, fine_weight=1.0)[0]
    assert float(same) == float(usual)
