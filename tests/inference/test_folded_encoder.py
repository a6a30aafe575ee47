"""A folded encoder gives the codes of its module."""

import pytest
import torch
from likeness import narrow_encoder_config, settled
from torch.nn import functional as F

from dsgcli.inference.encoder import FoldedEncoder
from dsgcli.models.encoder import Encoder, EncoderConfig


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def faces(px, batch=2):
    return torch.rand(batch, 3, px, px) * 2 - 1


@pytest.mark.parametrize("num_latents", [2, 5, 8, 14])
@pytest.mark.parametrize("coarse_rows", [0, 3])
def test_folded_encoder_gives_the_modules_codes(num_latents, coarse_rows):
    config = narrow_encoder_config(num_latents, coarse_rows=coarse_rows, latent_avg=True)
    encoder = settled(Encoder(config))
    encoder.latent_avg.normal_()
    x = faces(64)
    torch.testing.assert_close(FoldedEncoder(encoder)(x), encoder(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 9, 14])
@pytest.mark.parametrize("latent_avg", [False, True])
def test_folded_encoder_leaves_out_the_rows_that_nobody_asks_for(rows, latent_avg):
    config = narrow_encoder_config(14, latent_avg=latent_avg)
    encoder, x = settled(Encoder(config)), faces(64)
    if latent_avg:
        encoder.latent_avg.normal_()
    folded, whole = FoldedEncoder(encoder, rows=rows), encoder(x)
    codes = folded(x)
    torch.testing.assert_close(codes[:, :rows], whole[:, :rows], atol=1e-4, rtol=1e-4)
    mean = encoder.latent_avg if latent_avg else torch.zeros(14, 20)
    assert codes[:, rows:].equal(mean[rows:].expand(2, -1, -1))
    assert sum(heads.count for heads in folded.heads) == rows
    assert len(folded.laterals) == (0 if rows <= 3 else 1 if rows <= 7 else 2)


def test_rows_of_whole_maps_are_the_same_to_the_bit():
    """What the heads of other maps do does not touch them."""
    encoder = settled(Encoder(EncoderConfig(num_latents=9, input_px=64, head_width=32)))
    x = faces(64, batch=1)
    for dtype in (torch.float32, torch.bfloat16):
        assert FoldedEncoder(encoder, dtype, 7)(x)[:, :7].equal(
            FoldedEncoder(encoder, dtype)(x)[:, :7]
        )


@pytest.mark.slow
def test_folded_encoder_of_full_width_points_the_same_way_in_bf16():
    """The published body, with one head on each map."""
    encoder = settled(Encoder(EncoderConfig(num_latents=3, coarse_rows=1, middle_rows=1)))
    x = faces(256, batch=1)
    expected = encoder(x)
    codes, low = FoldedEncoder(encoder)(x), FoldedEncoder(encoder, torch.bfloat16)(x)
    assert ((codes - expected).norm() / expected.norm()) < 1e-5
    assert low.dtype == torch.float32
    assert F.cosine_similarity(low.flatten(1), expected.flatten(1)).min() > 0.9999


def test_folded_encoder_takes_each_face_by_itself(tiny_encoder):
    x, folded = faces(32, 3), FoldedEncoder(settled(tiny_encoder))
    alone = torch.cat([folded(face[None]) for face in x])
    torch.testing.assert_close(folded(x), alone, atol=1e-5, rtol=1e-4)


def test_folded_encoder_does_not_share_weights(tiny_encoder):
    x, folded = faces(32), FoldedEncoder(settled(tiny_encoder))
    before = folded(x)
    for value in tiny_encoder.state_dict().values():
        value.zero_()
    assert folded(x).equal(before)
