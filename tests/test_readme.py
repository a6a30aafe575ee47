"""Every command of the README is run here, in its order, on tiny models and drawn faces; so are the
blocks of the guides, each by itself."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command import dsg
from small_models import (
    encoder_checkpoint,
    save_npy,
    save_pt,
    small_codes,
    small_dual,
    small_encoder,
)
from tiny_store import SIZE_PX, write_tiny_store
from web_server import WebServer

from dsgcli.media.base import SinkOptions
from dsgcli.media.images import write_image
from dsgcli.media.write import open_sink
from dsgcli.recipe.reading import read_recipe
from dsgcli.store import ModelStore
from dsgcli.store.contents import open_model
from dsgcli.store.manifest import read_manifest
from dsgcli.training.drawn import draw_portrait
from dsgcli.training.drawn_clip import draw_clip

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
GUIDES = [ROOT / "docs" / f"{name}.md" for name in ("index", "photos", "videos", "faces", "look")]
ELSEWHERE = {
    "make demo": "test_the_demo_runs",
    "make test": "test_targets_of_make_are_there",
    "python -m venv .venv": "benchmarks/smoke.py, which `make smoke` and every workflow run",
    ".venv/bin/python -m pip install .": "benchmarks/smoke.py",
    "dsg train quick": "tests/training/test_quick.py, in a small form",
}
"""Lines that are not run here, and what runs them."""
STYLES = {
    "noir": tuple(f"portrait_{number:02}.png" for number in range(13)),
    "toon": tuple(f"face_{number:02}.png" for number in range(6)),
    "neon-dual": tuple(f"light_{number:02}.png" for number in range(6)),
}


def lines_of(text: str) -> list[str]:
    """Commands of `sh` blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [re.split(r"\s+#", line)[0].strip() for b in blocks for line in b.splitlines()]
    return [line for line in lines if line]


def words_of(line: str) -> list[str]:
    words = shlex.split(line)
    return words[1:] if words[0] in ("dsg", ".venv/bin/dsg") else []


# ── the machine of a newcomer ────────────────────────────────────────────────────────────────────


def scene() -> np.ndarray:
    """Three drawn people, well apart, in one picture."""
    pixels = np.full((200, 520, 3), 90, np.uint8)
    for number in range(3):
        left = 10 + 170 * number
        pixels[20:180, left : left + 160] = draw_portrait(3 + number, 160)
    return pixels


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the pages call photographs and videos."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("photo.jpg", "me.jpg", "painting.jpg", "photos/2024-1.jpg", "photos/in/a.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, scene()[:, :180])
    write_image(folder / "group.jpg", scene())
    for name, options in (("holiday.mp4", {}), ("clip.mov", {})):
        with open_sink(folder / name, SinkOptions(crf=40, preset="ultrafast", **options)) as sink:
            for frame in draw_clip(6, 320, 180, faces=2, seed=2):
                sink.write(frame)
    for name in ("long.mp4", "clip.mp4", "two.mp4"):
        shutil.copy(folder / "holiday.mp4", folder / name)
    for number in range(3):
        (folder / "shots").mkdir(exist_ok=True)
        write_image(folder / "shots" / f"frame_{number:05}.png", scene()[:, :180])
    for name in ("mystyle", "photos"):
        (folder / "portraits" / name).mkdir(parents=True)
        for seed in range(32):
            picture = folder / "portraits" / name / f"{seed}.png"
            write_image(picture, draw_portrait(seed, 32, "ink" if name == "mystyle" else "photo"))
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    """A working folder with those files, and a store as the default model would be."""
    for path in files.iterdir():
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DSG_PRETRAINED", raising=False)
    write_tiny_store(tmp_path / "pretrained", STYLES, discriminator=True)
    return tmp_path


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server of this test with a style and an encoder in the published form, as `arcane`."""
    dual, codes = small_dual(), small_codes(*(f"{n:02}.jpg" for n in range(14)))
    folder = tmp_path / "published"
    save_pt(folder / "arcane" / "generator.pt", {"g_ema": dual.state_dict()})
    save_npy(folder / "arcane" / "exstyle_code.npy", codes.names, codes.exstyle)
    save_pt(folder / "encoder.pt", encoder_checkpoint(small_encoder(), dual))
    kinds = {
        "arcane/generator.pt": "dualstylegan",
        "arcane/exstyle_code.npy": "codes",
        "encoder.pt": "encoder",
    }
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("dsgcli.store.pull.hub_is_installed", lambda: False)
    with WebServer() as web:
        monkeypatch.setenv("HF_ENDPOINT", web.address)
        text = '[licenses.nc]\ntitle = "Look only"\nsummary = "No trade."\ncommercial = false\n'
        text += 'url = "https://example.org"\n'
        for name, kind in kinds.items():
            web.serve(f"/a/b/resolve/v1/{name}", (folder / name).read_bytes())
            text += (
                f'[[file]]\nname = "{name.removesuffix(".pt")}"\nfile = "{name}"\n'
                f'kind = "{kind}"\nlicense = "nc"\nneeded_for = "tests"\n'
                f'groups = ["{name.split("/")[0]}"]\nsources = ["hf:a/b@v1/{name}"]\n'
            )
        (tmp_path / "manifest.toml").write_text(text)
        read = read_manifest(tmp_path / "manifest.toml")
        for module in ("pull", "convert", "lookup"):
            monkeypatch.setattr(f"dsgcli.store.{module}.read_manifest", lambda: read)
        yield web


# ── the README ───────────────────────────────────────────────────────────────────────────────────


def fitted(words: list[str]) -> list[str]:
    """The shipped recipe, for the base of the tiny store, which is cut to half its size."""
    size = ["--set", f"model.size_px={SIZE_PX // 2}", "--set", 'start.translator=""']
    return [*words, *size] if "mystyle" in words else words


@pytest.mark.slow
@pytest.mark.usefixtures("published")
def test_every_command_of_the_readme_runs(here):
    ran = 0
    for line in lines_of(README):
        if line in ELSEWHERE:
            continue
        words = fitted(words_of(line))
        assert words, f"nothing runs {line!r}"
        result = dsg(*words)
        assert result.exit_code == 0, f"{line}: {result.stderr}"
        if "--dry-run" in words:
            assert dsg(*words, "--json").json["problems"] == []
        if "-o" in words:
            assert Path(words[words.index("-o") + 1]).exists(), line
        ran += 1
    assert ran > 12
    assert list(Path().glob("photo_*-*.jpg"))  # named by the style, where no name is given


def test_the_training_guide_shows_the_recipe_that_is_shipped():
    page = (ROOT / "docs" / "training.md").read_text("utf-8")
    shown = next(r for r in re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE))
    shipped = (ROOT / "recipes" / "mystyle.toml").read_text("utf-8")
    assert shown == shipped.split("\n\n", 1)[1]


def test_the_recipe_of_a_newcomer_is_for_the_shipped_base():
    base = ROOT / "pretrained" / "default" / "base.safetensors"
    if not base.is_file():
        pytest.skip("this checkout has no default model")
    assert read_recipe(Path("mystyle")).start.translator == "default/translator"
    recipe = read_recipe(Path("dualstyle"))
    assert recipe.model.size_px < open_model(base).header.layout.size_px
    assert recipe.enlarge.base == recipe.start.base == "default/base"


def test_lines_that_are_run_elsewhere_are_in_the_readme():
    assert set(ELSEWHERE) <= set(lines_of(README))


def test_styles_of_the_pages_are_shipped_or_published():
    shipped = {info.name for info in ModelStore.open().styles()}
    manifest = read_manifest()
    for page in (README, *(path.read_text("utf-8") for path in GUIDES)):
        for line in lines_of(page):
            words = words_of(line)
            named = [b for a, b in pairwise(words) if a in ("-s", "--style")]
            for style in (name.partition(":")[0] for name in named):
                assert style in shipped or manifest.has_style(style), line


@pytest.mark.slow
@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_command_of_a_guide_runs(here, page):
    for line in lines_of(page.read_text("utf-8")):
        if line.startswith(("pip install", "dsg watch")):  # installed; runs until it is stopped
            continue
        words = [*words_of(line), "--overwrite"] if "stylize" in line else words_of(line)
        if "--start" in words:  # into a longer video than ours
            words[words.index("--start") + 1], words[words.index("--end") + 1] = "0.04", "0.2"
        if "--refine" in words:
            words[words.index("--refine") + 1] = "2"
        result = dsg(*words)
        assert result.exit_code == 0, f"{line}: {result.stderr}"


# ── make ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize("target", ["demo", "test", "check", "fix", "docs", "smoke", "release"])
def test_targets_of_make_are_there(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for script in re.findall(r"(?:benchmarks|docs)/\w+\.py", done.stdout):
        assert (ROOT / script).is_file()


@pytest.mark.slow
def test_the_demo_runs(tmp_path, monkeypatch, capsys):
    """With the shipped model, where there is one in this checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DSG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DSG_PRETRAINED", raising=False)
    spec = importlib.util.spec_from_file_location("demo", ROOT / "benchmarks" / "demo.py")
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    monkeypatch.setattr(demo, "FOLDER", tmp_path / "demo")
    monkeypatch.setattr(demo, "NUM_FRAMES", 6)
    monkeypatch.setattr(demo, "EXEMPLARS", 1)
    assert demo.run_demo() == 0, capsys.readouterr().err
    for name in ("sheet.jpg", "clip_stylized.mp4"):
        assert (tmp_path / "demo" / name).stat().st_size > 1000
