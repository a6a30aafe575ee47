"""What stands in the way of a release is told before anything is built."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-01-31\n"


@pytest.fixture
def problems_of(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("release", BENCHMARKS / "release.py")
    release = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(release)
    yield release.problems_of
    sys.modules.pop("smoke", None)


def test_a_version_with_its_date_in_the_changelog_is_ready(problems_of):
    assert problems_of("1.2.0", CHANGELOG) == []


@pytest.mark.parametrize("version", ["1.2.0.dev0", "1.2", "1.2.0+local"])
def test_a_version_that_is_no_release_is_refused(problems_of, version):
    (problem,) = problems_of(version, CHANGELOG)
    assert version in problem and "dsgcli/__init__.py" in problem


@pytest.mark.parametrize("version", ["1.3.0", "1.2.0rc1", "11.2.0"])
def test_a_version_that_the_changelog_lacks_is_refused(problems_of, version):
    (problem,) = problems_of(version, CHANGELOG)
    assert f"## [{version}]" in problem
