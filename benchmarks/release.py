"""Everything before a release: sdist and wheel are built, checked, and tried where nothing is.

    make release        (python benchmarks/release.py [--system-packages])

Looks at the version and the changelog first; then builds into dist/, runs `twine check`, and lets
`smoke.py` try the wheel, and a wheel that is built from the sdist, in new environments. Nothing is
uploaded: the last lines say what is left to do by hand.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from smoke import ROOT, build, check_contents, run, try_out

import dsgcli

DIST = ROOT / "dist"
SDIST_MUST_HOLD = (
    "pyproject.toml",
    "package_page.py",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "tests/conftest.py",
)


def problems_of(version: str, changelog: str) -> list[str]:
    """What stands in the way of releasing this version."""
    found = []
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        found.append(f"the version is {version}: set a release in dsgcli/__init__.py")
        return found
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, changelog, re.MULTILINE):
        found.append(f"CHANGELOG.md has no line '## [{version}] - YEAR-MONTH-DAY'")
    return found


def make_distributions() -> tuple[Path, Path]:
    """The sdist, and the wheel that is built from it: what `pip install` would make of it."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--sdist", "--outdir", DIST, ROOT, cwd=ROOT)
    sdist = next(DIST.glob("*.tar.gz"))
    with tempfile.TemporaryDirectory() as name:
        with tarfile.open(sdist) as archive:
            archive.extractall(name, filter="data")
        wheel = build(DIST, next(Path(name).iterdir()))
    return sdist, wheel


def check_sdist(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = [name for name in SDIST_MUST_HOLD if name not in names]
    if missing:
        sys.exit(f"the sdist lacks {missing}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--system-packages", action="store_true", help="as in smoke.py")
    parser.add_argument("--rehearse", action="store_true", help="also where it is no release yet")
    arguments = parser.parse_args()
    version = dsgcli.__version__
    problems = problems_of(version, (ROOT / "CHANGELOG.md").read_text("utf-8"))
    if problems and not arguments.rehearse:
        sys.exit("\n".join([*problems, "(--rehearse tries everything all the same)"]))
    sdist, wheel = make_distributions()
    check_sdist(sdist)
    check_contents(wheel)
    print(run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel, cwd=ROOT).strip())
    try_out(wheel, system_packages=arguments.system_packages)
    if not os.environ.get("DSG_REPOSITORY"):
        print("The page of the package has no links: DSG_REPOSITORY names no repository.")
    print(f"\n{sdist.name} and {wheel.name} are ready in dist/. What is left:")
    print(f"  git tag v{version} && git push --tags\n  twine upload dist/*")


if __name__ == "__main__":
    main()
