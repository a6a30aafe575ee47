"""Everything that stands in a run's way is told before it starts, all at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_store import SIZE_PX, STYLE_DIM

from dsgcli.errors import TrainingError, UsageError
from dsgcli.models.stylegan2 import Discriminator
from dsgcli.recipe import build, read_recipe
from dsgcli.store import ModelStore
from dsgcli.store.networks import load_generator
from dsgcli.store.write import save_generator
from dsgcli.training.estimate import channels_at, discriminator_load, estimate, generator_load
from dsgcli.training.plan import make_plan
from dsgcli.training.preflight import batch_problems, find_start
from dsgcli.training.run_dir import RunFolder

MODEL = {"size_px": SIZE_PX, "style_dim": STYLE_DIM, "last_structure": 6}


@pytest.fixture
def store(tiny_store: Path) -> ModelStore:
    return ModelStore.open(tiny_store)


def plan(recipe, run, store, **options):
    return make_plan(recipe, RunFolder(run), store, **options)


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(np.full((8, 8, 3), index, dtype=np.uint8)).save(folder / f"{index}.png")


def style_recipe(root, **more):
    values = {
        "data": {"root": str(root), "style": "toon"},
        "model": MODEL,
        "prepare": {},
        "finetune": {"batch_size": 8},
        **more,
    }
    return build(values)


# ── data ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 picture(s)"), (1, "1 picture(s)"), (7, "7 picture(s)"), (8, None)],
)
def test_folder_with_too_little_is_told(tmp_path, store, count, told):
    pictures(tmp_path / "data" / "toon", count)
    recipe = style_recipe(tmp_path / "data", start={"base": "base"})
    problems = plan(recipe, tmp_path / "run", store).problems
    wanted = f"{told} in {tmp_path / 'data' / 'toon'}, and the recipe needs at least 8"
    assert problems == ((wanted,) if told else ())


def test_missing_folder_is_told_with_how_to_say_where(tmp_path, store):
    recipe = style_recipe(tmp_path / "data", start={"base": "base"})
    (problem,) = plan(recipe, tmp_path / "run", store).problems
    folder = tmp_path / "data" / "toon"
    wanted = f"no folder {folder}: put pictures there, or name another folder with --data"
    assert problem == wanted


def test_growth_that_begins_below_its_base_is_told(tmp_path, store):
    growth = [{"size_px": SIZE_PX // 2, "steps": 1}, {"size_px": SIZE_PX, "steps": 1}]
    base = {"start": "autoencoder", "growth": growth}
    start = {"base": "base", "encoder": "encoder"}
    recipe = build({"base": base, "model": MODEL, "start": start, "data": {"drawn": 9}})
    (problem,) = [p for p in plan(recipe, tmp_path / "run", store).problems if "growth" in p]
    assert problem.endswith(
        f"is of {SIZE_PX} px, and the growth begins at {SIZE_PX // 2}; begin it there"
    )


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ({"size_px": 2 * SIZE_PX}, f"only an encoder is to learn at {2 * SIZE_PX}; learn it at"),
        ({"size_px": SIZE_PX // 2, "lambda_adv": 0.1}, "so is its discriminator; drop lambda_adv"),
        ({"size_px": SIZE_PX // 2}, ""),
    ],
)
def test_encoder_that_is_to_learn_what_its_base_does_not_draw_is_told(tmp_path, store, step, told):
    base = {"start": "autoencoder", "growth": [{"steps": 1, "learns": "encoder", **step}]}
    start = {"base": "base", "encoder": "encoder"}
    recipe = build({"base": base, "model": MODEL, "start": start, "data": {"drawn": 9}})
    problems = [p for p in plan(recipe, tmp_path / "run", store).problems if "[start] base" in p]
    assert [told in problem for problem in problems] == [True] * bool(told)
    without = build({"base": base, "model": MODEL, "data": {"drawn": 9}})
    assert any("needs 'encoder'" in p for p in plan(without, tmp_path / "run", store).problems)


def test_stage_without_portraits_is_told(tmp_path, store):
    recipe = build({"base": {}, "model": MODEL})
    problems = plan(recipe, tmp_path, store).problems
    assert problems == ("stage 'base' needs portraits: name their folder in [data] source",)
    recipe = build({"finetune": {}, "data": {"style": "x"}, "start": {"base": "base"}})
    told = "stage 'finetune' needs prepared portraits: run the stage 'prepare' first"
    assert told in plan(recipe, tmp_path, store).problems


def test_style_that_cannot_be_drawn_is_told(tmp_path, store):
    recipe = style_recipe("", start={"base": "base"}, data={"drawn": 3, "style": "cubism"})
    problems = plan(recipe, tmp_path, store).problems
    assert problems == (
        (
            "no style 'cubism' can be drawn; there are photo, ink, pop, people, "
            "and the styles of a translator"
        ),
        "[data] drawn is 3, and the recipe needs at least 8",
    )


# ── models ───────────────────────────────────────────────────────────────────────────────────────


def test_recipe_for_a_style_without_codes_is_told(tmp_path, store):
    pictures(tmp_path / "data" / "toon", 40)
    start = {"base": "base", "encoder": "encoder", "pretrained": "base"}
    recipe = build(
        {
            "data": {"root": str(tmp_path / "data"), "style": "toon"},
            "model": MODEL,
            "features": {"perceptual": "encoder"},
            "start": start,
            "prepare": {},
            "transfer": {},
        }
    )
    problems = plan(recipe, tmp_path / "run", store).problems
    told = "stage 'transfer' needs 'codes': run the stage that makes it too, or name a file in"
    assert problems == (f"{told} [start]",)


def test_checkpoint_of_another_size_is_told(tmp_path, store):
    pictures(tmp_path / "data" / "toon", 8)
    start = {"base": "base"}
    recipe = style_recipe(tmp_path / "data", start=start, model={"size_px": 256})
    (problem,) = plan(recipe, tmp_path / "run", store).problems
    assert problem.startswith("[start] base: ")
    assert problem.endswith("is of 64 px, and model.size_px is 256")


def test_published_file_that_is_missing_is_told_with_the_command_that_gets_it(tmp_path, store):
    pictures(tmp_path / "data" / "toon", 8)
    recipe = style_recipe(tmp_path / "data", start={"base": "stylegan2-ffhq-config-f.pt"})
    (problem,) = plan(recipe, tmp_path / "run", store).problems
    assert "dsg models pull stylegan2-ffhq" in problem


def test_networks_of_the_losses_are_told_with_the_command_that_gets_them(tmp_path, store):
    recipe = build(
        {
            "features": {"perceptual": "vgg", "identity": "irse50"},
            "data": {"source": [{"folder": "photo"}], "drawn": 8},
            "start": {"base": "base"},
            "model": MODEL,
            "prepare": {},
            "encoder": {},
        }
    )
    problems = plan(recipe, tmp_path, store).problems
    assert len(problems) == 4
    for name, problem in zip(("vgg19", "vgg16", "lpips", "identity"), problems, strict=True):
        assert problem.startswith(f"[features] needs {name}: ")
        assert "dsg models pull" in problem


def test_network_that_figures_want_is_told_before_the_first_step(tmp_path, store):
    values = {"model": MODEL, "start": {"style": "toon", "codes": "toon", "encoder": "encoder"}}
    data = {"data": {"drawn": 40, "style": "pop"}, "prepare": {}}
    told = {
        features: plan(
            build({**values, **data, "evaluate": {"features": features}}), tmp_path, store
        ).problems
        for features in ("encoder", "vgg16")
    }
    (problem,) = set(told["vgg16"]) - set(told["encoder"])
    assert problem.startswith("evaluate.features needs vgg16: ")


def test_everything_is_told_at_once(tmp_path, store):
    recipe = build(
        {
            "data": {"root": str(tmp_path), "style": "toon", "source": [{"folder": "photos"}]},
            "prepare": {},
            "encoder": {},
            "transfer": {},
        }
    )
    with pytest.raises(TrainingError) as caught:
        plan(recipe, tmp_path / "run", store).check()
    message = str(caught.value)
    assert "the run cannot start, 5 problem(s):" in message
    for word in ("photos", "toon", "'base'", "'pretrained'", "'codes'"):
        assert word in message
    assert not (tmp_path / "run").exists()


def test_unknown_stage_is_told_with_those_of_the_recipe(tmp_path, store):
    with pytest.raises(UsageError, match="no stage 'transfr'; it has finetune, transfer"):
        plan(build({"transfer": {}, "finetune": {}}), tmp_path, store, only=["transfr"])


# ── where things come from ───────────────────────────────────────────────────────────────────────


def test_start_names_a_file_a_run_a_run_beside_or_a_model_of_the_store(tmp_path, store):
    run = RunFolder(tmp_path / "runs" / "noir")
    made = tmp_path / "runs" / "faces" / "base" / "base.safetensors"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"")
    shipped = store.find("base").path

    def found(value):
        return find_start("base", build({"start": {"base": value}}), run, store)

    assert found(str(made)) == made
    assert found(str(tmp_path / "runs" / "faces")) == made
    assert found("faces") == made
    assert found("base") == shipped
    assert found("") is None


def test_artifact_of_an_earlier_stage_comes_before_those_of_later_ones(tmp_path):
    run = RunFolder(tmp_path)
    for stage in ("destylize", "refine"):
        path = run.artifact(stage, "codes")
        path.parent.mkdir(parents=True)
        path.write_bytes(b"")
    assert run.find("codes", before="sampler") == run.artifact("refine", "codes")
    assert run.find("codes", before="refine") == run.artifact("destylize", "codes")
    assert run.find("codes", before="destylize") is None


# ── what has changed ─────────────────────────────────────────────────────────────────────────────


def test_changed_recipe_is_refused_unless_forced_or_done_again(tmp_path, store):
    pictures(tmp_path / "data" / "toon", 8)
    start = {"base": "base"}
    run = RunFolder(tmp_path / "run")
    run.begin("finetune", style_recipe(tmp_path / "data", start=start))
    other = {"batch_size": 8, "lr": 0.1}
    recipe = style_recipe(tmp_path / "data", start=start, finetune=other)
    changed = plan(recipe, run.path, store)
    assert changed.changed == ("[finetune] finetune.lr was 0.002, is 0.1",)
    with pytest.raises(TrainingError, match=r"finetune.lr was 0.002, is 0.1; pass --force"):
        changed.check()
    changed.check(force=True)
    plan(recipe, run.path, store, again=["finetune"]).check()


def test_change_that_does_not_change_results_is_let_pass(tmp_path, store):
    pictures(tmp_path / "data" / "toon", 8)
    pictures(tmp_path / "moved" / "toon", 8)
    start = {"base": "base"}
    run = RunFolder(tmp_path / "run")
    run.begin("finetune", style_recipe(tmp_path / "data", start=start))
    free = {"device_batch": 2, "sample_every": 7, "name": "other", "license": "MIT"}
    recipe = style_recipe(tmp_path / "moved", start=start, run=free)
    assert plan(recipe, run.path, store).changed == ()


def test_stage_done_is_skipped_and_can_be_done_again(tmp_path, store):
    run = RunFolder(tmp_path)
    recipe = build({"sampler": {}, "refine": {}})
    run.begin("refine", recipe)
    run.note("refine", done=True)
    assert plan(recipe, tmp_path, store).to_do == ["sampler"]
    assert plan(recipe, tmp_path, store, again=["refine"]).to_do == ["refine", "sampler"]
    assert plan(recipe, tmp_path, store, only=["refine"]).to_do == []


# ── estimates ────────────────────────────────────────────────────────────────────────────────────


def test_load_counts_the_parameters_of_the_networks():
    """Against the networks themselves, which have small layers that the estimate leaves out."""
    from dsgcli.models.stylegan2 import Generator
    from dsgcli.training.stages.base import generator_config, new_judge

    model = read_recipe(Path(__file__).parents[2] / "recipes" / "default" / "base.toml").model
    config = generator_config(model)
    assert channels_at(model, 64) == config.channels[64]
    whole = replace(model, discriminator="stylegan2")
    for network, load in (
        (Generator(config), generator_load(model, 256)),
        (new_judge(config, "patch"), discriminator_load(model, 256)),
        (new_judge(config, "stylegan2"), discriminator_load(whole, 256)),
    ):
        counted = sum(p.numel() for p in network.parameters())
        assert load.parameters == pytest.approx(counted, rel=0.3)


def test_estimate_grows_with_steps_and_size():
    def hours(**model):
        recipe = build({"model": model, "finetune": {"steps": 100}})
        cost = estimate("finetune", recipe)
        assert cost is not None
        return cost.hours, cost.memory_gib

    small, large = hours(size_px=64), hours(size_px=256)
    assert small[0] < large[0]
    assert small[1] < large[1]
    assert estimate("sampler", build({"sampler": {}})) is None


def test_estimate_knows_what_of_a_base_learns():
    def hours(learns, size_px=64):
        growth = [{"size_px": size_px, "steps": 100, "batch_size": 8, "learns": learns}]
        base = {"start": "autoencoder", "steps": 0, "growth": growth}
        cost = estimate("base", build({"model": {"size_px": 64}, "base": base}))
        assert cost is not None
        return cost.hours

    assert hours("new") < hours("encoder") < hours("all")
    assert 0 < hours("all", 32) < hours("all")


def test_estimate_of_destylization_grows_with_portraits():
    recipe = build({"model": {"size_px": 32, "last_structure": 4}, "destylize": {}})
    few, many = (estimate("destylize", recipe, portraits) for portraits in (10, 20))
    assert few is not None
    assert many is not None
    assert many.hours == pytest.approx(2 * few.hours)
    assert estimate("destylize", recipe) is None


# ── batches ──────────────────────────────────────────────────────────────────────────────────────


def test_batch_norms_that_would_not_see_the_whole_batch_are_told():
    growth = [{"size_px": 32, "steps": 1, "batch_size": 8}, {"steps": 1, "batch_size": 4}]
    growth[1]["size_px"] = 64
    recipe = build(
        {
            "base": {"start": "autoencoder", "growth": growth, "steps": 0},
            "finetune": {"batch_size": 8},
            "encoder": {"batch_size": 6},
            "run": {"device_batch": 4},
        }
    )
    stages = ("base", "encoder", "finetune")
    told = list(batch_problems(recipe, stages, 1))
    assert told == [
        f"the batch of {batch} of stage {stage!r} goes through batch norms, which need it whole, "
        f"and run.device_batch is 4: set it to {batch} or 0, lower the batch, or start more "
        f"processes"
        for stage, batch in (("base", 8), ("encoder", 6))
    ]
    assert list(batch_problems(recipe, stages, 2)) == []


def test_batch_that_processes_cannot_share_is_told():
    recipe = build({"finetune": {"batch_size": 8}, "refine": {"batch_size": 8}})
    assert list(batch_problems(recipe, recipe.stages, 3)) == [
        "the batch of 8 of stage 'finetune' cannot be shared evenly by 3 processes; change either"
    ]


def test_estimates_are_of_the_base_that_a_run_starts_from(tmp_path, store):
    """A recipe says its size alone; how wide its networks are is the base's business."""
    pictures(tmp_path / "data" / "toon", 8)
    model = {"size_px": SIZE_PX}
    wide = style_recipe(tmp_path / "data", model=model)
    named = style_recipe(
        tmp_path / "data", model=model, start={"base": "base", "encoder": "encoder"}
    )
    sizes = plan(named, tmp_path / "run", store).sizes
    assert (sizes.style_dim, sizes.mapping_layers, sizes.max_channels) == (STYLE_DIM, 2, 24)
    shown = plan(named, tmp_path / "run", store).as_document()["recipe"]["model"]
    assert shown["style_dim"] == STYLE_DIM  # what will be, not the table's default
    assert [channels_at(sizes, side) for side in (4, 32, 64)] == [24, 24, 16]
    assert (sizes.encoder_px, sizes.encoder_widths) == (SIZE_PX, (8, 8, 12, 16, 24))
    assert plan(wide, tmp_path / "run", store).sizes == wide.model
    line = {n: plan(r, tmp_path / "run", store).lines[1] for n, r in (("w", wide), ("n", named))}
    assert line["n"].hours < line["w"].hours / 20
    assert line["n"].memory_gib < line["w"].memory_gib / 2


def test_a_base_that_is_not_here_leaves_the_estimate_to_the_recipe(tmp_path, store):
    recipe = style_recipe(tmp_path / "data", start={"base": "nowhere"})
    assert plan(recipe, tmp_path / "run", store).sizes == recipe.model


@pytest.mark.parametrize("judges", [True, False])
def test_a_base_that_cannot_judge_is_told(tmp_path, store, judges):
    base = load_generator(store.find("base").path)
    judge = Discriminator(base.config) if judges else None
    save_generator(tmp_path / "base.safetensors", base, discriminator=judge)
    pictures(tmp_path / "data" / "toon", 8)
    start = {"base": str(tmp_path / "base.safetensors"), "encoder": "encoder"}
    recipe = style_recipe(tmp_path / "data", start=start, destylize={})
    problems = plan(recipe, tmp_path / "run", store).problems
    assert any("features.perceptual = 'discriminator'" in p for p in problems) is not judges
