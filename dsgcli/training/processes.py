"""Several processes that train as one: `torchrun --nproc-per-node N -m dsgcli train RECIPE`.

Flow: torchrun's environment -> Processes -> averaged gradients, sums, agreement.
gloo on CPUs, NCCL on GPUs. Gradients are averaged after the backward pass, in buckets, and not by a
wrapper around the networks: the penalties differentiate twice, and an iteration has several
optimizer steps that each touch a part of the networks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

CPU = torch.device("cpu")
PATIENCE = timedelta(days=7)
"""How long processes wait for the first one, which destylizes alone."""
TOGETHER = ("base", "encoder", "finetune", "pretrain", "transfer")
"""Stages that several processes run together; the others are the first one's, who is waited for."""
BUCKET_BYTES = 32 * 2**20
"""Gradients are averaged in pieces of about this size: few calls, little extra memory."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """This process among its peers. Also the `Across` of a stage's losses."""

    rank: int = 0
    count: int = 1
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        """The first process alone writes files and talks to people."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """Mean over processes, differentiable."""
        if self.count == 1:
            return value
        mean = _Mean.apply(value, self.count)  # type: ignore[no-untyped-call]
        return cast(Tensor, mean)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over processes."""
        if self.count == 1:
            return
        for bucket in _buckets(p.grad for p in parameters if p.grad is not None):
            flat = torch.cat([g.reshape(-1) for g in bucket])
            dist.all_reduce(flat)
            flat /= self.count
            means = torch.split(flat, [g.numel() for g in bucket])
            for gradient, mean in zip(bucket, means, strict=True):
                gradient.copy_(mean.view_as(gradient))

    def average(self, scalars: Mapping[str, float]) -> dict[str, float]:
        """Mean over processes of each number; all processes give the same names."""
        if self.count == 1 or not scalars:
            return dict(scalars)
        values = torch.tensor(list(scalars.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(values)
        return dict(zip(scalars, (values / self.count).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """True if it is true in any process: how they agree to stop."""
        if self.count == 1:
            return flag
        value = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value.item())

    def share(self, modules: Iterable[nn.Module]) -> None:
        """Give every process the first one's weights and buffers."""
        if self.count == 1:
            return
        for module in modules:
            for value in module.state_dict().values():
                whole = value.contiguous()
                dist.broadcast(whole, src=0)
                value.copy_(whole)

    def wait(self) -> None:
        """Until every process has come here."""
        if self.count > 1:
            dist.barrier()


class _Mean(torch.autograd.Function):
    """Mean over processes. Each process has a loss of its own that depends on the mean, and their
    gradients are averaged afterwards: so the gradient of a mean is the mean of the gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, count: int) -> Tensor:
        ctx.count = count
        return _mean(value, count)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _mean(gradients[0], ctx.count), None


def _mean(value: Tensor, count: int) -> Tensor:
    total = value.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total / count


def _buckets(gradients: Iterable[Tensor]) -> Iterator[Sequence[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        bucket.append(gradient)
        size += gradient.numel() * gradient.element_size()
        if size >= BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


def planned_count() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(device: torch.device) -> ProcessGroup:
    """Join the processes that torchrun started, or be the only one."""
    if planned_count() == 1:
        return ProcessGroup(device=device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
    return ProcessGroup(dist.get_rank(), dist.get_world_size(), device)


def leave(processes: ProcessGroup) -> None:
    """Part from the others; without it, torch warns at exit."""
    if processes.count > 1 and dist.is_initialized():
        dist.destroy_process_group()
