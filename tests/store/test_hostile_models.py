"""Model files from strangers: names that lead elsewhere, headers that lie, numbers without end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command import dsg
from hostile_models import rewrite_header, rewrite_table, set_at
from tiny_store import write_tiny_store

from dsgcli.errors import DsgError, ModelCorruptError, ModelError, ModelMismatchError, UsageError
from dsgcli.names import place_below, visible, why_no_label, why_no_name
from dsgcli.store import ModelStore
from dsgcli.store.convert import ImportOptions, import_models
from dsgcli.store.header import read_header
from dsgcli.store.networks import load_generator
from dsgcli.store.verify import verify


@pytest.fixture
def default(tmp_path) -> Path:
    """The folder of a small set of models."""
    return write_tiny_store(tmp_path / "pretrained") / "default"


def verdict(path: Path) -> str:
    """The problem of a file, as `dsg models verify` tells it."""
    store = ModelStore.open(path.parent.parent)
    return verify([file for file in store.models() if file.path == path], store.models())[0].problem


# ── names ────────────────────────────────────────────────────────────────────────────────────────

ESCAPES = [
    "../../../x/evil",
    "/evil",
    "..",
    "a/b",
    "a\\b",
    "C:evil",
    ".hidden",
    "x\x1b[31m",
]


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("overwrite", [False, True])
def test_import_writes_nothing_outside_of_its_folder(tmp_path, default, name, overwrite):
    """The worst that was found: the name in the header became the path of the file."""
    victim = tmp_path / "x" / "evil.safetensors"
    victim.parent.mkdir()
    victim.write_text("mine")
    evil = default / "toon.safetensors"
    rewrite_header(evil, set_at("name", name))
    before = sorted(tmp_path.rglob("*"))
    options = ImportOptions(target=tmp_path / "home" / "deep" / "er", overwrite=overwrite)
    with pytest.raises(DsgError, match="name"):
        import_models(evil, options)
    assert victim.read_text() == "mine"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [*ESCAPES, "con", "a:b", "x" * 300])
def test_name_that_is_given_is_held_to_the_same_rule(tmp_path, default, name):
    options = ImportOptions(target=tmp_path / "home", name=name)
    with pytest.raises(UsageError, match="--name"):
        import_models(default / "base.safetensors", options)
    assert not (tmp_path / "home").exists()


def test_published_checkpoint_cannot_choose_its_place_either(tmp_path, default):
    folder = tmp_path / "a:b"
    folder.mkdir()
    (default / "base.safetensors").rename(folder / "x:y.safetensors")
    rewrite_header(folder / "x:y.safetensors", set_at("name", ""))
    with pytest.raises(UsageError, match="must not have :"):
        import_models(folder / "x:y.safetensors", ImportOptions(target=tmp_path / "home"))


def test_link_that_leads_out_of_the_store_is_not_written_through(tmp_path, default):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "imported").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="outside"):
        import_models(default / "base.safetensors", ImportOptions(target=tmp_path / "home"))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_folder_that_links_to_itself_is_imported_once(tmp_path, default):
    (default / "again").symlink_to(default)
    (default / "once-more").symlink_to(default)
    done = import_models(default, ImportOptions(target=tmp_path / "home"))
    assert len(done) == 5


@pytest.mark.parametrize(
    "name", ["", " ", "../x", "a/b", "b\\c", "x\x1b[2J", "\u202egnp.x", "y" * 256]
)
def test_exemplar_with_a_dangerous_name_makes_its_file_unreadable(default, name):
    def change(values):
        values["names"][1] = name

    rewrite_header(default / "toon.safetensors", change)
    with pytest.raises(
        ModelCorruptError, match=r"toon\.safetensors is incomplete or damaged: the name"
    ):
        read_header(default / "toon.safetensors")


@pytest.mark.parametrize(
    "names", [[], ["a"], ["a", "a", "b", "c", "d"], ["a", 1, 2, 3, 4], "abcde", {}]
)
def test_exemplars_without_a_name_each_are_not_good(tmp_path, default, names):
    """Such files passed `verify`, and failed when they were used."""
    rewrite_header(default / "toon.safetensors", set_at("names", names))
    assert verdict(default / "toon.safetensors")
    with pytest.raises(ModelError):
        ModelStore.open(tmp_path / "pretrained").style(str(default / "toon.safetensors"))


def test_names_of_many_languages_are_allowed():
    for name in ("Jinx_02.jpg", "été", "灰姑娘.png", "🧑‍🎨.png", "a b", "क्षत्रिय"):
        assert not why_no_label(name), name
    assert not why_no_name("été")
    assert visible("grün 灰 🧑‍🎨") == "grün 灰 🧑‍🎨"
    assert visible("a\x1b[31mb\u202e") == r"a\x1b[31mb\u202e"


def test_place_below_follows_dots_and_links(tmp_path):
    assert place_below(tmp_path, "a", "b") == tmp_path / "a" / "b"
    for parts in (("..",), ("a", "../../b"), ("/etc/passwd",)):
        with pytest.raises(UsageError, match="outside"):
            place_below(tmp_path, *parts)


# ── numbers without end ──────────────────────────────────────────────────────────────────────────

HUGE = [10**9, 10**30, -1, 0, None, "x", [], float("inf")]
IN_STYLE = [
    "config.generator.size_px",
    "config.generator.style_dim",
    "config.generator.mapping_layers",
    "config.generator.channels",
    "config.generator.channels.4",
    "config.generator.channels.64",
    "config.last_structure",
    "config.style_layers",
    "layout.size_px",
    "layout.last_structure",
]
IN_BASE = [
    "config.size_px",
    "config.style_dim",
    "config.mapping_layers",
    "config.channels.8",
    "config.prior_axes",
]
IN_ENCODER = [
    *("config.num_latents", "config.style_dim", "config.input_px", "config.stem_width"),
    *("config.widths", "config.units", "config.head_width", "config.coarse_rows"),
    *("config.middle_rows", "config.latent_avg", "config.latent_space"),
]
LIES = [
    *(("toon.safetensors", address) for address in IN_STYLE),
    *(("base.safetensors", address) for address in IN_BASE),
    *(("encoder.safetensors", address) for address in IN_ENCODER),
]


@pytest.mark.parametrize(("file", "address"), LIES, ids=lambda value: str(value).split(".")[-1])
def test_numbers_that_contradict_the_tensors_are_told_before_anything_is_built(
    default, file, address
):
    """Layers and channels of 1e9 kept `verify` busy for minutes, or ended in a traceback."""
    good = (default / file).read_bytes()
    values: list[object] = [*HUGE]
    if address.rpartition(".")[2] in ("widths", "units"):
        values += [[10**9] * 4, [1, 2, 3], [8, 12, 16, 10**5], ["x"] * 4]
    for value in values:
        if value == 0 and address.endswith("prior_axes"):
            continue  # which is what it is
        (default / file).write_bytes(good)
        rewrite_header(default / file, set_at(address, value))
        problem = verdict(default / file)
        if address.endswith("latent_avg") and value in (0, None, "x", []):
            continue
        if address.endswith("mapping_layers") and file.startswith("toon"):
            continue  # the base's own affair: a style alone does not hold these
        assert problem, (address, value)
        assert file in problem and "Traceback" not in problem


@pytest.mark.parametrize("value", [{}, [], "", 0, False])
@pytest.mark.parametrize(
    ("file", "key"), [("encoder.safetensors", "layout"), ("toon.safetensors", "base")]
)
def test_a_table_that_is_empty_is_not_one_that_is_absent(default, file, key, value):
    """An empty layout was taken as it was, and ended in a traceback where its size was read."""
    rewrite_header(default / file, set_at(key, value))
    with pytest.raises(ModelCorruptError, match=file):
        read_header(default / file)


def test_side_of_no_length_hides_no_size(tmp_path, default):
    """A tensor of 0 x 1e9 takes no bytes of the file, and a network of that width takes all."""

    def change(table):
        start = table["g_ema/conv1.conv.modulation.weight"]["data_offsets"][0]
        table["g_ema/extra"] = {"dtype": "F32", "shape": [0, 10**9], "data_offsets": [start, start]}

    rewrite_table(default / "base.safetensors", change)
    with pytest.raises(ModelMismatchError, match="1 key is too many"):
        load_generator(default / "base.safetensors")


def test_weights_of_integers_are_not_good(tmp_path, default):
    def change(table):
        table["g_ema/conv1.activate.bias"]["dtype"] = "I32"

    rewrite_table(default / "base.safetensors", change)
    assert verdict(default / "base.safetensors")


def test_weights_that_overflow_when_used_are_not_good(default):
    from safetensors.torch import load_file, save_file

    from dsgcli.store.contents import tensors_sha256
    from dsgcli.store.header import METADATA_KEY

    path = default / "encoder.safetensors"
    header = read_header(path)[0].as_json()
    tensors = load_file(path)
    for key in tensors:
        if key == "encoder/input_layer.0.weight":
            tensors[key] = torch.full_like(tensors[key], 3e38)
    part = {key.partition("/")[2]: value for key, value in tensors.items()}
    header["sha256"] = {"encoder": tensors_sha256(part)}
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(header)})
    assert "not finite, although its weights are" in verdict(default / "encoder.safetensors")


@pytest.mark.parametrize(
    ("address", "value"),
    [
        ("base", None),
        ("base", {"name": "../x", "sha256": "00"}),
        ("base", {"name": "x", "sha256": None}),
        ("base", "x"),
        ("layout", None),
        ("layout", {}),
        ("layout", {"size_px": 32, "last_structure": 6}),
        ("layout", {"size_px": 64, "last_structure": 4}),
        ("config", {}),
        ("config", None),
        ("sha256", None),
        ("sha256", {"codes": 1}),
        ("license", {}),
        ("extra", "x"),
        ("kind", []),
        ("format", None),
        ("format", float("inf")),
        ("kind", "generator"),
        ("kind", "encoder"),
        ("kind", "sampler"),
        ("kind", "overlay"),
        ("kind", "identity"),
    ],
)
def test_description_of_another_model_is_not_good_and_ends_in_a_sentence(
    tmp_path, default, address, value
):
    rewrite_header(default / "toon.safetensors", set_at(address, value))
    assert verdict(default / "toon.safetensors") or (address, value) == ("kind", "overlay")
    for words in (
        ("models", "list"),
        ("models", "show", default / "toon.safetensors"),
        ("styles", "list"),
        ("styles", "show", default / "toon.safetensors", "-o", tmp_path / "sheet.png"),
        ("models", "verify", "toon"),
    ):
        option = (
            () if words[1] == "show" and words[0] == "models" else ("--pretrained", default.parent)
        )
        result = dsg(*words, *option)
        assert result.exit_code in (0, 1, 2, 4), (words, result.stderr)
        assert "Traceback" not in result.stderr


def test_deeply_nested_description_is_told(default):
    def change(table):
        table["__metadata__"]["dsg"] = "[" * 100_000

    rewrite_table(default / "toon.safetensors", change)
    with pytest.raises(ModelCorruptError, match="description cannot be read"):
        read_header(default / "toon.safetensors")


def test_codes_of_an_unknown_role_are_told(default):
    def change(table):
        table["codes/poem"] = table.pop("codes/refined")

    rewrite_table(default / "toon.safetensors", change)
    with pytest.raises(ModelCorruptError, match="codes of no known kind"):
        read_header(default / "toon.safetensors")
