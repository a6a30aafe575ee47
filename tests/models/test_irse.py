"""The identity network: its golden case, and that it looks at the face alone."""

import pytest
import torch

from dsgcli.models.irse import IRSE50, identity_view


@pytest.fixture(scope="module")
def identity(fill_network):
    return fill_network(IRSE50(), "irse50", "irse")


@pytest.mark.golden("irse.embed")
@torch.no_grad()
def test_embedding_and_maps_agree(identity, case_inputs, agree, summarize_map):
    x = identity.input_layer(case_inputs["x"])
    agree(summarize_map("input_layer", x))
    for index, unit in enumerate(identity.body):
        x = unit(x)
        if index in (0, 2, 3, 7, 20, 23):
            agree(summarize_map(f"body{index}", x))
    agree({"emb": identity(case_inputs["x"])})


@torch.no_grad()
def test_embedding_has_length_one_and_ignores_what_is_around_the_face(identity):
    crop = torch.rand(1, 3, 256, 256) * 2 - 1
    embedding = identity.of_crop(crop)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(1))
    crop[:, :, :35], crop[:, :, :, 220:] = 0.0, 1.0
    assert identity.of_crop(crop).equal(embedding)


def test_identity_view_takes_the_face_at_the_networks_size():
    assert identity_view(torch.zeros(2, 3, 256, 256)).shape == (2, 3, 112, 112)
