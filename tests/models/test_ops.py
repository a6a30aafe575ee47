"""The building blocks: agreement with the published ones, and what must hold for any numbers."""

import math

import pytest
import torch
from reference import golden
from torch.autograd import gradcheck, gradgradcheck

from dsgcli.models.layers import StyledConv, ToRGB
from dsgcli.models.ops import (
    Blur,
    Downsample,
    EqualConv2d,
    EqualLinear,
    ModulatedConv2d,
    PixelNorm,
    Upsample,
    fir_kernel,
    fused_leaky_relu,
    upfirdn2d,
)


@pytest.mark.golden("ops.upfirdn2d")
def test_upfirdn2d_agrees(case_inputs, agree):
    blur = fir_kernel()
    sym6 = torch.from_numpy(golden.expected(golden.case("aug.sym6"), "taps")).float()
    k34 = case_inputs["k34"]
    geometries = {
        "blur_pad21": (blur, 1, 1, (2, 1)),
        "blur_pad11": (blur, 1, 1, (1, 1)),
        "blur_pad22": (blur, 1, 1, (2, 2)),
        "up2_pad21": (blur * 4, 2, 1, (2, 1)),
        "down2_pad11": (blur, 1, 2, (1, 1)),
        "down2_pad22_odd": (blur, 1, 2, (2, 2)),
        "updown_rect": (k34, (2, 3), (3, 2), (1, 2, 3, 0)),
        "neg_pad": (k34, 1, 1, (-1, -2, -1, 0)),
        "up1d_x": (sym6[None, :], (2, 1), 1, (6, 5, 0, 0)),
        "down1d_y": (sym6[:, None], 1, (1, 2), (0, 0, -1, -1)),
    }
    outputs = {
        name: upfirdn2d(case_inputs[f"x_{name}"], *geometry)
        for name, geometry in geometries.items()
    }
    agree({"kernel1331": blur, **outputs})


@pytest.mark.parametrize("up", [1, 2, (2, 3)])
@pytest.mark.parametrize("down", [1, 2, (3, 2)])
@pytest.mark.parametrize("pad", [(0, 0), (2, 1), (-1, 2, 3, -1)])
def test_upfirdn2d_is_what_its_sentence_says(up, down, pad):
    """Zeros inserted, padded, filtered and thinned out, each step by itself."""
    x, kernel = torch.randn(2, 3, 8, 7), torch.randn(3, 4)
    (up_x, up_y), (down_x, down_y) = ((f, f) if isinstance(f, int) else f for f in (up, down))
    x0, x1, y0, y1 = pad if len(pad) == 4 else (*pad, *pad)
    zeros = torch.zeros(2, 3, 8 * up_y, 7 * up_x)
    zeros[:, :, ::up_y, ::up_x] = x
    padded = torch.nn.functional.pad(zeros, (x0, x1, y0, y1))
    weight = kernel.flip((0, 1)).expand(3, 1, 3, 4)
    expected = torch.nn.functional.conv2d(padded, weight, groups=3)[:, :, ::down_y, ::down_x]
    torch.testing.assert_close(upfirdn2d(x, kernel, up, down, pad), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "geometry", [(1, 1, (2, 1)), (2, 1, (2, 1)), (1, 2, (1, 1)), ((1, 2), (2, 1), (-1, 2, 3, 0))]
)
def test_upfirdn2d_has_two_derivatives(geometry):
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(4, 3, dtype=torch.float64)
    assert gradcheck(lambda x: upfirdn2d(x, kernel, *geometry), x)
    assert gradgradcheck(lambda x: upfirdn2d(x, kernel, *geometry).square(), x)


def test_upsample_keeps_a_flat_map_flat():
    x = torch.full((1, 2, 8, 8), 3.0)
    inside = Upsample()(x)[:, :, 2:-2, 2:-2]
    torch.testing.assert_close(inside, torch.full_like(inside, 3.0))


@pytest.mark.golden("ops.fused_leaky_relu")
def test_fused_leaky_relu_agrees(case_inputs, agree):
    x4, x2, bias = case_inputs["x4"], case_inputs["x2"], case_inputs["b"]
    agree(
        {
            "y4": fused_leaky_relu(x4, bias),
            "y2": fused_leaky_relu(x2, bias),
            "y4_nobias": fused_leaky_relu(x4),
        }
    )


@pytest.mark.golden("ops.pixelnorm_equal")
def test_pixelnorm_and_equalized_layers_agree(case_inputs, agree):
    x, weight, bias = case_inputs["x"], case_inputs["w"], case_inputs["b"]

    def linear(**options):
        layer = EqualLinear(16, 8, **options)
        layer.load_state_dict({"weight": weight, "bias": bias})
        return layer(x).detach()

    conv = EqualConv2d(4, 6, 3, stride=2, padding=1)
    conv.load_state_dict({"weight": case_inputs["cw"], "bias": case_inputs["cb"]})
    agree(
        {
            "pixelnorm": PixelNorm()(x),
            "lin": linear(),
            "lin_act": linear(activation=True),
            "lin_mul": linear(lr_mul=0.01, activation=True),
            "conv": conv(case_inputs["cx"]).detach(),
        }
    )


@pytest.mark.golden("ops.blur_modules")
def test_blur_modules_agree(case_inputs, agree):
    x = case_inputs["x"]
    agree(
        {
            "upsample": Upsample()(x),
            "downsample": Downsample()(x),
            "blur_up": Blur((1, 1), up=2)(x),
            "blur": Blur((2, 2))(x),
        }
    )


def modulated(inputs, weight, out=5, size=3, **options):
    conv = ModulatedConv2d(6, out, size, 12, **options)
    state = {"modulation.weight": inputs["mod_w"], "modulation.bias": inputs["mod_b"]}
    conv.load_state_dict({"weight": weight, **state}, strict=False)
    return conv


def gradients(conv, inputs, cotangent):
    x, style = (inputs[name].clone().requires_grad_() for name in ("x", "s"))
    targets = (x, style, conv.weight)
    return torch.autograd.grad((conv(x, style) * cotangent).sum(), targets)


@pytest.mark.golden("ops.modconv")
def test_modulated_conv_and_its_gradients_agree(case_inputs, agree):
    """Ours has one form, so it stands for the published fused and unfused branch alike; a weight
    from outside is added by the caller."""
    x, style, weight = case_inputs["x"], case_inputs["s"], case_inputs["weight"]
    plain, up = modulated(case_inputs, weight), modulated(case_inputs, weight, up=True)
    others = {
        "down3": modulated(case_inputs, weight, down=True),
        "plain3_nodemod": modulated(case_inputs, weight, demodulate=False),
        "plain3_ext": modulated(case_inputs, weight + case_inputs["ext"]),
        "rgb1": modulated(case_inputs, case_inputs["rgb_w"], 3, 1, demodulate=False),
    }
    with torch.no_grad():
        agree({name: conv(x, style) for name, conv in others.items()})
        agree(dict.fromkeys(("plain3", "plain3_unfused"), plain(x, style)))
        agree(dict.fromkeys(("up3", "up3_unfused"), up(x, style)))
    for name, conv in (("plain3", plain), ("up3", up)):
        grads = gradients(conv, case_inputs, case_inputs[f"cot_{name}"])
        agree(dict(zip((f"{name}.gx", f"{name}.gs", f"{name}.gw"), grads, strict=True)))


@pytest.mark.parametrize("options", [{}, {"up": True}, {"down": True}, {"demodulate": False}])
def test_modulated_conv_is_a_convolution_with_scaled_weights(options):
    """The paper's definition: scale the weights by the style, normalize them, convolve."""
    conv = ModulatedConv2d(6, 5, 3, 12, **options).double()
    x, style = torch.randn(1, 6, 8, 8).double(), torch.randn(1, 12).double()
    weight = conv.weight[0] * conv.scale * conv.modulation(style)[0, None, :, None, None]
    if conv.demodulate:
        weight = weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
    if conv.up:
        expected = conv.blur(
            torch.nn.functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        )
    elif conv.down:
        expected = torch.nn.functional.conv2d(conv.blur(x), weight, stride=2)
    else:
        expected = torch.nn.functional.conv2d(x, weight, padding=1)
    torch.testing.assert_close(conv(x, style), expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"up": True}, {"down": True}])
def test_modulated_conv_has_two_derivatives(options):
    conv = ModulatedConv2d(2, 3, 3, 4, **options).double()
    x, style = torch.randn(1, 2, 4, 4).double(), torch.randn(1, 4).double()
    inputs = x.requires_grad_(), style.requires_grad_()
    assert gradcheck(conv, inputs)
    assert gradgradcheck(conv, inputs)


def test_modulated_conv_keeps_the_variance_of_its_input():
    """The reason for demodulation: any style gives outputs of unit variance."""
    conv = ModulatedConv2d(64, 64, 3, 16)
    y = conv(torch.randn(4, 64, 32, 32), 10 * torch.randn(4, 16))
    assert y.std(dim=(1, 2, 3)).allclose(torch.ones(4), atol=0.1)


@pytest.mark.golden("ops.styledconv_torgb")
def test_styled_conv_and_to_rgb_agree(case_inputs, agree, fill_network):
    x, style = case_inputs["x"], case_inputs["s"]
    styled = fill_network(StyledConv(6, 5, 12, up=True), "sc", "stylegan")
    to_rgb = fill_network(ToRGB(5, 12, up=True), "rgb", "stylegan")
    with torch.no_grad():
        y = styled(x, style, case_inputs["noise"])
        agree({"styled": y, "rgb": to_rgb(y, style, case_inputs["skip"])})
        agree({"rgb_noskip": to_rgb(y, style)})


def test_equalized_layers_start_with_unit_variance():
    x = torch.randn(4096, 256)
    assert math.isclose(EqualLinear(256, 256)(x).std().item(), 1.0, rel_tol=0.05)
    assert math.isclose(EqualLinear(256, 256).weight.std().item(), 1.0, rel_tol=0.05)
    assert math.isclose(EqualLinear(256, 256, lr_mul=0.01).weight.std().item(), 100, rel_tol=0.05)
