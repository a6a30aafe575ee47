"""Workflows, issue templates and package metadata agree with each other and with the repository."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
GITHUB = sorted((ROOT / ".github").rglob("*.yml"))
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = {"linux": ("x86_64", "aarch64"), "darwin": ("arm64",), "win32": ("AMD64",)}


def read(path: Path):
    return pytest.importorskip("yaml", reason="mkdocs brings it").safe_load(path.read_text("utf-8"))


def steps():
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in read(path)["jobs"].values():
            yield from (step["run"] for step in job["steps"] if "run" in step)


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_the_file_is_yaml(path):
    assert isinstance(read(path), dict)


def test_every_promised_version_and_system_is_tested():
    matrix = read(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    promised = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if ":: 3." in c]
    assert tuple(matrix["python"]) == tuple(promised) == PYTHONS
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_steps_name_targets_and_scripts_that_are_there():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    said = "\n".join(steps())
    assert set(re.findall(r"\bmake (\w+)", said)) <= targets
    for script in re.findall(r"python (\w+/\w+\.py)", said):
        assert (ROOT / script).is_file()


def test_commands_of_steps_parse():
    from test_docs import parse

    lines = re.findall(r"-m dsgcli ([a-z -]+)", "\n".join(steps()))
    assert len(lines) >= 3
    for line in lines:
        parse(line.split())


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("system", "machine"), [(s, m) for s, machines in MACHINES.items() for m in machines]
)
def test_one_mediapipe_is_wanted_everywhere(python, system, machine):
    """MediaPipe 0.10.21 has no wheels for Python 3.13 and later, nor for Linux on ARM."""
    environment = default_environment() | {
        "python_version": python,
        "sys_platform": system,
        "platform_machine": machine,
    }
    wanted = [Requirement(text) for text in PROJECT["dependencies"]]
    chosen = [r for r in wanted if r.name == "mediapipe" and r.marker.evaluate(environment)]
    assert len(chosen) == 1
    bundled = python < "3.13" and machine != "aarch64"
    assert chosen[0].specifier.contains("0.10.21") is bundled
