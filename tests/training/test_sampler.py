"""The sampler's training agrees with the published one, and covers every exemplar."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import fill, golden

from dsgcli.models.style_sampler import SamplingNet
from dsgcli.recipe import SamplerRecipe
from dsgcli.training.stages.sampler import (
    fit_sampler,
    jittered,
    nearest,
    num_epochs,
    train_epoch,
)
from dsgcli.types import LatentLayout


def rule(seed: str, *shape: int) -> torch.Tensor:
    return torch.from_numpy(fill.unit(seed, shape))


def check(case: dict, outputs: dict[str, np.ndarray]) -> None:
    results = golden.check(case, outputs)
    assert all(ok for _, ok, _, _ in results), [r for r in results if not r[1]]


@pytest.mark.golden("sampler.icp_epochs")
def test_three_epochs_agree_with_published() -> None:
    name = "sampler.icp_epochs"
    net = SamplingNet(128, 24)
    state = net.state_dict()
    for key, values in fill.fill_state(state.items(), "icp", "sampler").items():
        state[key].copy_(torch.from_numpy(values))
    data, recipe = rule(f"{name}:data", 300, 24), SamplerRecipe()
    matched, losses = [], []
    for epoch in range(3):
        noise = torch.stack([rule(f"{name}:e{4 * epoch + k}", 128, 128) for k in range(4)])
        order = np.argsort(fill.u01(f"{name}:perm{epoch}", 300), kind="stable")
        lr = 1e-3 * 0.5 ** (epoch // 2)
        found, now = train_epoch(net, data, noise, torch.from_numpy(order), recipe, lr)
        matched.append(found.numpy())
        losses += now
    with torch.no_grad():
        probe = net.eval()(rule(f"{name}:probe", 4, 128)).numpy()
    outputs = {"nn_idx": np.stack(matched), "losses": np.array(losses, dtype=np.float32)}
    check(golden.case(name), {**outputs, "probe": probe, "bn1_mean": net.bn1.running_mean.numpy()})


@pytest.mark.golden("script.train_sampler_data")
def test_data_is_repeated_and_jittered_as_published() -> None:
    name = "script.train_sampler_data"
    codes = torch.cat([rule(f"train_sampler:c{i}", 1, 18, 512) for i in range(300)])
    layout = LatentLayout(1024)

    def noise(*shape: int) -> torch.Tensor:
        return rule(f"{name}:normal0", *shape)

    flat = jittered(codes.flatten(1), 1000, 0.05, noise)
    data = flat.unflatten(1, (18, 512))
    halves = {"color": data[:, layout.color], "structure": data[:, layout.structure]}
    outputs: dict[str, np.ndarray] = {}
    for key, rows in halves.items():
        half = rows.flatten(1)
        outputs[f"{key}.slice"] = half[::100, :8].numpy()
        shape = [*half.shape, 128, num_epochs(500_000, len(half))]
        outputs[f"{key}.shape"] = np.array(shape)
    stored = {k: golden.expected(golden.case(name), k) for k in ("color.shape", "saved_keys")}
    assert set(stored["color.shape"].tolist()) == set(outputs["color.shape"].tolist()), stored
    check(golden.case(name), outputs)


def test_codes_beyond_the_wanted_rows_are_still_used_once() -> None:
    """The published script repeats them zero times (docs/differences.md, 19)."""
    codes = torch.randn(12, 4)
    assert len(jittered(codes, 10, 0.0, torch.randn)) == 12
    assert len(jittered(codes, 30, 0.0, torch.randn)) == 24


def test_nearest_is_the_smallest_distance() -> None:
    data, made = torch.randn(9, 5), torch.randn(20, 5)
    assert torch.equal(nearest(data, made), torch.cdist(data, made).argmin(1))


def test_samples_lie_nearer_to_every_exemplar_than_the_mean_code() -> None:
    codes = torch.eye(4).reshape(4, 1, 4).repeat(1, 8, 8) * 3  # four far apart, (4, 8, 32)
    recipe = SamplerRecipe(
        row_updates=12_000, rows=64, batch_size=32, noise_dim=8, jitter=0.01, lr=5e-3
    )
    sampler = fit_sampler(codes, LatentLayout(32), recipe, seed=0)
    noise = torch.randn(2, 2000, 8)
    with torch.no_grad():
        made = sampler(noise[0], noise[1])
        alone = sampler(noise[0, :1], noise[1, :1])
        together = sampler.train()(noise[0], noise[1])
    torch.testing.assert_close(alone, made[:1], atol=1e-4, rtol=1e-4)  # one is enough
    assert (together - made).square().mean() < 0.01 * made.square().mean()  # settled statistics
    flat = codes[:, :7].flatten(1)
    nearest_sample = torch.cdist(flat, made[:, :7].flatten(1)).amin(1)
    assert (nearest_sample < 0.8 * (flat - flat.mean(0)).norm(dim=1)).all(), nearest_sample
