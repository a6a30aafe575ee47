"""Stage `sampler`: from noise to extrinsic codes of a style (Yang et al., section 3.4).

Flow: the style's codes, repeated with jitter -> for each, the nearest code that the network makes
of random noise is pulled towards it -> StyleSampler. Matching from data to samples covers every
exemplar, where an adversarial loss would drop some (implicit maximum likelihood, Li and Malik,
arXiv:1809.09087).

Shapes: N rows of data, D width of a flat code (structure or color), E width of the noise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from dsgcli.models.style_sampler import SamplerConfig, SamplingNet, StyleSampler
from dsgcli.recipe import SamplerRecipe
from dsgcli.store.write import save_sampler
from dsgcli.training.stage import RunContext, seeded_generator
from dsgcli.training.stages.codes import by_style, open_codes
from dsgcli.types import LatentLayout

BETAS = (0.5, 0.999)
CANDIDATES = 2
"""Codes that are made in an epoch, for each row of data."""

SETTLING_NOISES = 10_000
"""Noises whose statistics the batch norms keep for inference."""


def jittered(codes: Tensor, rows: int, jitter: float, noise: Callable[..., Tensor]) -> Tensor:
    """Codes (N, D) repeated to about `rows` rows, at least once each, with noise (repeats * N, D).

    (The published script repeats more than a thousand codes zero times: docs/differences.md, 19.)
    """
    repeats = max(1, rows // len(codes))
    data = codes.repeat(repeats, 1)
    return data + jitter * noise(*data.shape)


def num_epochs(row_updates: int, rows: int) -> int:
    """Epochs in which so many rows are seen."""
    return max(1, row_updates // rows)


def nearest(data: Tensor, made: Tensor) -> Tensor:
    """(N,): for each row of (N, D), the row of (M, D) at the smallest distance."""
    squares = made.square().sum(dim=1)[None] - 2.0 * data @ made.T  # + |data|^2, the same for all
    return squares.argmin(dim=1)


def train_epoch(
    net: SamplingNet, data: Tensor, noise: Tensor, order: Tensor, recipe: SamplerRecipe, lr: float
) -> tuple[Tensor, list[float]]:
    """One epoch: make codes, match, regress; a new Adam each time, as published.

    Args:
        data: (N, D).
        noise: (batches, batch, E): each batch is normalized by itself.
        order: (N,) permutation of the rows; the remainder of the last batch is left out.

    Returns:
        (N,) numbers of the nearest noises, and the loss of each batch.
    """
    net.train()
    with torch.no_grad():
        made = torch.cat([net(batch) for batch in noise])
    matched = nearest(data, made)
    best = noise.flatten(0, 1)[matched]  # (N, E)
    optimizer = Adam(net.parameters(), lr=lr, betas=BETAS, weight_decay=recipe.weight_decay)
    losses = []
    batch = noise.shape[1]
    for rows in order[: len(order) // batch * batch].split(batch):
        loss = F.mse_loss(net(best[rows]), data[rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return matched, losses


def fit_net(
    net: SamplingNet,
    data: Tensor,
    recipe: SamplerRecipe,
    key: str,
    after: Callable[[int], None],
) -> None:
    """All epochs of one network; draws are a function of (`key`, epoch)."""
    batch = min(recipe.batch_size, len(data))
    batches = CANDIDATES * (len(data) // batch)
    for epoch in range(num_epochs(recipe.row_updates, len(data))):
        rng = seeded_generator(f"{key}/{epoch}")
        noise = torch.randn(batches, batch, recipe.noise_dim, generator=rng).to(data.device)
        order = torch.randperm(len(data), generator=rng).to(data.device)
        lr = recipe.lr * 0.5 ** (epoch // recipe.half_life_epochs)
        train_epoch(net, data, noise, order, recipe, lr)
        after(epoch + 1)


@torch.no_grad()
def settle_statistics(net: SamplingNet, noise: Tensor) -> None:
    """Set the batch norms' statistics to those of random noise (M, E), layer by layer.

    In training, the last batches are noises that were matched to data, which are not like those
    that the sampler will be given.
    """
    norms = (net.bn1, net.bn2)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0  # the next batch's statistics, whole
    net.train()(noise)
    for norm in norms:
        norm.momentum = 0.1
    net.eval()


def fit_sampler(
    codes: Tensor,
    layout: LatentLayout,
    recipe: SamplerRecipe,
    seed: int,
    after: Callable[[int, int], None] = lambda done, total: None,
) -> StyleSampler:
    """The sampler of codes (N, L, D) in Z+, on their device and ready for inference.

    Args:
        after: told how many epochs of how many are done.
    """
    torch.manual_seed(seed)
    config = SamplerConfig(layout=layout, style_dim=codes.shape[2], noise_dim=recipe.noise_dim)
    sampler = StyleSampler(config).to(codes.device)
    rng = seeded_generator(f"{seed}/sampler")
    flat = jittered(
        codes.flatten(1),
        recipe.rows,
        recipe.jitter,
        lambda *shape: torch.randn(*shape, generator=rng).to(codes.device),
    )
    data = flat.unflatten(1, codes.shape[1:])
    epochs = num_epochs(recipe.row_updates, len(data))
    halves = {"color": layout.color, "structure": layout.structure}
    for half, (name, rows) in enumerate(halves.items()):
        done = half * epochs
        fit_net(
            getattr(sampler, name),
            data[:, rows].flatten(1),
            recipe,
            f"{seed}/sampler/{name}",
            partial(_tell, after, done, 2 * epochs),
        )
        noise = torch.randn(SETTLING_NOISES, recipe.noise_dim, generator=rng).to(codes.device)
        settle_statistics(getattr(sampler, name), noise)
    return sampler.eval()


def _tell(after: Callable[[int, int], None], done: int, total: int, epoch: int) -> None:
    after(done + epoch, total)


class SamplerStage:
    """From a style's codes, refined if they are, to a sampler of such; codes of several styles,
    whose names begin with a style each, to a sampler a style."""

    name = "sampler"
    needs: tuple[str, ...] = ("codes",)
    makes: tuple[str, ...] = ("sampler",)

    def run(self, context: RunContext) -> None:
        recipe, codes = context.recipe.sampler, open_codes(context)
        assert recipe is not None, "the stage runs only if the recipe has its table"
        for style, own in by_style(codes).items():
            sampler = fit_sampler(
                own.default.to(context.device),
                LatentLayout.of_rows(own.default.shape[1], context.recipe.model.last_structure),
                recipe,
                context.recipe.run.seed,
                context.advance,
            )
            save_sampler(context.target(sampler_name(style)), sampler)


def sampler_name(style: str) -> str:
    """The artifact of a style's sampler; "" is the only style of a run."""
    return f"sampler-{style}" if style else "sampler"
