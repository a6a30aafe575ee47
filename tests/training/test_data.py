"""What is drawn when: a function of seed and number, whatever the run was cut into."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from training.toys import ToyPictures

from dsgcli.errors import TrainingError
from dsgcli.training.data import Sampler, batches, num_parts, open_pack, split, write_pack
from dsgcli.training.stage import Batch, Plan


def portraits(count: int, size_px: int) -> list[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    shape = (size_px, size_px, 3)
    return [(f"p{i}", rng.integers(0, 256, shape, dtype=np.uint8)) for i in range(count)]


# ── the pack ─────────────────────────────────────────────────────────────────────────────────────


def test_pack_gives_back_what_was_packed(tmp_path):
    made = portraits(5, 16)
    pack = write_pack(tmp_path, 16, made)
    assert pack.names == ("p0", "p1", "p2", "p3", "p4")
    images = pack.get([4, 0, 0], 16)
    assert images.shape == (3, 3, 16, 16)
    assert images.dtype == torch.float32
    for image, index in zip(images, (4, 0, 0), strict=True):
        pixels = ((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(pixels, made[index][1])


def test_pack_at_a_smaller_size_is_the_mean_of_blocks(tmp_path):
    made = portraits(3, 16)
    pack = write_pack(tmp_path, 16, made)
    small = pack.get([1], 4)[0]
    blocks = made[1][1].reshape(4, 4, 4, 4, 3).astype(np.float64).mean(axis=(1, 3))
    pixels = ((small + 1) * 127.5).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(pixels, blocks, atol=0.51)
    assert sorted(p.name for p in tmp_path.glob("*.bin")) == ["portraits-16.bin", "portraits-4.bin"]


def test_pack_at_a_larger_size_is_interpolated(tmp_path):
    flat = np.full((8, 8, 3), 200, dtype=np.uint8)
    pack = write_pack(tmp_path, 8, [("flat", flat)])
    large = pack.get([0], 32)
    assert large.shape == (1, 3, 32, 32)
    torch.testing.assert_close(large, torch.full_like(large, 200 / 127.5 - 1))


def test_pack_written_again_forgets_the_sizes_of_the_old_one(tmp_path):
    write_pack(tmp_path, 16, portraits(3, 16)).get([0], 4)
    black = np.zeros((16, 16, 3), dtype=np.uint8)
    pack = write_pack(tmp_path, 16, [("black", black)])
    torch.testing.assert_close(pack.get([0], 4), torch.full((1, 3, 4, 4), -1.0))


def test_half_written_pack_is_not_opened(tmp_path):
    def breaks():
        yield portraits(1, 16)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pack(tmp_path, 16, breaks())
    with pytest.raises(TrainingError, match="run the stage `prepare` first"):
        open_pack(tmp_path)
    assert not list(tmp_path.iterdir())


# ── the sampler ──────────────────────────────────────────────────────────────────────────────────


def test_epoch_has_every_picture_once():
    sampler = Sampler([1.0] * 10, seed=0, mirror=True)
    for epoch in range(3):
        drawn = [sampler.draw(epoch * 10 + i)[0] for i in range(10)]
        assert sorted(drawn) == list(range(10))


def test_epochs_differ_and_so_do_seeds():
    one, other = (Sampler([1.0] * 50, seed=s, mirror=True) for s in (0, 1))
    first = [one.draw(i) for i in range(50)]
    assert first != [one.draw(50 + i) for i in range(50)]
    assert first != [other.draw(i) for i in range(50)]


def test_weights_are_how_often_pictures_come():
    sampler = Sampler([3.0] * 4 + [1.0] * 6 + [0.5] * 4 + [0.0] * 3, seed=0, mirror=False)
    assert sampler.epoch_length == 20
    counts = Counter(sampler.draw(i)[0] for i in range(20 * 50))
    assert all(counts[i] == 150 for i in range(4))
    assert all(counts[i] == 50 for i in range(4, 10))
    assert sum(counts[i] for i in range(10, 14)) == 100
    assert all(counts[i] == 0 for i in range(14, 17))


def test_half_of_the_draws_are_mirrored_if_any_may_be():
    mirrored = [Sampler([1.0] * 500, 0, mirror=True).draw(i)[1] for i in range(500)]
    assert 200 < sum(mirrored) < 300
    assert not any(Sampler([1.0] * 50, 0, mirror=False).draw(i)[1] for i in range(50))


# ── batches ──────────────────────────────────────────────────────────────────────────────────────

PLAN = Plan(label="x", steps=7, batch_size=6, size_px=8)


def test_batches_go_on_where_another_run_stopped():
    pictures = ToyPictures(11)
    whole = list(batches(pictures, PLAN, 5, start=0))
    rest = list(batches(pictures, PLAN, 5, start=3))
    assert len(whole) == 7
    for a, b in zip(whole[3:], rest, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.indices, b.indices)


def test_processes_share_the_batch_of_one():
    pictures = ToyPictures(11)
    whole = next(batches(pictures, PLAN, 5, start=2))
    for rank in range(2):
        mine = next(batches(pictures, PLAN, 5, start=2, rank=rank, num_ranks=2))
        assert mine.rows == whole.rows[rank::2]
        assert torch.equal(mine.images, whole.images[rank::2])


def test_mirrored_pictures_are_mirrored_left_to_right():
    pictures = ToyPictures(11)
    seen = set()
    for batch in batches(pictures, PLAN, 5, start=0):
        for image, index in zip(batch.images, batch.indices.tolist(), strict=True):
            plain = pictures.get([index], 8)[0]
            flipped = torch.equal(image, plain.flip(2))
            assert flipped or torch.equal(image, plain)
            seen.add(flipped)
    assert seen == {True, False}


def test_micro_batches_are_strided_so_that_groups_of_four_stay():
    images = torch.arange(8.0)[:, None, None, None].expand(8, 3, 2, 2)
    batch = Batch(images=images, indices=torch.arange(8), rows=tuple(range(8)))
    assert [part.rows for part in split(batch, 2)] == [(0, 2, 4, 6), (1, 3, 5, 7)]


@pytest.mark.parametrize(
    ("local", "most", "parts"),
    [(32, 0, 1), (32, 32, 1), (32, 4, 8), (32, 5, 8), (6, 4, 2), (7, 2, 7)],
)
def test_accumulation_takes_the_fewest_equal_parts(local, most, parts):
    assert num_parts(local, most) == parts
