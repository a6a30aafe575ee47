"""Augmentation: agrees with the published pieces, moves what it says, differentiates twice."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reference import fill, golden
from torch import Tensor

from dsgcli.training import augment as aug
from dsgcli.training.losses import r1_penalty
from dsgcli.training.stage import SeededDraws

CPU = torch.device("cpu")


def agree(case: dict, outputs: dict[str, object], f64: bool = False) -> None:
    values = {k: v.detach().numpy() if isinstance(v, Tensor) else v for k, v in outputs.items()}
    results = golden.check(case, values, f64=f64)
    assert all(ok for _, ok, _, _ in results), [r for r in results if not r[1]]


def stored(case: dict, name: str) -> Tensor:
    return torch.from_numpy(np.array(golden.expected(case, name)))


@pytest.mark.golden("aug.sym6")
def test_filter_has_the_published_taps() -> None:
    agree(golden.case("aug.sym6"), {"taps": np.array(aug.SYM6)})


@pytest.mark.golden("aug.elementary")
def test_elementary_matrices_agree_with_published() -> None:
    case = golden.case("aug.elementary")
    p = stored(case, "translate")[:, 0, 2]
    ones, flips = torch.ones(1, 3), torch.tensor([0.0, 1.0, 1.0])
    factor = stored(case, "saturation")[:, 3, 3]  # the corner carries the factor itself
    agree(
        case,
        {
            "translate": aug.translation(torch.stack([p, -p], dim=1)),
            "rotate": aug.rotation(p * math.pi),
            "scale": aug.scaling(torch.stack([1 + p, 1 / (1 + p)], dim=1)),
            "translate3d": aug.translation(p[:, None] * ones),
            "rotate3d": aug.hue_rotation(p * math.pi),
            "scale3d": aug.scaling((1 + p)[:, None] * ones),
            "luma_flip": aug.luma_flip(flips),
            "saturation": aug.saturation(factor),
        },
    )


def published_draws(case: dict, kind: str, p: str) -> list[Tensor]:
    """Each transform's drawn parameter where it was applied, NaN where not."""
    names = sorted(k for k in case["outputs"] if k.startswith(f"draw.{kind}{p}_"))
    values = [stored(case, name).float() for name in names]
    return [
        torch.where(on > 0, value, torch.nan)
        for value, on in zip(values[::2], values[1::2], strict=True)
    ]


def published_affine(case: dict, p: str) -> aug.AffineParameters:
    flip, shift, scale, before, stretch, after, fine = published_draws(case, "A", p)
    height, width = 64, 96
    fractions = torch.stack([(shift * n).round() / n for n in (width, height)], dim=1)
    return aug.AffineParameters(
        flip=flip.nan_to_num(0.0),
        shift=fractions.nan_to_num(0.0),
        scale=scale.nan_to_num(1.0),
        angle_before=before.nan_to_num(0.0),
        stretch=stretch.nan_to_num(1.0),
        angle_after=after.nan_to_num(0.0),
        fine_shift=torch.stack([fine, fine], dim=1).nan_to_num(0.0),
    )


@pytest.mark.golden("aug.sample_affine")
@pytest.mark.parametrize("p", ["100", "50"])
def test_product_of_transforms_agrees_with_published(p: str) -> None:
    case = golden.case("aug.sample_affine")
    brightness, contrast, flip, hue, saturation = published_draws(case, "C", p)
    color = aug.ColorParameters(
        brightness=brightness.nan_to_num(0.0),
        contrast=contrast.nan_to_num(1.0),
        luma_flip=flip.nan_to_num(0.0),
        hue=hue.nan_to_num(0.0),
        saturation=saturation.nan_to_num(1.0),
    )
    affine = published_affine(case, p)
    agree(case, {f"G_p{p}": affine.matrix(), f"C_p{p}": color.matrix()})


@pytest.mark.golden("aug.apply")
def test_warp_and_recoloring_agree_with_published() -> None:
    case = golden.case("aug.apply")
    image = torch.from_numpy(golden.inputs(case)["img"])
    rectangle = image[:, :, :32, :40]
    ga, gb, color = (stored(case, name) for name in ("Ga", "Gb", "C"))
    agree(
        case,
        {
            "affine_a": aug.apply_affine(image, ga),
            "affine_b": aug.apply_affine(image, gb),
            "affine_rect_a": aug.apply_affine(rectangle, ga),
            "affine_rect_b": aug.apply_affine(rectangle, gb),
            "pad_a": np.array(aug.padding_for(ga, 48, 48)),
            "pad_b": np.array(aug.padding_for(gb, 48, 48)),
            "color": aug.apply_color(image, color),
            "augment_b": aug.apply_color(aug.apply_affine(image, gb), color),
        },
    )


@pytest.mark.golden("aug.identity")
def test_augmentation_is_nearly_the_identity_when_p_is_zero() -> None:
    case = golden.case("aug.identity")
    image = torch.from_numpy(golden.inputs(case)["img"])
    y = aug.augment(image, 0.0, SeededDraws(0, 0, "d", range(2), CPU))
    agree(case, {"y": y, "maxdiff": (y - image).abs().max()})


@pytest.mark.golden("aug.ada")
def test_controller_follows_the_published_path() -> None:
    case = golden.case("aug.ada")
    controller = aug.AdaptiveAugmentation(0.6, 5000)
    scores = fill.unit("aug.ada:pred", (40, 4, 1)) + 0.8
    path = [(controller.update(float(np.sign(s).mean()), 4), controller.r) for s in scores]
    agree(case, {"p": np.array([p for p, _ in path]), "r": np.array([r for _, r in path])})


def test_controller_goes_on_where_it_was_saved() -> None:
    one, two = aug.AdaptiveAugmentation(0.6, 500), aug.AdaptiveAugmentation(0.6, 500)
    for sign in (0.9, 0.8, 0.2, 1.0, 0.7):
        one.update(sign, 4)
    two.load_state(one.state())
    after = [(one.update(s, 4), two.update(s, 4)) for s in (0.9, 0.9, 1.0, 0.1, 0.9)]
    assert all(a == b for a, b in after) and after[-1][0] > 0


def identity_parameters(batch: int) -> dict[str, Tensor]:
    zeros, ones = torch.zeros(batch), torch.ones(batch)
    return {
        "flip": zeros,
        "shift": torch.zeros(batch, 2),
        "scale": ones,
        "angle_before": zeros,
        "stretch": ones,
        "angle_after": zeros,
        "fine_shift": torch.zeros(batch, 2),
    }


def test_shift_moves_the_picture_by_whole_pixels() -> None:
    """The published code moves it by a fraction of one pixel (docs/differences.md, 3)."""
    image = torch.from_numpy(fill.image("shift", 1, 32))
    moved = {**identity_parameters(1), "shift": torch.tensor([[5.0, -3.0]])}
    y = aug.apply_affine(image, torch.linalg.inv(aug.AffineParameters(**moved).matrix()))
    torch.testing.assert_close(y[:, :, :-3, 5:], image[:, :, 3:, :-5], atol=0.02, rtol=0)


def test_drawn_shifts_reach_an_eighth_of_the_picture() -> None:
    draws = SeededDraws(3, 0, "d", range(256), CPU)
    shift = aug.draw_affine(draws, 1.0, 256, 64, 96).shift
    assert shift[:, 0].abs().max() == 12 and shift[:, 1].abs().max() == 8
    assert (shift == shift.round()).all()


def test_probability_decides_how_many_pictures_are_changed() -> None:
    draws = SeededDraws(5, 0, "d", range(4000), CPU)
    parameters = aug.draw_affine(draws, 0.3, 4000, 64, 64)
    assert abs(float((parameters.scale != 1).float().mean()) - 0.3) < 0.03
    turned = (parameters.angle_before != 0) | (parameters.angle_after != 0)
    assert abs(float(turned.float().mean()) - 0.3) < 0.03  # 1 - sqrt(1 - p) each


def test_gradient_of_the_gradient_is_right() -> None:
    image = torch.from_numpy(fill.image("gradgrad", 1, 8)).double().requires_grad_()
    affine = torch.tensor([[[0.9, 0.3, 0.4], [-0.2, 1.1, -0.3], [0, 0, 1]]], dtype=torch.float64)

    def warp(x: Tensor) -> Tensor:
        return aug.apply_affine(x, affine).square().sum()  # not linear: second derivatives count

    assert torch.autograd.gradcheck(warp, image, atol=1e-5)
    assert torch.autograd.gradgradcheck(warp, image, atol=1e-5)


def test_r1_goes_through_augmentation() -> None:
    image = torch.from_numpy(fill.image("r1", 2, 32)).requires_grad_()
    weight = torch.ones(3, requires_grad=True)
    seen = aug.augment(image, 0.9, SeededDraws(1, 0, "r1", range(2), CPU))
    scores = (seen.tanh() * weight[:, None, None]).mean((1, 2, 3))[:, None]
    r1_penalty(scores, image).backward()
    assert weight.grad is not None and weight.grad.abs().min() > 0
