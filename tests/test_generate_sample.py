"""Random portraits: a seed is a picture, whatever is beside it; files are whole or not there."""

import numpy as np
import pytest
import torch
from command import dsg
from PIL import Image

from dsgcli.errors import OutputExistsError, RecipeError, SourceError, UsageError
from dsgcli.generate.codes import draw_codes, load_codes, parse_seeds, save_codes
from dsgcli.generate.sample import SampleOptions, run
from dsgcli.generate.scenes import Scene, SceneRenderer, WeightedStyle
from dsgcli.media.images import read_image
from dsgcli.media.read import read_metadata
from dsgcli.models.style_sampler import SamplerConfig, StyleSampler
from dsgcli.portraits import Portraits
from dsgcli.types import StyleWeights

WIDTH = 32


@pytest.fixture
def portraits(only_tiny_store):
    return Portraits(only_tiny_store.generator("toon"))


@pytest.fixture
def sampler(portraits):
    config = SamplerConfig(layout=portraits.layout, style_dim=WIDTH, noise_dim=8)
    return StyleSampler(config).eval()


def pictures(folder):
    """All single pictures of a folder by name, without the sheet."""
    paths = sorted(folder.glob("seed*.png"))
    return {path.stem: read_image(path).pixels for path in paths}


def draw(tmp_path, name="out", **values):
    run(SampleOptions(output=tmp_path / name, **{"device": "cpu", **values}))
    return pictures(tmp_path / name)


# ── seeds ────────────────────────────────────────────────────────────────────────────────────────


def test_seeds_are_numbers_and_ranges():
    assert parse_seeds("0, 4-6") == (0, 4, 5, 6)


@pytest.mark.parametrize("text", ["", "a", "3-1", "1-", "-4", "0-1000000", "9" * 30])
def test_seeds_that_are_none_are_refused(text):
    with pytest.raises(UsageError, match="--seeds"):
        parse_seeds(text)


def test_a_seed_gives_the_same_codes_whatever_is_drawn_beside_it(sampler):
    some, more = draw_codes([5, 9], WIDTH, sampler), draw_codes([1, 9, 5], WIDTH, sampler)
    assert torch.equal(some.instyle[0], more.instyle[2])
    assert torch.equal(some.exstyle[1], more.exstyle[1])


@pytest.mark.parametrize("part", ["content", "structure", "color"])
def test_a_fixed_part_is_the_first_seeds(portraits, sampler, part):
    codes = draw_codes([1, 2], WIDTH, sampler, fixed=frozenset({part}))
    layout = portraits.layout
    parts = {
        "content": codes.instyle,
        "structure": codes.exstyle[:, layout.structure],
        "color": codes.exstyle[:, layout.color],
    }
    for name, value in parts.items():
        assert torch.equal(value[0], value[1]) == (name == part)


# ── drawing ──────────────────────────────────────────────────────────────────────────────────────


def test_scenes_are_drawn_as_the_network_draws(portraits):
    model, layout = portraits.generator, portraits.layout
    ws, exstyle_ws = (torch.randn(3, layout.num_latents, WIDTH) for _ in range(2))
    weights = StyleWeights.of(layout, structure=0.6, color=0.7)
    pulls = [(WeightedStyle(model, code),) for code in exstyle_ws]
    scenes = [
        Scene(ws=w, structure=p, color=p, weights=weights) for w, p in zip(ws, pulls, strict=True)
    ]
    drawn = torch.stack(list(SceneRenderer(portraits).images(scenes)))
    torch.testing.assert_close(drawn, model(ws, exstyle_ws, weights.layers), atol=1e-4, rtol=1e-4)


def test_scenes_of_different_weights_can_be_drawn_together(portraits, monkeypatch):
    model, layout = portraits.generator, portraits.layout
    ws, code = torch.randn(layout.num_latents, WIDTH), torch.randn(layout.num_latents, WIDTH)
    scenes = [
        Scene(
            ws=ws,
            structure=(WeightedStyle(model, code),),
            color=(WeightedStyle(model, code),),
            weights=StyleWeights.of(layout, structure=weight, color=1 - weight),
        )
        for weight in (0.0, 0.5, 1.0)
    ]
    alone = list(SceneRenderer(portraits).images(scenes))
    monkeypatch.setattr(SceneRenderer, "num_together", 3)
    together = list(SceneRenderer(portraits).images(scenes))
    torch.testing.assert_close(torch.stack(together), torch.stack(alone), atol=1e-4, rtol=1e-4)


def test_a_mixture_of_a_model_with_itself_is_that_model(portraits):
    model, layout = portraits.generator, portraits.layout
    ws, code = torch.randn(layout.num_latents, WIDTH), torch.randn(layout.num_latents, WIDTH)
    weights = StyleWeights.of(layout, structure=0.8, color=0.9)
    one = (WeightedStyle(model, code),)
    two = (WeightedStyle(model, code, 0.3), WeightedStyle(model, code, 0.7))
    drawn = SceneRenderer(portraits).images(
        Scene(ws=ws, structure=pulls, color=pulls, weights=weights) for pulls in (one, two)
    )
    torch.testing.assert_close(*drawn, atol=1e-4, rtol=1e-4)


def test_a_seed_gives_the_same_picture_to_the_bit(only_tiny_store, tmp_path):
    for extra in ({}, {"style_random": True}):
        many = draw(tmp_path, f"many{len(extra)}", seeds="0-4", batch_size=3, **extra)
        one = draw(tmp_path, f"one{len(extra)}", seeds="3", batch_size=1, **extra)
        np.testing.assert_array_equal(one["seed0003"], many["seed0003"])


def test_random_styles_differ_where_the_person_is_fixed(only_tiny_store, tmp_path):
    drawn = draw(tmp_path, n=2, style_random=True, fix_content=True)
    one_style = draw(tmp_path, "one", n=2, fix_content=True)
    assert (drawn["seed0000"] != drawn["seed0001"]).any()
    np.testing.assert_array_equal(one_style["seed0000"], one_style["seed0001"])


def test_plain_pictures_do_not_depend_on_the_style(only_tiny_store, tmp_path):
    toon = draw(tmp_path, "toon", n=2, plain=True, style="toon")
    ink = draw(tmp_path, "ink", n=2, plain=True, style="ink")
    styled = draw(tmp_path, "styled", n=2, style="ink")
    np.testing.assert_array_equal(toon["seed0001"], ink["seed0001"])
    assert (styled["seed0001"] != ink["seed0001"]).any()


def test_the_layer_swap_is_neither_plain_nor_styled(only_tiny_store, tmp_path):
    swapped = draw(tmp_path, "swap", n=1, layer_swap=True, style="toon")
    plain = draw(tmp_path, "plain", n=1, plain=True, style="toon")
    assert (swapped["seed0000"] != plain["seed0000"]).any()


def test_truncation_leads_to_the_average_face(only_tiny_store, tmp_path):
    drawn = draw(tmp_path, n=2, truncation=0.0)
    np.testing.assert_array_equal(drawn["seed0000"], drawn["seed0001"])


def test_a_smaller_size_is_drawn_by_the_same_layers(only_tiny_store, tmp_path):
    assert draw(tmp_path, n=1, size=32)["seed0000"].shape == (32, 32, 3)


# ── codes ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("random", [False, True])
def test_saved_codes_give_the_same_pictures(only_tiny_store, tmp_path, random):
    first = draw(tmp_path, n=3, style_random=random, save_codes=True)
    again = draw(tmp_path, "again", codes=tmp_path / "out" / "codes.safetensors")
    assert first.keys() == again.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])


def test_codes_keep_their_names(tmp_path, sampler):
    codes = draw_codes([3, 1], WIDTH, sampler)
    save_codes(tmp_path / "codes.safetensors", codes)
    assert load_codes(tmp_path / "codes.safetensors").names == ("seed0003", "seed0001")


def test_codes_cannot_name_files_elsewhere(tmp_path, sampler):
    codes = draw_codes([3], WIDTH, sampler)
    bad = type(codes)(codes.instyle, codes.exstyle, ("../evil",))
    save_codes(tmp_path / "codes.safetensors", bad)
    with pytest.raises(SourceError, match="file names"):
        load_codes(tmp_path / "codes.safetensors")


def test_codes_of_another_kind_of_file_are_refused(tmp_path, tiny_store):
    with pytest.raises(SourceError, match="holds no codes"):
        load_codes(tiny_store / "default" / "toon.safetensors")


def test_codes_of_another_width_are_refused_before_drawing(only_tiny_store, tmp_path):
    torch.manual_seed(0)
    codes = draw_codes([1], 16, torch.randn(10, 16))
    save_codes(tmp_path / "codes.safetensors", codes)
    with pytest.raises(UsageError, match="10 x 32"):
        draw(tmp_path, codes=tmp_path / "codes.safetensors")
    assert not (tmp_path / "out").exists()


# ── outputs ──────────────────────────────────────────────────────────────────────────────────────


def test_a_grid_decides_how_many_pictures_there_are(only_tiny_store, tmp_path):
    done = run(SampleOptions(output=tmp_path / "sheet.png", grid=(3, 2), device="cpu"))
    assert len(done["pictures"]) == 6
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 64 > 2 * 64
        assert 2 * 64 < sheet.height < 3 * 64


def test_pictures_say_what_they_are(only_tiny_store, tmp_path):
    draw(tmp_path, seeds="7", style="toon:cy")
    said = read_metadata(tmp_path / "out" / "seed0007.png")
    assert said["picture"] == "seed0007" and said["style"] == "toon-cy"


def test_a_second_run_goes_to_a_numbered_neighbor(only_tiny_store, tmp_path):
    def outputs(**values):
        done = run(SampleOptions(output=tmp_path / "out", device="cpu", **values))
        return done["output"], done["sheet"]

    names = ("out", "out-2", "out-3")
    wanted = [(str(tmp_path / name), str(tmp_path / name / "sheet.png")) for name in names]
    assert [outputs(n=2), outputs(n=2), outputs(seeds="1-4")] == wanted
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert files == ["seed0000.png", "seed0001.png", "sheet.png"]
    assert outputs(seeds="1-4", overwrite=True) == wanted[0]
    assert len(pictures(tmp_path / "out")) == 5


def test_files_of_others_are_not_overwritten_unless_told(only_tiny_store, tmp_path):
    (tmp_path / "out").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "out" / "seed0001.png")
    with pytest.raises(OutputExistsError, match="seed0001"):
        draw(tmp_path, n=2)
    with pytest.raises(OutputExistsError, match="mine"):
        Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
        draw(tmp_path, "mine.png", n=2)


def test_a_folder_gets_a_sheet_of_its_pictures(only_tiny_store, tmp_path):
    drawn = draw(tmp_path, n=4)
    sheet = read_image(tmp_path / "out" / "sheet.png").pixels
    np.testing.assert_array_equal(sheet[4:68, 4:68], drawn["seed0000"])
    np.testing.assert_array_equal(sheet[72:136, 72:136], drawn["seed0003"])


def test_a_sheet_too_large_for_its_format_is_refused_before_drawing(only_tiny_store, tmp_path):
    with pytest.raises(UsageError, match="too large"):
        run(SampleOptions(output=tmp_path / "a.webp", n=300, grid=(300, 1), device="cpu"))
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"plain": True, "style_random": True}, "plain draws without"),
        ({"layer_swap": True, "structure": 0.5}, "layer_swap draws without"),
        ({"plain": True, "layer_swap": True}, "choose one"),
        ({"seeds": "1", "n": 4}, "drop n"),
        ({"output": "a.mp4"}, "folder or a sheet"),
        ({"truncation": 1.5}, "between 0 and 1"),
    ],
)
def test_contradictions_are_refused(values, said):
    from pathlib import Path

    values = values | {"output": Path(values.get("output", "samples"))}
    with pytest.raises(RecipeError, match=said):
        SampleOptions(**values)


# ── the command ──────────────────────────────────────────────────────────────────────────────────


def test_the_command_says_what_it_drew(only_tiny_store, tmp_path):
    result = dsg("sample", "--n", 2, "--style", "toon:bo", "-o", "faces", "--save-codes", "--json")
    assert result.exit_code == 0
    assert result.json["pictures"] == ["seed0000", "seed0001"]
    assert result.json["style"] == "toon-bo"
    assert {p.name for p in (tmp_path / "faces").iterdir()} == {
        "seed0000.png",
        "seed0001.png",
        "sheet.png",
        "codes.safetensors",
    }


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--style", "nobody"], 4, "no style 'nobody'"),
        (["--style", "toon:9"], 2, "0 to 4"),
        (["--style", "ink", "--style-random"], 4, "sampling network"),
        (["--style", "ink", "--layer-swap"], 4, "fine-tuned generator"),
        (["--size", "48"], 2, "--size"),
        (["--grid", "2x2", "--n", "5", "-o", "a.png"], 2, "holds 4"),
        (["--preset", "manga"], 2, "no preset"),
        (["--codes", "none.safetensors"], 2, "no codes at"),
        (["--weights", "1,2"], 2, "--weights takes 10 numbers"),
    ],
)
def test_the_command_refuses_what_it_cannot_do(only_tiny_store, tmp_path, words, code, said):
    result = dsg("sample", *words, "--json")
    assert result.exit_code == code
    assert said in result.stderr
    assert not list(tmp_path.glob("*"))
