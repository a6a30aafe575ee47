"""VGG features and LPIPS: golden cases, and what a distance must be."""

import pytest
import torch

from dsgcli.models.features import LPIPS, VGG16, VGG19


@pytest.fixture(scope="module")
def lpips(fill_network):
    network = LPIPS()
    fill_network(network.vgg, "vgg16", "vgg")
    fill_network(network.heads, "lpips", "lpips_lin")
    return network.eval().requires_grad_(False)


@pytest.mark.golden("vgg19.feats")
@torch.no_grad()
def test_vgg19_maps_agree(case_inputs, agree, fill_network, summarize_map):
    maps = fill_network(VGG19(), "vgg19", "vgg")(case_inputs["x"])
    for index, feature_map in enumerate(maps):
        agree(summarize_map(f"feat{index}", feature_map))


@pytest.mark.golden("lpips")
def test_lpips_and_its_gradient_agree(lpips, case_inputs, agree, summarize_picture):
    a = case_inputs["a"].requires_grad_()
    distance = lpips(a, case_inputs["b"])
    agree({"d": distance.detach()})
    (grad,) = torch.autograd.grad(distance.sum(), a)
    agree(summarize_picture("grad", grad))


@torch.no_grad()
def test_lpips_is_zero_for_itself_and_symmetric(lpips):
    a, b = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    assert lpips(a, a).abs().max() == 0.0
    assert (lpips(a, b) > 0).all()
    torch.testing.assert_close(lpips(a, b), lpips(b, a))


def test_lpips_has_a_gradient_where_a_map_is_empty(lpips):
    """A pixel without any active channel has no direction: no NaN may come from there."""
    empty = LPIPS()
    for parameter in empty.parameters():
        torch.nn.init.zeros_(parameter)
    a = torch.rand(1, 3, 32, 32, requires_grad=True)
    empty(a, torch.rand(1, 3, 32, 32)).sum().backward()
    assert a.grad.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize(("network", "widths"), [(VGG16, 5), (VGG19, 5)])
def test_vgg_maps_halve_from_tap_to_tap(network, widths):
    maps = network().eval()(torch.zeros(1, 3, 32, 32))
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4, 2]
    assert all((m >= 0).all() for m in maps)
    assert len(maps) == widths
