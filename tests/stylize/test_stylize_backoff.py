"""Batches that shrink when memory runs out."""

from __future__ import annotations

import pytest
import torch

from dsgcli.errors import DsgError
from dsgcli.memory import is_out_of_memory
from dsgcli.stylize.backoff import Batches


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate "
                      "memory: you tried to allocate 4000 bytes. Error code 12"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GiB)"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
    ],
)  # fmt: skip
def test_lack_of_memory_is_known_by_what_torch_says(error, is_one):
    assert is_out_of_memory(error) == is_one


def fitting(limit, tried):
    """Doubles numbers, up to `limit` at a time."""

    def function(batch):
        tried.append(len(batch))
        if len(batch) > limit:
            raise torch.OutOfMemoryError
        return [2 * item for item in batch]

    return function


@pytest.mark.parametrize("limit", [1, 3, 5, 8, 100])
@pytest.mark.parametrize("count", [0, 1, 7, 16, 21])
def test_all_items_come_out_in_order_whatever_fits(limit, count):
    assert Batches(8).run(fitting(limit, []), range(count)) == [2 * i for i in range(count)]


def test_what_did_not_fit_once_is_not_tried_again():
    batches, tried = Batches(8), []
    batches.run(fitting(2, tried), range(20))
    batches.run(fitting(2, tried), range(20))
    assert tried == [8, 4] + [2] * 20
    assert batches.size == 2


def test_a_short_batch_that_does_not_fit_is_halved_too():
    tried = []
    assert len(Batches(100).run(fitting(2, tried), range(6))) == 6
    assert tried == [6, 3, 1, 1, 1, 1, 1, 1]


def test_a_single_item_that_does_not_fit_is_an_error_with_advice():
    with pytest.raises(DsgError, match="--size"):
        Batches(4).run(fitting(0, []), range(4))


def test_other_errors_pass():
    def broken(batch):
        raise RuntimeError("no such layer")

    with pytest.raises(RuntimeError, match="no such layer"):
        Batches(4).run(broken, range(4))
