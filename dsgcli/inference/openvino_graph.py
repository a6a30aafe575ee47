"""Networks written as OpenVINO graphs, layer by layer, from weights where they lie.

OpenVINO can also trace a torch module; that takes 10 to 20 seconds for these networks and a copy of
their weights, where this takes none. `tests/inference` hold both networks to their torch form.

Data flow: `DynamicGenerator`, `FoldedEncoder` or `FoldedTranslator` -> Model, for one picture at a
time: on a CPU a batch gains nothing, and each picture is the same to the bit whatever is drawn with
it.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import openvino as ov
import openvino.opset13 as op
import torch
from torch import Tensor

from dsgcli.inference.dynamic_style import (
    DynamicConv,
    DynamicGenerator,
    DynamicResidual,
    DynamicToRGB,
)
from dsgcli.inference.encoder import (
    ConvNorm,
    FoldedEncoder,
    FoldedUnit,
    HeadBatch,
    PatchProduct,
)
from dsgcli.inference.generator import INSTANCE_EPSILON
from dsgcli.inference.translator import FoldedConv, FoldedTranslator
from dsgcli.models.encoder import HEAD_SLOPE
from dsgcli.models.ops import LEAKY_SLOPE
from dsgcli.models.translator import SLOPE

Node = Any
"""A node of the graph, or one of its outputs."""

MAP_AXES = np.array([2, 3])

# ── pieces ───────────────────────────────────────────────────────────────────────────────────────


def constant(values: Tensor) -> Node:
    """A constant in the memory of `values`, where that is possible."""
    array = np.ascontiguousarray(values.detach().float().cpu().numpy())
    return op.constant(array, shared_memory=True)


def convolve(x: Node, weight: Tensor, stride: int = 1, padding: int = 0) -> Node:
    """(1, in, H, W), (out, in, k, k) -> (1, out, H', W')."""
    return op.convolution(x, constant(weight), [stride] * 2, [padding] * 2, [padding] * 2, [1] * 2)


def leaky(x: Node, slope: float) -> Node:
    return op.prelu(x, op.constant(np.array([slope], np.float32)))


def per_channel(values: Tensor) -> Node:
    """(C,) -> a constant (1, C, 1, 1)."""
    return constant(values.detach().view(1, -1, 1, 1))


# ── the generator ────────────────────────────────────────────────────────────────────────────────


def generator_model(network: DynamicGenerator) -> ov.Model:
    """Modulation (1, N) -> picture (1, 3, S, S)."""
    modulation = op.parameter([1, sum(network.sizes)], np.float32, name="modulation")
    whole = op.reshape(modulation, op.constant(np.array([1, -1, 1, 1])), False)
    lengths = op.constant(np.array(network.sizes))
    parts = iter(op.variadic_split(whole, op.constant(np.int64(1)), lengths).outputs())
    x, rgb = constant(network.start), None
    for layer in network.layers.values():
        mine = [next(parts) for _ in cast(DynamicConv, layer).sizes]
        if isinstance(layer, DynamicToRGB):
            rgb = _to_rgb(layer, x, rgb, *mine)
        elif isinstance(layer, DynamicResidual):
            x = _mod_res(layer, x, *mine)
        else:
            x = _conv(cast(DynamicConv, layer), x, *mine)
    return ov.Model([op.result(rgb)], [modulation], "generator")


def _conv(layer: DynamicConv, x: Node, scales: Node, gains: Node) -> Node:
    x = op.multiply(x, scales)
    if layer.up:
        y = op.convolution_backprop_data(x, constant(layer.weight), [2, 2])
        fir = constant(layer.fir.unsqueeze(1))  # (groups, 1, 1, 4, 4)
        y = op.group_convolution(y, fir, [1, 1], [1, 1], [1, 1], [1, 1])
    else:
        y = convolve(x, layer.weight, padding=1)
    y = op.add(op.multiply(y, gains), constant(layer.bias))
    if layer.noise.any():
        y = op.add(y, constant(layer.noise))
    return leaky(y, LEAKY_SLOPE)


def _mod_res(layer: DynamicResidual, x: Node, *values: Node) -> Node:
    y = x
    for stage in range(2):
        gamma, beta = values[2 * stage : 2 * stage + 2]
        y = op.mvn(y, op.constant(MAP_AXES), True, INSTANCE_EPSILON, "inside_sqrt")
        y = op.add(op.multiply(y, gamma), beta)
        y = convolve(y, layer.get_buffer(f"weight_{stage}"), padding=1)
        y = leaky(op.add(y, per_channel(layer.get_buffer(f"bias_{stage}"))), LEAKY_SLOPE)
    return op.add(x, op.multiply(y, values[4]))


def _to_rgb(layer: DynamicToRGB, x: Node, rgb: Node | None, scales: Node) -> Node:
    y = op.add(convolve(op.multiply(x, scales), layer.weight), constant(layer.bias))
    if rgb is None:
        return y
    fir = constant(layer.fir.unsqueeze(1))
    larger = op.group_convolution_backprop_data(rgb, fir, [2, 2], None, [1, 1], [1, 1])
    return op.add(larger, y)


# ── the translator ───────────────────────────────────────────────────────────────────────────────


def field_model(network: FoldedTranslator, size_px: int) -> ov.Model:
    """Crop (1, 3, S, S) in [-1, 1] -> the coarse field (1, 2, S/8, S/8) that it is warped by."""
    crop = op.parameter([1, 3, size_px, size_px], np.float32, name="crop")
    x = _fixed(network.shape_content[0], crop)
    y = _fixed(network.shape_content[1], x)
    for block in network.shape_blocks:
        y = _residual(block, y)
    up, merge, field = network.shape_head
    x = leaky(op.add(_doubled(_fixed(up, y)), x), SLOPE)
    return ov.Model([op.result(_fixed(field, _fixed(merge, x)))], [crop], "field")


def translator_model(network: FoldedTranslator, size_px: int) -> ov.Model:
    """Warped crop (1, 3, S, S) in [-1, 1] -> change (1, 3, S, S): the portrait minus the warped
    crop, which must not be rounded to what maps are multiplied in."""
    crop = op.parameter([1, 3, size_px, size_px], np.float32, name="crop")
    x: Node = crop
    skips = []
    for stage in network.content:
        for layer in cast(Any, stage):
            x = _fixed(layer, x)
        skips.append(x)
    x1, x2, x3, x = skips
    for block in network.blocks:
        x = _residual(block, x)
    x = op.add(_doubled(_fixed(network.narrow[0], x)), x3)
    x = _fixed(network.wide[0], leaky(_residual(network.last_block, x), SLOPE))
    for level, skip in ((1, x2), (2, x1)):
        x = leaky(op.add(_doubled(_fixed(network.narrow[level], x)), skip), SLOPE)
        x = _fixed(network.wide[level], x)
    last = op.add(_fixed(network.to_rgb, x), _fixed(network.own_colors, crop))
    change = op.depth_to_space(last, "depth_first", 2)
    return ov.Model([op.result(change)], [crop], "translator")


def _fixed(layer: Any, x: Node) -> Node:
    layer = cast(FoldedConv, layer)
    y = convolve(x, cast(Tensor, layer.kernel), layer.stride, layer.padding)
    y = op.add(y, per_channel(cast(Tensor, layer.bias)))
    return leaky(y, SLOPE) if layer.activate else y


def _residual(block: Any, x: Node) -> Node:
    return op.add(_fixed(block[1], _fixed(block[0], x)), x)


def _doubled(x: Node) -> Node:
    """(1, C, H, W) -> (1, C, 2H, 2W), bilinear about the centers of pixels."""
    scales = op.constant(np.array([2.0, 2.0], np.float32))
    axes = op.constant(MAP_AXES)
    return op.interpolate(x, scales, "linear_onnx", "scales", axes=axes, **_CENTERED)


_CENTERED = {"coordinate_transformation_mode": "half_pixel"}

# ── the encoder ──────────────────────────────────────────────────────────────────────────────────


def encoder_model(network: FoldedEncoder) -> ov.Model:
    """Face (1, 3, P, P) -> codes (1, L, D)."""
    px = network.config.input_px
    face = op.parameter([1, 3, px, px], np.float32, name="face")
    x = _prelu(_folded(network.stem, face), network.relu.slopes)
    taps = []
    for index, unit in enumerate(network.body):
        x = _unit(cast(FoldedUnit, unit), x)
        if index in network.config.taps:
            taps.append(x)
    *larger, coarsest = taps
    pyramid = [coarsest]
    for lateral, tap in zip(network.laterals, reversed(larger), strict=False):
        pyramid.append(op.add(_enlarge(pyramid[-1], tap), _folded(cast(ConvNorm, lateral), tap)))
    codes = [
        _heads(cast(HeadBatch, heads), pyramid[level])
        for level, heads in zip(network.levels, network.heads, strict=True)
    ]
    if network.missing:
        codes.append(constant(torch.zeros(1, network.missing, network.config.style_dim)))
    whole = op.add(op.concat(codes, 1), constant(network.latent_avg))
    return ov.Model([op.result(whole)], [face], "encoder")


def _folded(layer: ConvNorm, x: Node) -> Node:
    stride, padding = layer.stride[0], layer.padding[0]
    return op.add(convolve(x, layer.weight, stride, padding), per_channel(layer.bias))


def _prelu(x: Node, slopes: Tensor) -> Node:
    return op.prelu(x, constant(slopes))


def _enlarge(x: Node, like: Node) -> Node:
    size = op.constant(np.array([like.get_output_shape(0)[axis] for axis in MAP_AXES]))
    axes = op.constant(MAP_AXES)
    return op.interpolate(x, size, "linear_onnx", "sizes", axes=axes, **_ALIGNED)


_ALIGNED = {"coordinate_transformation_mode": "align_corners"}


def _unit(unit: FoldedUnit, x: Node) -> Node:
    y = op.add(op.multiply(x, constant(unit.scale)), constant(unit.shift))
    y = _prelu(_folded(unit.conv1, y), unit.relu.slopes)
    y = _folded(unit.conv2, y)
    means = op.reduce_mean(y, op.constant(MAP_AXES), True)  # squeeze and excite
    squeezed = op.relu(convolve(means, unit.excite.squeeze[:, :, None, None]))
    y = op.multiply(y, op.sigmoid(convolve(squeezed, unit.excite.widen[:, :, None, None])))
    if isinstance(unit.shortcut, ConvNorm):
        return op.add(y, _folded(unit.shortcut, x))
    return op.add(y, _every(x, unit.stride))


def _every(x: Node, stride: int) -> Node:
    """Each `stride`-th row and column."""
    if stride == 1:
        return x
    begin, end, step = ([0] * 4, [0] * 4, [1, 1, stride, stride])
    return op.strided_slice(x, begin, end, step, begin_mask=[1] * 4, end_mask=[1] * 4)


def _heads(heads: HeadBatch, x: Node) -> Node:
    """(1, C, H, W) -> (1, n, D): n heads, with weights of their own, are groups of one."""
    y = leaky(_folded(heads.first, x), HEAD_SLOPE)
    for later in heads.laters:
        layer = cast(PatchProduct, later)
        kernels = constant(layer.weight.unflatten(2, (-1, 3, 3)))  # (n, out, in, 3, 3)
        y = op.group_convolution(y, kernels, [2, 2], [1, 1], [1, 1], [1, 1])
        y = leaky(op.add(y, per_channel(layer.bias.flatten())), HEAD_SLOPE)
    weight = heads.linear.transpose(1, 2)[..., None, None]  # (n, D, C, 1, 1)
    y = op.group_convolution(y, constant(weight), [1, 1], [0, 0], [0, 0], [1, 1])
    y = op.add(y, per_channel(heads.bias.flatten()))
    return op.reshape(y, op.constant(np.array([1, heads.count, -1])), False)
