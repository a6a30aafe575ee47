"""The discriminator of patches: what a score sees, how it is stored, how it is trained."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from dsgcli.models.patch import PatchDiscriminator
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.recipe import BaseRecipe
from dsgcli.store.networks import load_discriminator
from dsgcli.store.write import save_generator
from dsgcli.training.adversary import EQUALIZED_SHARE, Adversary
from dsgcli.training.losses import discriminator_loss, generator_loss, r1_penalty

CONFIG = GeneratorConfig.compact(64, base=512, most=16, style_dim=16)
SEEN_PX = 23
"""Side of what the convolutions of one score see."""


def without_norms() -> PatchDiscriminator:
    """Norms look at whole maps; without them a score sees its patch and nothing else."""
    judge = PatchDiscriminator(CONFIG, width=8)
    for layer in list(judge.layers)[1:]:
        layer[1] = torch.nn.Identity()
    return judge


def test_score_sees_its_patch_and_nothing_else() -> None:
    image = torch.randn(1, 3, 64, 64, requires_grad=True)
    scores = without_norms()(image)
    assert scores.shape == (1, 16 * 16)
    (gradient,) = torch.autograd.grad(scores.view(16, 16)[8, 8], image)
    rows, columns = gradient[0].abs().sum(dim=0).nonzero().unbind(1)
    assert int(rows.max() - rows.min()) + 1 == SEEN_PX
    assert int(columns.max() - columns.min()) + 1 == SEEN_PX


def test_pictures_are_judged_apart() -> None:
    judge, pictures = PatchDiscriminator(CONFIG), torch.randn(4, 3, 64, 64)
    torch.testing.assert_close(judge(pictures)[1:2], judge(pictures[1:2]))


def test_one_pass_gives_scores_and_maps() -> None:
    for judge in (PatchDiscriminator(CONFIG), Discriminator(CONFIG)):
        pictures = torch.randn(4, 3, 64, 64)
        scores, maps = judge.scores_and_maps(pictures)
        torch.testing.assert_close(scores, judge(pictures))
        for ours, theirs in zip(maps, judge.features(pictures), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_penalty_is_the_mean_over_patches() -> None:
    """Four patches of their own: the penalty of four pictures of one each."""
    image = torch.randn(1, 3, 8, 8, requires_grad=True)
    cells = image.unfold(2, 4, 4).unfold(3, 4, 4)  # (1, 3, 2, 2, 4, 4)
    scores = cells.square().sum(dim=(1, 4, 5)).flatten(1)  # (1, 4)
    each = [r1_penalty(scores[:, k : k + 1], image) for k in range(4)]
    torch.testing.assert_close(r1_penalty(scores, image), torch.stack(each).mean())


@pytest.mark.parametrize(
    "make", [lambda: PatchDiscriminator(CONFIG, 8), lambda: Discriminator(CONFIG)]
)
def test_file_of_a_base_gives_back_the_kind_it_was_trained_with(tmp_path, make) -> None:
    judge = make()
    path = tmp_path / "base.safetensors"
    save_generator(path, Generator(CONFIG), discriminator=judge)
    again = load_discriminator(path)
    assert type(again) is type(judge)
    pictures = torch.randn(4, 3, 64, 64)
    torch.testing.assert_close(again(pictures), judge.eval()(pictures))
    assert any(key.startswith("d/") for key in load_file(path))


def test_plain_weights_take_the_plain_rate() -> None:
    recipe = BaseRecipe(lr=0.008)
    plain = Adversary(PatchDiscriminator(CONFIG, 8), recipe).optimizer
    equalized = Adversary(Discriminator(CONFIG), recipe).optimizer
    ratio = equalized.param_groups[0]["lr"] / plain.param_groups[0]["lr"]
    assert ratio == pytest.approx(EQUALIZED_SHARE)


def test_it_learns_what_is_sharp_within_a_hundred_steps() -> None:
    torch.manual_seed(0)
    judge = PatchDiscriminator(CONFIG, 8)
    optimizer = Adversary(judge, BaseRecipe(lr=0.016)).optimizer
    for _ in range(100):
        sharp = torch.randn(4, 3, 32, 32).repeat_interleave(2, 2).repeat_interleave(2, 3)
        soft = torch.nn.functional.avg_pool2d(sharp, 5, 1, 2)
        loss = discriminator_loss(judge(sharp), judge(soft))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5  # 1.39 knows nothing
    with torch.no_grad():
        assert generator_loss(judge(soft)) > generator_loss(judge(sharp))
