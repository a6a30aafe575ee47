"""Operations that couple the samples of a batch, however the batch is split.

Flow: parts of a batch (micro-batches, processes) -> the loss and gradient of the whole batch.

Most losses are means over samples, which parts can be summed up from. Two things are not: means
inside a loss (`Across`: the path length, the center of contextual features), and batch norms. Over
processes both are summed up as they are needed. Over micro-batches, of which only one is in memory,
the first are found by looking at all parts before any is descended on; the second would need as
many looks as there are norms, so stages with batch norms refuse micro-batches before they start
(`preflight.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dsgcli.training.stage import Across, Batch

LossOf = Callable[[Batch, Across], Tensor]
"""A part of the batch -> its loss."""

# ── means over micro-batches ─────────────────────────────────────────────────────────────────────


def joined(peers: Across, parts: Sequence[Batch], loss_of: LossOf) -> Across:
    """An `Across` that makes the parts' losses those of the whole batch, over all processes.

    With m = mean_j v_j and L = mean_j L_j(v_j, m), the gradient that reaches v_j through m is
    mean_k dL_k/dm over the number of parts: m is found in a first look at all parts, dL_k/dm in a
    second one, which only means that carry a gradient need.

    Args:
        peers: over processes.
        loss_of: may call `mean` several times, with values that do not depend on earlier means;
            the same each time it is called.
    """
    heard = [_Heard() for _ in parts]
    for part, across in zip(parts, heard, strict=True):
        loss_of(part, across)
    means = [
        peers.mean(_mean_of(values)) for values in zip(*(h.values for h in heard), strict=True)
    ]
    if not any(h.moving for h in heard):
        return _Given(means)
    slopes: list[list[Tensor]] = []
    for part in parts:
        leaves = [mean.clone().requires_grad_() for mean in means]
        loss = loss_of(part, _Given(leaves))
        found = torch.autograd.grad(loss, leaves, materialize_grads=True)
        slopes.append(list(found))
    shares = [peers.mean(_mean_of(each)) / len(parts) for each in zip(*slopes, strict=True)]
    return _Given(means, shares)


def _mean_of(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(dim=0)


class _Heard:
    """`Across` that writes down what it is asked."""

    def __init__(self) -> None:
        self.values: list[Tensor] = []
        self.moving = False

    def mean(self, value: Tensor) -> Tensor:
        self.values.append(value.detach())
        self.moving |= value.requires_grad
        return value


class _Given:
    """`Across` that knows the answers, in the order of the questions, again for each part.

    Args:
        shares: what each mean hands back to a part's value; without them, the means are leaves or
            constants.
    """

    def __init__(self, means: Sequence[Tensor], shares: Sequence[Tensor] | None = None) -> None:
        self.means, self.shares, self._asked = means, shares, 0

    def mean(self, value: Tensor) -> Tensor:
        place = self._asked % len(self.means)
        self._asked += 1
        if self.shares is None:
            return self.means[place]
        answer = _Answer.apply(value, self.means[place], self.shares[place])  # type: ignore[no-untyped-call]
        return cast(Tensor, answer)


class _Answer(torch.autograd.Function):
    """The whole batch's mean forward, the whole batch's slope backward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, mean: Tensor, share: Tensor) -> Tensor:
        ctx.save_for_backward(share)
        return mean.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (share,) = ctx.saved_tensors
        return share, None, None


class Uncoupled:
    """`Across` of a phase that has not said that it couples samples."""

    def mean(self, value: Tensor) -> Tensor:
        raise AssertionError("a phase whose loss calls across.mean says couples=True")


# ── batch norms over processes ───────────────────────────────────────────────────────────────────


def batch_norms(modules: Iterable[nn.Module]) -> list[_BatchNorm]:
    """All batch norms in these networks."""
    return [part for module in modules for part in module.modules() if isinstance(part, _BatchNorm)]


@contextmanager
def shared_statistics(modules: Iterable[nn.Module], across: Across, count: int) -> Iterator[None]:
    """Within it, batch norms in training mode take statistics over all `count` processes, which
    have parts of one size. torch has this for accelerators alone."""
    norms = batch_norms(modules) if count > 1 else []
    for norm in norms:
        norm.forward = partial(_normalize, norm, across, count)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalize(norm: _BatchNorm, across: Across, count: int, x: Tensor) -> Tensor:
    """Batch norm (Ioffe and Szegedy, arXiv:1502.03167, algorithm 1) of (B, C, ...)."""
    if not norm.training:
        return type(norm).forward(norm, x)
    assert norm.running_mean is not None and norm.running_var is not None
    assert norm.momentum is not None and norm.num_batches_tracked is not None
    others = [0, *range(2, x.ndim)]
    shape = [1, -1] + [1] * (x.ndim - 2)
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    mean = across.mean(exact.mean(dim=others))
    centered = exact - mean.view(shape)
    variance = across.mean(centered.square().mean(dim=others))
    with torch.no_grad():
        number = count * x.numel() / x.shape[1]
        norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
        unbiased = variance * (number / (number - 1))
        norm.running_var.lerp_(unbiased.to(norm.running_var), norm.momentum)
        norm.num_batches_tracked += 1
    scale = torch.rsqrt(variance + norm.eps) * norm.weight
    return (centered * scale.view(shape) + norm.bias.view(shape)).to(x.dtype)
