"""Winograd's convolution is the convolution."""

import pytest
import torch
from torch.nn import functional as F

from dsgcli.inference import winograd


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (2, 5, 8, 12), (1, 64, 64, 32)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_winograd_convolves(shape, with_bias):
    x = torch.randn(shape).to(memory_format=torch.channels_last)
    weight, bias = torch.randn(7, shape[1], 3, 3), torch.randn(7) if with_bias else None
    y = winograd.convolve(x, winograd.transform_weight(weight), bias)
    expected = F.conv2d(x, weight, bias, padding=1)
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, expected, atol=1e-4 * expected.abs().max().item(), rtol=0)


def test_winograd_gives_the_same_in_pieces():
    """Large maps go through it some rows of tiles at a time: this one in two pieces."""
    x = torch.randn(1, 32, 256, 256).to(memory_format=torch.channels_last)
    weight = torch.randn(4, 32, 3, 3)
    y = winograd.convolve(x, winograd.transform_weight(weight), None)
    torch.testing.assert_close(y, F.conv2d(x, weight, padding=1), atol=1e-3, rtol=1e-4)


def test_winograd_is_exact_in_float64():
    x, weight = torch.randn(1, 4, 8, 8).double(), torch.randn(4, 4, 3, 3).double()
    y = winograd.convolve(x, winograd.transform_weight(weight), None)
    torch.testing.assert_close(y, F.conv2d(x, weight, padding=1), atol=1e-11, rtol=0)
