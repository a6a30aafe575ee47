"""What stands in the way of a release is told before anything is built."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
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


# ── the page of the package ──────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def page_of():
    spec = importlib.util.spec_from_file_location("package_page", ROOT / "package_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.page_of


def targets_in(page: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", page)


def test_links_of_the_readme_lead_to_the_tag(page_of):
    readme = (ROOT / "README.md").read_text("utf-8")
    page = page_of(readme, "1.2.0", "https://example.org/us/dsg/")
    assert len(targets_in(page)) == len(targets_in(readme))
    assert all(target.startswith("https://") for target in targets_in(page))
    assert "(https://example.org/us/dsg/raw/v1.2.0/docs/media/overview.webp)" in page
    assert "(https://example.org/us/dsg/blob/v1.2.0/LICENSE)" in page


def test_without_a_repository_no_link_of_the_page_is_dead(page_of):
    page = page_of((ROOT / "README.md").read_text("utf-8"), "1.2.0")
    assert targets_in(page) == ["https://arxiv.org/abs/2203.13248"]
    assert "The code is MIT." in page
    assert "![" not in page
