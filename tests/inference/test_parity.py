"""Every backend draws and encodes what the modules do: for any weights, size, batch and style."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest
import torch
from likeness import (
    WEIGHTS,
    codes,
    distance,
    narrow_dual,
    narrow_encoder_config,
    psnr,
    settled,
)
from torch.nn import functional as F

from dsgcli.inference.backend import pick_backend, problem_of
from dsgcli.inference.base import Backend, ExtrinsicStyle
from dsgcli.inference.encoder import FoldedEncoder
from dsgcli.inference.generator import FoldedGenerator
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.encoder import Encoder
from dsgcli.models.stylegan2 import GeneratorConfig
from dsgcli.portraits import MOST_FOLDED, Look, Portraits, load_portraits
from dsgcli.types import StyleRef, StyleWeights

CPU = torch.device("cpu")
HERE = dict.fromkeys(("torch", "openvino", "compile"), CPU)
QUICK = ("torch", "openvino")
"""Backends that are ready in no time; compiling is tried once for each format."""


def backend_of(name: str, dtype: torch.dtype = torch.float32, size_px: int | None = None):
    """The backend, or a skipped test where it cannot be used."""
    device = HERE[name]
    if problem := problem_of(name, device):
        pytest.skip(problem)
    return pick_backend(name, device, dtype, size_px)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


@pytest.fixture
def narrow() -> DualStyleGAN:
    return narrow_dual()


@pytest.fixture
def encoder() -> Encoder:
    """Heads on every map, statistics and slopes that matter."""
    config = narrow_encoder_config(10, head_width=12, latent_avg=True)
    network = settled(Encoder(config))
    network.latent_avg.normal_(std=0.2)
    return network


def draw(backend: Backend, network: DualStyleGAN, ws, exstyle_ws, weights):
    device = HERE[backend.name]
    style = ExtrinsicStyle(exstyle_ws=exstyle_ws.to(device), weights=weights)
    return backend.bind(network.to(device), style)(ws.to(device)).cpu()


# ── generators ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("name", QUICK)
def test_backend_draws_what_the_module_draws(narrow, name, weights):
    ws, exstyle_ws = codes(narrow)
    expected = narrow(ws, exstyle_ws, weights)
    picture = draw(backend_of(name), narrow, ws, exstyle_ws, weights)
    assert picture.dtype == torch.float32 and picture.shape == expected.shape
    assert distance(picture, expected) < 1e-4
    torch.testing.assert_close(
        picture, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item()
    )


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("name", QUICK)
def test_backend_keeps_45_db_in_bf16(narrow, name, weights):
    ws, exstyle_ws = codes(narrow)
    expected = narrow(ws, exstyle_ws, weights)
    picture = draw(backend_of(name, torch.bfloat16), narrow, ws, exstyle_ws, weights)
    assert psnr(picture, expected) > 45


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_torch_keeps_45_db_in_fp16(narrow, weights):
    """Half precision is for GPUs, but a CPU can tell whether its numbers stay in range."""
    ws, exstyle_ws = codes(narrow)
    expected = narrow(ws, exstyle_ws, weights)
    picture = draw(backend_of("torch", torch.float16), narrow, ws, exstyle_ws, weights)
    assert psnr(picture, expected) > 45


@pytest.mark.parametrize("name", QUICK)
def test_backend_draws_the_photographic_generator_by_itself(narrow, name):
    ws, _ = codes(narrow)
    expected, device = narrow.plain(ws), HERE[name]
    picture = backend_of(name).bind(narrow.to(device), None)(ws.to(device)).cpu()
    assert distance(picture, expected) < 1e-4


@pytest.mark.parametrize("size_px", [4, 8, 32])
@pytest.mark.parametrize("name", QUICK)
def test_backend_stops_early(narrow, name, size_px):
    ws, exstyle_ws = codes(narrow)
    expected = draw(backend_of("torch", size_px=size_px), narrow, ws, exstyle_ws, WEIGHTS["ones"])
    picture = draw(backend_of(name, size_px=size_px), narrow, ws, exstyle_ws, WEIGHTS["ones"])
    assert picture.shape[-1] == size_px
    assert distance(picture, expected) < 1e-4


@pytest.mark.parametrize("name", QUICK)
def test_backend_draws_a_style_after_another_on_one_network(narrow, name):
    """Styles, exemplars and weights are numbers: what serves one serves the next."""
    backend, (ws, first) = backend_of(name), codes(narrow)
    for exstyle_ws in (first, torch.randn_like(first)):
        for weights in (WEIGHTS["published"], WEIGHTS["ones"]):
            expected = narrow.cpu()(ws, exstyle_ws, weights)
            assert distance(draw(backend, narrow, ws, exstyle_ws, weights), expected) < 1e-4


@pytest.mark.parametrize("name", QUICK)
def test_backend_follows_the_layout(name):
    config = GeneratorConfig.compact(64, base=512, most=12, style_dim=8, mapping_layers=1)
    network = DualStyleGAN(config, 4).eval()
    ws, exstyle_ws = codes(network, 1)
    weights = torch.rand(10).tolist()
    expected = network(ws, exstyle_ws, weights)
    assert distance(draw(backend_of(name), network, ws, exstyle_ws, weights), expected) < 1e-4


def test_openvino_makes_one_network_for_all_styles_with_residuals_at_the_same_rows(narrow):
    backend, made = backend_of("openvino"), []
    compiled = backend.engine._compiled
    backend.engine._compiled = lambda model: made.append(model) or compiled(model)
    ws, _ = codes(narrow)
    for weights in ("published", "between", "ones", "color"):
        draw(backend, narrow, ws, codes(narrow)[1], WEIGHTS[weights])
    assert len(made) == 2  # "color" has no residuals


def test_openvino_draws_each_picture_by_itself_to_the_bit(narrow):
    ws, exstyle_ws = codes(narrow)
    style = ExtrinsicStyle(exstyle_ws=exstyle_ws, weights=WEIGHTS["between"])
    run = backend_of("openvino").bind(narrow, style)
    numbers = run.modulator(ws, run.style)
    assert run.run(numbers).equal(torch.cat([run.run(one[None]) for one in numbers]))


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_backend_does_not_share_weights(narrow, encoder, name):
    ws, exstyle_ws = codes(narrow)
    backend = backend_of(name)
    run = backend.bind(narrow, ExtrinsicStyle(exstyle_ws=exstyle_ws, weights=WEIGHTS["between"]))
    encode, faces = backend.bind_encoder(encoder), torch.rand(1, 3, 64, 64)
    before = run(ws), encode(faces)
    for network in (narrow, encoder):
        for value in network.state_dict().values():
            value.zero_()
    gc.collect()
    assert run(ws).equal(before[0])
    assert encode(faces).equal(before[1])


# ── encoders ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", QUICK)
def test_backend_gives_the_modules_codes(encoder, name):
    faces, device = torch.rand(3, 3, 64, 64) * 2 - 1, HERE[name]
    expected = encoder(faces)
    found = backend_of(name).bind_encoder(encoder.to(device))(faces.to(device)).cpu()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", [2, 5, 8])
@pytest.mark.parametrize("name", QUICK)
def test_backend_leaves_out_rows_that_nobody_asks_for(encoder, name, rows):
    faces, device = torch.rand(2, 3, 64, 64) * 2 - 1, HERE[name]
    expected, mean = encoder(faces), encoder.latent_avg.clone()
    encode = backend_of(name).bind_encoder(encoder.to(device), rows)
    found = encode(faces.to(device)).cpu()
    torch.testing.assert_close(found[:, :rows], expected[:, :rows], atol=1e-4, rtol=1e-4)
    assert found[:, rows:].equal(mean[rows:].expand(2, -1, -1))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.bfloat16) for name in QUICK), ("torch", torch.float16)],
)
def test_codes_point_the_same_way_in_few_bits(encoder, name, dtype):
    faces, device = torch.rand(3, 3, 64, 64) * 2 - 1, HERE[name]
    expected = encoder(faces)
    backend = backend_of(name, dtype)
    found = backend.bind_encoder(encoder.to(device))(faces.to(device)).cpu()
    assert found.dtype == torch.float32
    assert F.cosine_similarity(found.flatten(1), expected.flatten(1)).min() > 0.9999


# ── through the store ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("preserve_color", [False, True])
@pytest.mark.parametrize("name", ["openvino", "auto"])
def test_portraits_are_the_same_whatever_draws(only_tiny_store, name, preserve_color):
    if name != "auto":
        backend_of(name)
    how = {"device": "cpu", "precision": "fp32"}
    plain = load_portraits(only_tiny_store, "toon", backend="torch", **how)
    other = load_portraits(only_tiny_store, "toon", backend=name, **how)
    resolved = only_tiny_store.resolve(StyleRef.parse("toon"))
    look = Look(
        exstyle=resolved.exstyle,
        weights=StyleWeights.of(plain.layout, structure=0.6, color=0.4),
        preserve_color=preserve_color,
    )
    crops = [np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)]
    codes, found = plain.encode(crops), other.encode(crops)
    torch.testing.assert_close(found, codes, atol=1e-4, rtol=1e-4)
    difference = plain.draw(codes, look).astype(int) - other.draw(codes, look)
    assert np.abs(difference).max() <= 1


def test_many_looks_share_one_network_and_draw_the_same(only_tiny_store):
    portraits = load_portraits(
        only_tiny_store, "toon", encoder=None, device="cpu", precision="fp32", backend="torch"
    )
    rows, width = only_tiny_store.resolve(StyleRef.parse("toon")).exstyle.shape
    weights, face = StyleWeights.of(portraits.layout), torch.randn(1, rows, width)
    looks = [Look(exstyle=torch.randn(rows, width), weights=weights) for _ in range(12)]
    pictures = [portraits.draw_images(face, look) for look in looks]
    folded = [isinstance(portraits.bound(look), FoldedGenerator) for look in looks]
    assert folded == [True] * MOST_FOLDED + [False] * (12 - MOST_FOLDED)
    for look, picture in list(zip(looks, pictures, strict=True))[-2:]:
        alone = Portraits(portraits.generator).draw_images(face, look)
        assert distance(picture, alone) < 1e-4


@pytest.mark.parametrize("name", QUICK)
def test_backend_binds_for_one_picture_what_it_binds_for_many(narrow, name):
    ws, exstyle_ws = codes(narrow, 1)
    expected, device = narrow(ws, exstyle_ws, WEIGHTS["between"]), HERE[name]
    backend = backend_of(name)
    style = ExtrinsicStyle(exstyle_ws=exstyle_ws, weights=WEIGHTS["between"]).to(device)
    run = backend.bind(narrow.to(device), style, once=True)
    assert distance(run(ws.to(device)).cpu(), expected) < 1e-4


# ── what is compiled takes its time ──────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="compilers elsewhere have yet to be tried")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch, in its own code
def test_compiled_network_draws_what_the_module_draws(tiny_generator, tmp_path, monkeypatch):
    """The smallest there is: each of its loops takes a compiler seconds."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    ws, _ = codes(tiny_generator, 2)
    expected = backend_of("torch", size_px=4).bind(tiny_generator, None)(ws)
    picture = backend_of("compile", size_px=4).bind(tiny_generator, None)(ws)
    assert distance(picture, expected) < 1e-4
    low = backend_of("compile", torch.bfloat16, 4).bind(tiny_generator, None)(ws)
    assert psnr(low, expected) > 45
    assert any(tmp_path.iterdir()), "what was compiled is kept"


@pytest.mark.slow
@pytest.mark.parametrize("rows", [None, 5, 2])
def test_encoder_is_compiled_in_one_piece(encoder, rows):
    """What torch.compile reads of it, without the compiler that takes its time."""
    bound, faces = FoldedEncoder(encoder, rows=rows), torch.rand(1, 3, 64, 64)
    read = torch.compile(bound, backend="eager", fullgraph=True, dynamic=False)
    assert read(faces).equal(bound(faces))


# ── on a GPU ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
def test_torch_on_a_gpu_draws_and_encodes_what_the_modules_do(narrow, encoder):
    ws, exstyle_ws = codes(narrow)
    faces = torch.rand(2, 3, 64, 64) * 2 - 1
    expected, wanted = narrow(ws, exstyle_ws, WEIGHTS["between"]), encoder(faces)
    gpu = torch.device("cuda")
    backend = pick_backend("auto", gpu, torch.float32)
    style = ExtrinsicStyle(exstyle_ws=exstyle_ws.to(gpu), weights=WEIGHTS["between"])
    picture = backend.bind(narrow.to(gpu), style)(ws.to(gpu)).cpu()
    assert distance(picture, expected) < 1e-2
    found = backend.bind_encoder(encoder.to(gpu))(faces.to(gpu)).cpu()
    assert F.cosine_similarity(found.flatten(1), wanted.flatten(1)).min() > 0.999
