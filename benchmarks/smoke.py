"""The bare wheel: does it build, install without our sources, and answer?

    make smoke          (python benchmarks/smoke.py [--system-packages])

Builds the wheel, installs it into an environment of its own, and runs `dsg --help`, `dsg --version`
and `dsg doctor` far from this folder. With `--system-packages` the new environment sees the
packages of this one, so that only the wheel itself is installed: seconds instead of minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MUST_HOLD = ("dsgcli/__main__.py", "dsgcli/py.typed", "dsgcli/pretrained/", "dsgcli/recipes/")
MUST_NOT_HOLD = ("tests/", "benchmarks/", "docs/")
FROM_PYTHON = "import dsgcli; print(dsgcli.stylize.__name__, dsgcli.Stylizer.__name__)"


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program; its stdout. Fails with everything that it said."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def build(folder: Path, source: Path = ROOT) -> Path:
    """The wheel of the working tree, or of another copy of the sources."""
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet")
    isolated = ("--no-build-isolation",) if _has_hatchling() else ()
    run(*pip, *isolated, "--wheel-dir", folder, source, cwd=folder)
    return next(folder.glob("dsgcli-*.whl"))


def _has_hatchling() -> bool:
    try:
        import hatchling  # noqa: F401
    except ImportError:
        return False
    return True


def check_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    missing = [part for part in MUST_HOLD if not any(name.startswith(part) for name in names)]
    extra = [name for name in names if name.startswith(MUST_NOT_HOLD)]
    if missing or extra:
        sys.exit(f"the wheel lacks {missing} and should not hold {extra}")


def install(wheel: Path, folder: Path, *, system_packages: bool) -> Path:
    """A new environment with the wheel in it; its folder of programs."""
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    python = programs / "python"
    if system_packages:
        site = Path(
            run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).strip()
        )
        ours = [p for p in sys.path if p.endswith("site-packages")]
        (site / "others.pth").write_text("\n".join(ours))
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel, cwd=folder)
    else:
        run(python, "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return programs


def try_out(wheel: Path, *, system_packages: bool) -> None:
    """Install the wheel where nothing is, and let it answer."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = install(wheel, folder / "env", system_packages=system_packages)
        home = {"DSG_HOME": str(folder / "home"), "PYTHONPATH": ""}
        for words in (["--version"], ["--help"], ["models", "list"], ["doctor", "--json"]):
            output = run(programs / "dsg", *words, cwd=folder, **home)
            print(f"dsg {' '.join(words)}: {len(output.splitlines())} lines")
        answer = run(programs / "python", "-c", FROM_PYTHON, cwd=folder, **home)
        print(f"from Python: {answer.strip()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--system-packages", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        wheel = build(Path(name))
        check_contents(wheel)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")
        try_out(wheel, system_packages=arguments.system_packages)


if __name__ == "__main__":
    main()
