"""Parts that all stages with a discriminator share: phases, path length, optimizers, averages.

Flow: a stage says how its fakes are made; this module turns that into the phases `d`, `r1` and
`path` of an iteration (stage.py). The generator's own phase is each stage's.

Recipe: StyleGAN2 (Karras et al., arXiv:1912.04958, sections 2 and 3 and appendix B), with lazy
regularization as an optimizer step of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Adam

from dsgcli.models.patch import Judge, PatchDiscriminator
from dsgcli.models.stylegan2 import Generator
from dsgcli.recipe import AdversarialRecipe
from dsgcli.training.augment import AdaptiveAugmentation, augment
from dsgcli.training.losses import discriminator_loss, path_lengths, path_penalty, r1_penalty
from dsgcli.training.stage import Across, Batch, Draws, Phase, Scalars

MakeReal = Callable[[Batch, Draws], Tensor]
"""Real pictures (B, 3, S, S) for a part of the batch."""
MakeFakes = Callable[[Batch, Draws], Sequence[Tensor]]
"""Generated pictures (B, 3, S, S), one batch a kind; called without gradients."""
MakePath = Callable[[Batch, Draws], tuple[Tensor, Tensor]]
"""Generated pictures and the codes (B, L, D) that they move with; the codes require gradients."""
BETA2 = 0.99
PATCH_BETA1 = 0.5
PATCH_R1 = 0.02
"""Share of the recipe's penalty for patches: they have norms, and at 1 learn only the penalty."""
EQUALIZED_SHARE = 8.0
"""Rate of weights of unit size, against that of plain ones."""


def lazy_adam(
    parameters: Iterable[nn.Parameter], lr: float, every: int, beta1: float = 0.0
) -> Adam:
    """Adam for a network that gets one more step, of regularization, every so many steps: rate and
    memory are those of `every` steps in `every` + 1 (arXiv:1912.04958, appendix B)."""
    share = every / (every + 1) if every else 1.0
    betas = (beta1**share, BETA2**share)
    return Adam(parameters, lr=lr * share, betas=betas, fused=True)


def to_device(module: nn.Module, device: torch.device) -> None:
    """Moves a network; kernels and maps in the memory format that convolutions are fastest in."""
    module.to(device)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def take_over(network: nn.Module, state: Mapping[str, Tensor], but: tuple[str, ...] = ()) -> None:
    """Load what a smaller network has; what only the larger one has, or begins with a name in
    `but`, stays as it is."""
    own = network.state_dict()
    network.load_state_dict(own | {k: v for k, v in state.items() if not k.startswith(but)})


# ── moving averages ──────────────────────────────────────────────────────────────────────────────


def average_decay(half_life_steps: float) -> float:
    """Share of the old weights that a step keeps."""
    return float(0.5 ** (1.0 / half_life_steps))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move parameters towards the model's; buffers (statistics, noise) are the model's own."""
    for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
        ours.lerp_(theirs, 1.0 - decay)
    for held, now in zip(average.buffers(), model.buffers(), strict=True):
        held.copy_(now)


# ── the discriminator's side ─────────────────────────────────────────────────────────────────────


def discriminator_adam(discriminator: Judge, recipe: AdversarialRecipe) -> Adam:
    """The recipe's rate is that of equalized weights; a discriminator of patches has plain ones."""
    if isinstance(discriminator, PatchDiscriminator):
        rate = recipe.lr / EQUALIZED_SHARE
        return lazy_adam(discriminator.parameters(), rate, recipe.r1_every, PATCH_BETA1)
    return lazy_adam(discriminator.parameters(), recipe.lr, recipe.r1_every)


class Adversary:
    """A discriminator in training, and what it sees."""

    def __init__(
        self, discriminator: Judge, recipe: AdversarialRecipe, weight: float = 1.0
    ) -> None:
        self.discriminator, self.recipe, self.weight = discriminator, recipe, weight
        self.optimizer = discriminator_adam(discriminator, recipe)
        self.ada = AdaptiveAugmentation(recipe.ada_target, recipe.ada_images, recipe.augment_p)

    def see(self, images: Tensor, draws: Draws) -> Tensor:
        """Pictures as the discriminator gets them."""
        return augment(images, self.ada.p, draws) if self.ada.p > 0 else images

    def judge(self, images: Tensor, draws: Draws) -> Tensor:
        """Scores of pictures, (B, 1); of patches (B, P)."""
        scores: Tensor = self.discriminator(self.see(images, draws))
        return scores

    def phases(
        self, iteration: int, make_fakes: MakeFakes, make_real: MakeReal | None = None
    ) -> list[Phase]:
        """`d` always, `r1` every so often.

        Args:
            make_real: the real pictures, if they are not the batch's.
        """
        real = make_real or _batch_images

        def loss(batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
            with torch.no_grad():
                fakes = make_fakes(batch, draws)
                seen = real(batch, draws)
            return self._loss(seen, fakes, draws)

        def penalty(batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
            with torch.no_grad():
                seen = real(batch, draws)
            return self._penalty(seen, draws)

        found = [Phase(name="d", optimizer="d", loss=loss, after=self._after)]
        if self.recipe.r1_every and iteration % self.recipe.r1_every == 0:
            found.append(Phase(name="r1", optimizer="d", loss=penalty))
        return found

    def _loss(self, real: Tensor, fakes: Sequence[Tensor], draws: Draws) -> tuple[Tensor, Scalars]:
        # each kind by itself: the discriminator looks at the spread within a batch
        fake_scores = torch.cat([self.judge(fake, draws) for fake in fakes])
        real_scores = self.judge(real, draws)
        loss = discriminator_loss(real_scores, fake_scores)
        scalars = {
            "d": loss.detach(),
            "score/real": real_scores.detach().mean(),
            "score/fake": fake_scores.detach().mean(),
            "sign/real": real_scores.detach().sign().mean(),
            "ada/p": real_scores.new_tensor(self.ada.p),
        }
        return self.weight * loss, scalars

    def _penalty(self, real: Tensor, draws: Draws) -> tuple[Tensor, Scalars]:
        real = real.detach().requires_grad_()
        with torch.autocast(real.device.type, enabled=False):
            scores = self.judge(real, draws)
            r1 = r1_penalty(scores, real)
        share = PATCH_R1 if isinstance(self.discriminator, PatchDiscriminator) else 1.0
        loss = share * self.recipe.r1_gamma / 2 * self.recipe.r1_every * r1
        return loss + 0.0 * scores.sum(), {"r1": r1.detach()}  # zeros for biases: Adam moves on

    def _after(self, scalars: Mapping[str, float]) -> None:
        if self.recipe.augment and self.recipe.augment_p == 0:
            self.ada.update(scalars["sign/real"], self.recipe.batch_size)


def _batch_images(batch: Batch, draws: Draws) -> Tensor:
    return batch.images


# ── path length ──────────────────────────────────────────────────────────────────────────────────


class PathLength:
    """The path length penalty and its running mean.

    Args:
        rows: rows of the code that can move the picture.
    """

    def __init__(self, recipe: AdversarialRecipe, rows: slice = slice(None)) -> None:
        self.recipe, self.rows, self.mean = recipe, rows, 0.0

    def phases(self, iteration: int, make: MakePath) -> list[Phase]:
        """`path` every so often, on the first 1 / path_shrink of the batch."""
        if not self.recipe.path_every or iteration % self.recipe.path_every:
            return []

        def loss(batch: Batch, draws: Draws, across: Across) -> tuple[Tensor, Scalars]:
            part = batch.first(max(1, len(batch.rows) // self.recipe.path_shrink))
            with torch.autocast(batch.images.device.type, enabled=False):
                images, ws = make(part, draws)
                lengths = path_lengths(images, ws, draws.normal(*images.shape), self.rows)
            penalty, mean = path_penalty(lengths, self.mean, across.mean)
            weight = self.recipe.path_weight * self.recipe.path_every
            scalars = {"path": penalty.detach(), "path/length": lengths.detach().mean()}
            return weight * penalty + 0.0 * images.sum(), scalars | {"path/mean": mean}

        return [Phase(name="path", optimizer="g", loss=loss, couples=True, after=self._after)]

    def _after(self, scalars: Mapping[str, float]) -> None:
        self.mean = scalars["path/mean"]


# ── random codes ─────────────────────────────────────────────────────────────────────────────────


def random_ws(generator: Generator, batch: int, mixing: float, draws: Draws) -> Tensor:
    """Codes in W+ from one z or, with probability `mixing`, two that cross at a random row.

    Returns:
        (batch, L, D).
    """
    count = 2 if draws.shared_chance(mixing) else 1
    z = draws.normal(batch, count, generator.config.style_dim)
    ws = generator.random_ws(z.flatten(0, 1))
    if count == 1:
        return ws
    index = draws.shared_integer(1, generator.layout.num_latents - 1)
    return generator.mix(ws[::2], ws[1::2], index)
