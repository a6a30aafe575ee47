"""The tiny recipe from drawn faces to a style that draws, as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command import dsg
from safetensors.torch import load_file

import dsgcli
from dsgcli.errors import InterruptedRunError, TrainingError
from dsgcli.inference.generator import fold
from dsgcli.models.stylegan2 import Discriminator
from dsgcli.progress import NULL_PROGRESS
from dsgcli.recipe import STAGES, PretrainRecipe, build, read_recipe
from dsgcli.store import ModelStore
from dsgcli.store.networks import load_discriminator, load_encoder
from dsgcli.training.drawn import draw_portrait
from dsgcli.training.record import METRICS, read_metrics
from dsgcli.training.run import TrainOptions, train
from dsgcli.training.run_dir import RunFolder
from dsgcli.training.sheets import save_picture
from dsgcli.training.stages.destylize import Destylizer
from dsgcli.training.stages.pretrain import crossings
from dsgcli.training.stages.refine import RefineStage
from dsgcli.training.stages.transfer import TransferTraining
from dsgcli.types import LatentLayout, StyleRef, StyleWeights

TINY = Path(__file__).parents[2] / "recipes" / "tiny.toml"
ALL = tuple(stage for stage in STAGES if stage not in ("enlarge", "distill"))
"""What the tiny recipe does: a style needs another base to be enlarged, a translator has recipes
of its own."""

STARTS = ("base", "encoder")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The tiny recipe, run once."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    summary = train(read_recipe(TINY), TrainOptions(folder=folder, device="cpu"))
    assert summary is not None
    assert (summary.done, summary.skipped) == (ALL, ())
    return folder


def test_tiny_recipe_makes_everything_that_it_promises(finished):
    for stage in ALL:
        assert json.loads((finished / stage / "state.json").read_text())["done"]
    for stage, artifact in (
        ("base", "base"),
        ("encoder", "encoder"),
        ("finetune", "finetuned"),
        ("destylize", "codes"),
        ("pretrain", "pretrained"),
        ("transfer", "style"),
        ("refine", "codes"),
        ("sampler", "sampler"),
    ):
        assert (finished / stage / f"{artifact}.safetensors").is_file()
    page = (finished / "report.html").read_text("utf-8")
    assert all(f"<h2>{stage}</h2>" in page for stage in ("base", "transfer", "evaluate"))


def test_tiny_recipe_learns(finished):
    rows = list(read_metrics(finished / "base" / METRICS))
    pixel = [row["pixel"] for row in rows if row["run"] == "base-1-32px"]
    assert len(pixel) == 40
    assert sum(pixel[-5:]) < 0.8 * sum(pixel[:5])


def test_style_of_the_run_draws(finished):
    """From the packaged folder, as `dsg stylize --pretrained` takes it."""
    store = ModelStore.open(finished / "pretrained")
    style = store.style("tiny")
    assert style.names[:2] == ("pop-000", "pop-001")
    assert style.info.license == "MIT"
    resolved = store.resolve(StyleRef.parse("tiny:pop-003"))
    dual, encoder = store.generator("tiny"), store.encoder("tiny")
    face = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        ws = dual.generator.map_plus(encoder(face))
        exstyle_ws = dual.generator.map_plus(resolved.exstyle[None])
        weights = StyleWeights.of(dual.layout)
        portrait = dual(ws, exstyle_ws, weights.layers)
    assert portrait.shape == (1, 3, 32, 32)
    assert bool(torch.isfinite(portrait).all())
    assert store.sampler("tiny").config.noise_dim == 16
    assert store.finetuned("tiny").config == dual.generator.config


def test_style_of_the_run_is_taken_by_the_command_line(finished, tmp_path):
    save_picture(tmp_path / "face.png", draw_portrait(5, 256))
    options = ("--style", "tiny:pop-003", "--pretrained", finished / "pretrained")
    result = dsg("stylize", tmp_path / "face.png", "-o", tmp_path / "drawn.png", *options)
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "drawn.png").is_file()


def test_evaluation_names_its_features(finished):
    figures = json.loads((finished / "evaluate" / "metrics.json").read_text())
    assert {"kid (encoder)", "fid (encoder)", "style distance (discriminator)"} <= figures.keys()
    assert figures["samples"] == 16


def test_candidate_is_proposed_and_taken_by_the_stages_after(finished):
    scores = json.loads((finished / "transfer" / "candidates.json").read_text())
    assert [s["step"] for s in scores["scores"]] == [10, 15, 20]
    assert scores["proposed"] in (10, 15, 20)


def test_same_command_again_does_nothing(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*.safetensors")}
    summary = train(read_recipe(TINY), TrainOptions(folder=finished, device="cpu"))
    assert summary is not None
    assert (summary.done, summary.skipped) == ((), ALL)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*.safetensors")} == before


def test_changed_recipe_is_refused(finished):
    changed = read_recipe(TINY, ["transfer.lambda_id=4"])
    with pytest.raises(TrainingError, match=r"transfer.lambda_id was 1.0, is 4.0"):
        train(changed, TrainOptions(folder=finished, device="cpu"))


def test_folder_in_use_is_left_alone(finished):
    with RunFolder(finished).locked(), pytest.raises(TrainingError, match="another dsg train"):
        train(read_recipe(TINY), TrainOptions(folder=finished, device="cpu"))


def test_ctrl_c_in_a_stage_without_a_loop_says_how_to_go_on(finished, tmp_path, monkeypatch):
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "refine")

    def interrupt(self, context):
        raise KeyboardInterrupt

    monkeypatch.setattr(RefineStage, "run", interrupt)
    with pytest.raises(InterruptedRunError, match="stopped in stage 'refine'; the same command"):
        train(read_recipe(TINY), TrainOptions(folder=folder, device="cpu"))


def test_destylization_goes_on_after_the_last_whole_batch(finished, tmp_path, monkeypatch):
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "destylize")
    options = TrainOptions(folder=folder, device="cpu", stages=("destylize",))
    fit, batches = Destylizer.run, []

    def stopped(self, portraits, *rest):
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(len(portraits))
        return fit(self, portraits, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Destylizer, "run", stopped)
        with pytest.raises(InterruptedRunError, match="stopped in stage 'destylize'"):
            train(read_recipe(TINY), options)
    parts = {p: p.stat().st_mtime_ns for p in (folder / "destylize" / "parts").iterdir()}
    assert len(parts) == 2
    train(read_recipe(TINY), options)
    assert all(path.stat().st_mtime_ns == before for path, before in parts.items())
    assert len(list((folder / "destylize" / "sheets").iterdir())) == 24
    ours, theirs = (load_file(f / "destylize" / "codes.safetensors") for f in (folder, finished))
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())


@pytest.mark.parametrize("start", ["checkpoint", "scratch"])
def test_base_begins_from_a_file_or_from_nothing(finished, tmp_path, start):
    folder, before = tmp_path / "tiny", finished / "base" / "base.safetensors"
    shutil.copytree(finished / "prepare", folder / "prepare")
    changes = [f'base.start="{start}"', "base.growth=[]", "base.steps=1", f'start.base="{before}"']
    options = TrainOptions(folder=folder, device="cpu", stages=("base",))
    train(read_recipe(TINY, changes), options)
    ours, theirs = (load_file(f / "base" / "base.safetensors") for f in (folder, finished))
    key = "g_ema/convs.0.conv.weight"
    moved = float((ours[key] - theirs[key]).abs().max())
    rate = read_recipe(TINY).base.lr  # a step of Adam moves a weight by no more
    assert 0 < moved < rate if start == "checkpoint" else moved > 5 * rate
    assert not (folder / "base" / "encoder.safetensors").exists()


def test_autoencoder_goes_on_from_files(finished, tmp_path):
    """From a base of the same size, and from it to twice that."""
    source = finished / "prepare"
    given = [f'start.{name}="{finished}/base/{name}.safetensors"' for name in STARTS]
    pixel = {}
    for size_px, judge in ((32, "patch"), (64, "stylegan2")):
        folder = tmp_path / str(size_px)
        if size_px == 32:
            shutil.copytree(source, folder / "prepare")
        growth = f"[{{size_px={size_px},steps=2,batch_size=8,lr=1e-5,lambda_adv=0.1}}]"
        changes = [f"base.growth={growth}", "base.steps=0", f"model.size_px={size_px}"]
        changes += [f'model.discriminator="{judge}"', *given]
        changes += ["model.style_dim=64", "model.channel_base=256"]  # the files' go before these
        options = TrainOptions(folder=folder, device="cpu", stages=("prepare", "base"), force=True)
        train(read_recipe(TINY, changes), options)
        rows = [row for row in read_metrics(folder / "base" / METRICS) if "pixel" in row]
        pixel[size_px] = rows[0]["pixel"]
        encoder = load_encoder(folder / "base" / "encoder.safetensors")
        assert encoder.config.num_latents == LatentLayout(size_px, 4).num_latents
        stored = load_discriminator(folder / "base" / "base.safetensors")
        assert isinstance(stored, Discriminator)  # the one of the base that it started from
    fresh = [row for row in read_metrics(finished / "base" / METRICS) if "pixel" in row]
    assert max(pixel.values()) < 0.8 * fresh[0]["pixel"]


@pytest.fixture(scope="module")
def larger(finished, tmp_path_factory) -> Path:
    """The base of the tiny recipe with the layers of 64 px on top."""
    folder = tmp_path_factory.mktemp("larger") / "wide"
    growth = '[{size_px=64,steps=2,batch_size=8,lr=1e-3,lambda_adv=0.1,learns="new"}]'
    changes = [f"base.growth={growth}", "base.steps=0", "model.size_px=64"]
    changes += [f'start.{name}="{finished}/base/{name}.safetensors"' for name in STARTS]
    options = TrainOptions(folder=folder, device="cpu", stages=("prepare", "base"))
    train(read_recipe(TINY, changes), options)
    return folder


def test_style_is_enlarged_by_a_base_that_has_grown_from_its_own(finished, larger, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    recipe = read_recipe(TINY, [f'enlarge.{name}="{larger}"' for name in STARTS])
    with pytest.raises(TrainingError, match="--again sampler"):
        train(recipe, TrainOptions(folder=folder, device="cpu"))
    again = TrainOptions(folder=folder, device="cpu", again=("sampler", "evaluate"))
    summary = train(recipe, again)
    assert summary is not None
    assert summary.done == ("sampler", "evaluate")
    before, after = (ModelStore.open(run / "pretrained") for run in (finished, folder))
    small, large = before.generator("tiny"), after.generator("tiny")
    code, longer = (s.resolve(StyleRef.parse("tiny:pop-003")).exstyle for s in (before, after))
    assert torch.equal(longer[:8], code)
    ws, exstyle_ws = torch.randn(1, 10, 32), large.generator.map_plus(longer[None])
    with torch.no_grad():
        wanted = fold(small, exstyle_ws[:, :8])(ws[:, :8])
        torch.testing.assert_close(fold(large, exstyle_ws, size_px=32)(ws), wanted)
        assert large(ws, exstyle_ws).shape == (1, 3, 64, 64)
    assert after.finetuned("tiny").config == large.generator.config
    assert after.sampler("tiny").config.layout == large.layout


def test_style_is_not_enlarged_by_another_base(finished, larger, tmp_path):
    """Told before anything runs, where the recipe names both."""
    shutil.copytree(finished / "prepare", tmp_path / "other" / "prepare")
    changes = ['base.start="scratch"', "base.growth=[]", "base.steps=1"]
    options = TrainOptions(folder=tmp_path / "other", device="cpu", stages=("base",))
    train(read_recipe(TINY, changes), options)
    named = [f'enlarge.{name}="{larger}"' for name in STARTS]
    named += ['start.base="other"', f'start.encoder="{finished}"']
    stages = ("prepare", "finetune", "destylize", "pretrain", "transfer", "enlarge")
    options = TrainOptions(folder=tmp_path / "run", stages=stages)
    with pytest.raises(TrainingError, match=r"\[enlarge\] base: the base of 64 px has not grown"):
        train(read_recipe(TINY, named), options)


def test_autoencoder_wants_both_networks_to_go_on(finished, tmp_path):
    changes = [f'start.base="{finished}/base/base.safetensors"']
    options = TrainOptions(folder=tmp_path / "tiny", device="cpu", stages=("prepare", "base"))
    with pytest.raises(TrainingError, match=r"'base' needs 'encoder'"):
        train(read_recipe(TINY, changes), options)


def test_style_of_a_base_that_was_made_again_is_not_packaged_with_the_new_one(finished, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    changed = read_recipe(TINY, ['base.start="scratch"', "base.growth=[]", "base.steps=1"])
    options = {"device": "cpu", "again": ("base",), "stages": ("base",), "force": True}
    with pytest.raises(TrainingError, match="trained on another base than the one there now"):
        train(changed, TrainOptions(folder=folder, **options))


def test_pretraining_goes_down_a_row_a_level(finished):
    rows = list(read_metrics(finished / "pretrain" / METRICS))
    steps = {name: sum(row["run"] == name for row in rows) for name in {r["run"] for r in rows}}
    assert steps == {"pretrain-1": 2, "pretrain-2": 2, "pretrain-3": 20}
    assert crossings(PretrainRecipe(), read_recipe(TINY)) == [5, 4, 3]
    assert crossings(PretrainRecipe(), build({"model": {"size_px": 1024}})) == [7, 6, 5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to be fast")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_stage_ends_with_the_same_bits(finished, tmp_path):
    """Killed with -9 in stage three, started again: the same style as without."""
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    for stage in ("transfer", "refine", "sampler", "evaluate"):
        shutil.rmtree(folder / stage)
    recipe = read_recipe(TINY, ["run.checkpoint_minutes=0"])
    options = TrainOptions(folder=folder, device="cpu", stages=("transfer",))
    child = os.fork()
    if child == 0:
        _die_after(13)
        train(recipe, options)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert not (folder / "transfer" / "style.safetensors").exists()
    train(recipe, options)
    ours, theirs = (load_file(f / "transfer" / "style.safetensors") for f in (folder, finished))
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key


def _die_after(steps: int) -> None:
    finish = TransferTraining.finish

    def fatal(self: TransferTraining, iteration: int) -> None:
        finish(self, iteration)
        if iteration + 1 == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    TransferTraining.finish = fatal  # type: ignore[method-assign]


def test_two_processes_give_the_losses_of_one(finished, tmp_path):
    """torchrun with gloo; later steps drift apart, as Adam without momentum magnifies rounding."""
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "finetune")
    root = str(Path(dsgcli.__file__).parent.parent)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = ["--nproc-per-node", "2", "-m", "dsgcli", "train", str(TINY), "-o", str(folder)]
    ran = subprocess.run(
        [*torchrun, *command, "--stage", "finetune", "--device", "cpu"],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("done: finetune") == 1
    one, two = (list(read_metrics(f / "finetune" / METRICS)) for f in (finished, folder))
    assert len(one) == len(two) == 20
    for a, b in zip(one[:5], two[:5], strict=True):
        losses = {key: value for key, value in a.items() if key.startswith(("loss/", "score/"))}
        assert losses == pytest.approx({key: b[key] for key in losses}, rel=1e-3, abs=1e-4)


def test_stage_done_again_keeps_what_it_made_before(finished, tmp_path):
    folder = tmp_path / "tiny"
    shutil.copytree(finished, folder)
    options = TrainOptions(folder=folder, device="cpu", again=("sampler",), stages=("sampler",))
    summary = train(read_recipe(TINY), options, NULL_PROGRESS)
    assert summary is not None
    assert summary.done == ("sampler",)
    assert (folder / "sampler.before" / "sampler.safetensors").is_file()
    ours, theirs = (load_file(f / "sampler" / "sampler.safetensors") for f in (folder, finished))
    assert all(torch.equal(ours[key], value) for key, value in theirs.items())
