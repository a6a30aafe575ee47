"""Each alarm rings when its cause is there, once, and again when it comes back."""

from __future__ import annotations

import shutil

import pytest
import torch

from dsgcli.training import alarms
from dsgcli.training.alarms import WINDOW_STEPS, TrainingMonitor, sample_spread


def rung(found) -> str:
    return "\n".join(found)


def test_saturated_discriminator_is_told_once():
    watch = TrainingMonitor()
    lost = {"score/real": 10.0, "score/fake": -10.0}
    messages = [m for _ in range(2 * WINDOW_STEPS) for m in watch.look(lost)]
    assert len(messages) == 1
    assert "the discriminator has won" in messages[0]
    assert "r1_gamma" in messages[0]


def test_balanced_discriminator_is_left_alone():
    watch = TrainingMonitor()
    even = {"score/real": 1.0, "score/fake": -1.0}
    assert not [m for _ in range(2 * WINDOW_STEPS) for m in watch.look(even)]


def test_alarm_rings_again_when_its_cause_comes_back():
    watch = TrainingMonitor()
    lost, even = {"score/real": 20.0, "score/fake": -20.0}, {"score/real": 0.0, "score/fake": 0.0}
    steps = [lost] * WINDOW_STEPS + [even] * WINDOW_STEPS + [lost] * WINDOW_STEPS
    assert len([m for scalars in steps for m in watch.look(scalars)]) == 2


def test_collapsed_samples_are_told():
    watch = TrainingMonitor()
    torch.manual_seed(0)
    varied = torch.rand(16, 3, 32, 32) * 2 - 1 + torch.randn(16, 1, 1, 1)
    assert not rung(watch.look_at_samples(varied))
    alike = varied[:1].repeat(16, 1, 1, 1) + 0.001 * torch.randn(16, 3, 32, 32)
    assert "mode collapse" in rung(watch.look_at_samples(alike))


def test_spread_is_zero_for_one_face_and_grows_with_difference():
    torch.manual_seed(0)
    faces = torch.randn(8, 3, 16, 16)
    assert sample_spread(faces[:1].repeat(8, 1, 1, 1)) == pytest.approx(0.0, abs=1e-6)
    assert sample_spread(2 * faces) == pytest.approx(2 * sample_spread(faces), rel=1e-4)


def test_nearly_full_disk_is_told_before_it_is_full(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 2 * 2**30})()
    monkeypatch.setattr(alarms.shutil, "disk_usage", lambda folder: usage)
    watch = TrainingMonitor()
    assert "only 2.0 GiB are left" in rung(watch.look_at_disk(tmp_path, 2**30))
    assert not rung(TrainingMonitor().look_at_disk(tmp_path, 2**20))
    assert shutil.disk_usage(tmp_path).free == usage.free


def test_run_that_learns_nothing_more_is_told():
    watch = TrainingMonitor()
    falling = [{"pixel": 1.0 / (1 + step)} for step in range(3 * WINDOW_STEPS)]
    assert not [m for scalars in falling for m in watch.look(scalars)]
    flat = [{"pixel": 0.5 + 0.01 * (step % 2)} for step in range(12 * WINDOW_STEPS)]
    watch = TrainingMonitor()
    messages = [m for scalars in flat for m in watch.look(scalars)]
    assert len(messages) == 1
    assert "'pixel' has not fallen" in messages[0]
