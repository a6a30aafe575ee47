"""`dsg doctor`: everything is looked at, whatever is broken, and every trouble has its advice."""

from __future__ import annotations

import pytest
from command import dsg

from dsgcli import doctor
from dsgcli.doctor import Problem, examine


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """One run for all tests that only read it: it loads torch and MediaPipe."""
    folder = tmp_path_factory.mktemp("machine")
    here, home = folder / "here", folder / "home"
    here.mkdir()
    home.mkdir()
    (here / "dsg.toml").write_text('device = "cpu"\n[stylize]\ncrff = 3\n', "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("DSG_HOME", str(home))
        patch.setenv("DSG_SEED", "7")
        patch.setenv("DSG_SEDE", "7")
        patch.delenv("DSG_PRETRAINED", raising=False)
        return dsg("doctor", "--json", "--no-speed")


def test_doctor_knows_the_machine(machine):
    assert machine.exit_code == 0
    report = machine.json
    assert report["packages"]["torch"]
    assert report["device"] == "cpu"
    assert report["precision"] in ("float32", "bfloat16")
    assert report["precision_reason"]
    assert report["backend"] in report["backends"]
    assert "torch" in report["backends"]
    assert report["backend_reason"]
    assert report["threads"] >= 1
    assert report["codecs"]["h264"] == "libx264"
    assert report["free_disk_gb"] > 0
    assert report["face_detector"]


def test_settings_are_shown_with_their_origin(machine):
    settings = {s["key"]: s for s in machine.json["settings"]}
    assert settings["device"]["value"] == "cpu"
    assert settings["device"]["from"].endswith("dsg.toml")
    assert settings["seed"]["from"] == "DSG_SEED"


def test_what_is_wrong_with_the_settings_is_told_and_stops_nothing(machine):
    problems = " ".join(machine.json["problems"])
    assert "'crf'" in problems
    assert "DSG_SEDE" in problems


def test_every_trouble_has_advice(machine):
    assert all(";" in problem for problem in machine.json["problems"])


@pytest.fixture(scope="module")
def poor_machine():
    """A report on a machine where several checks find something wrong."""

    def broken(*_):
        raise RuntimeError("bad header")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "memory_gb", lambda: (0.5, 8.0))
        patch.setattr(doctor, "PACKAGES", ("torch", "no-such-package"))
        patch.setattr("dsgcli.store.ModelStore.open", broken)
        return examine(device="tpu", speed_test_s=0)


@pytest.mark.parametrize(
    ("marker", "how", "command"),
    [
        ("pipx_metadata.json", "with pipx", "pipx install --force 'dsgcli[openvino]'"),
        ("uv-receipt.toml", "with uv tool", "uv tool install --force 'dsgcli[openvino]'"),
        ("conda-meta/", "in the conda environment", "python -m pip install 'dsgcli[openvino]'"),
        ("pyvenv.cfg", "in the environment", "python -m pip install 'dsgcli[openvino]'"),
    ],
)
def test_how_dsg_was_installed_is_known_with_the_command_for_more(tmp_path, marker, how, command):
    place = tmp_path / marker
    place.mkdir() if marker.endswith("/") else place.touch()
    found, extras_by = doctor.installation(tmp_path, tmp_path / "system", tmp_path / "none")
    assert found.startswith(how)
    assert extras_by.endswith(command)


def test_an_installation_without_an_environment_is_the_systems_or_a_containers(tmp_path):
    sign = tmp_path / "sign"
    assert doctor.installation(tmp_path, tmp_path, sign)[0].startswith("into the system's Python")
    sign.touch()
    assert doctor.installation(tmp_path, tmp_path, sign)[0] == "in a container"


def test_low_memory_is_a_problem(poor_machine):
    assert "only 0.5 GB of memory are free" in [p.what for p in poor_machine.problems]


def test_a_package_that_is_not_there_is_a_problem(poor_machine):
    assert poor_machine.packages["no-such-package"] is None
    what = "the package no-such-package is not installed"
    assert what in [p.what for p in poor_machine.problems]


def test_a_check_that_breaks_becomes_a_problem_and_the_others_go_on(poor_machine):
    broken = Problem("the models cannot be listed: RuntimeError: bad header", "dsg models verify")
    assert broken in poor_machine.problems
    assert poor_machine.codecs["h264"] and poor_machine.backends is not None
    last = poor_machine.problems[-1]
    assert "--device takes" in last.what, "what comes after the models is still looked at"


def test_an_unknown_device_is_a_problem_not_a_crash(poor_machine):
    assert any("--device takes" in problem.what for problem in poor_machine.problems)


def test_the_speed_test_measures_and_ends():
    import time

    import torch

    started = time.perf_counter()
    rates = doctor.speed(torch.device("cpu"), torch.float32, 0.2)
    assert 0.1 < time.perf_counter() - started < 5
    assert rates["float32_gflops"] > 0


def test_portraits_are_counted_with_a_style_that_is_there(tiny_store):
    rate = doctor.portraits_per_second(tiny_store, "toon", "cpu", "fp32", "auto", 0.1)
    assert rate > 1
