"""Models by name: found in both layouts, in the right order, and told apart when they are not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import (
    STYLE_DIM,
    encoder_checkpoint,
    same_weights,
    save_npy,
    save_pt,
    small_codes,
    small_config,
    small_dual,
    small_encoder,
    small_sampler,
)

from dsgcli.errors import (
    ModelCorruptError,
    ModelMismatchError,
    ModelMissingError,
    StyleRefError,
    UsageError,
)
from dsgcli.models.dualstylegan import DualStyleGAN
from dsgcli.models.stylegan2 import Generator
from dsgcli.store import ModelStore
from dsgcli.store.codes import Codes
from dsgcli.store.places import Root
from dsgcli.store.write import save_dualstylegan, save_encoder, save_generator, save_style
from dsgcli.types import Provenance, StyleRef


def published_layout(root: Path, name: str = "toon", *, refined: bool = True) -> dict:
    """ROOT/NAME as the published folders are."""
    torch.manual_seed(len(name))
    dual, sampler = small_dual(), small_sampler()
    codes = small_codes("b_2.jpg", "a_1.jpg", "c_3.jpg", instyle=True, refined=refined)
    folder = root / name
    save_pt(folder / "generator.pt", {"g_ema": dual.state_dict()})
    save_npy(folder / "exstyle_code.npy", codes.names, codes.exstyle)
    save_npy(folder / "instyle_code.npy", codes.names, codes.instyle)
    if refined:
        save_npy(folder / "refined_exstyle_code.npy", codes.names, codes.refined)
    halves = {half: getattr(sampler, half).state_dict() for half in ("color", "structure")}
    save_pt(folder / "sampler.pt", halves)
    return {"dual": dual, "codes": codes, "sampler": sampler}


def own_layout(root: Path, *styles: str, set_name: str = "mine", **base_options) -> dict:
    """ROOT/SET/{base, encoder, STYLE, ...}.safetensors."""
    folder = root / set_name
    base, made = Generator(small_config()).eval(), {}
    save_generator(folder / "base.safetensors", base, **base_options)
    encoder = small_encoder()
    save_encoder(folder / "encoder.safetensors", encoder)
    for style in styles:
        dual = small_dual()
        dual.generator.load_state_dict(base.state_dict())
        codes = small_codes(f"{style}_b.png", f"{style}_a.png", refined=True)
        sampler = small_sampler()
        save_style(
            folder / f"{style}.safetensors",
            dual,
            codes,
            base=folder / "base.safetensors",
            sampler=sampler,
            provenance=Provenance(license="CC0"),
        )
        made[style] = {"dual": dual, "codes": codes.sorted(), "sampler": sampler}
    return {"base": base, "encoder": encoder, **made}


def store_of(root: Path) -> ModelStore:
    """A store of one root alone: what is shipped is another test's matter."""
    store = ModelStore.open(root)
    return ModelStore([r for r in store.roots if r.origin != "shipped with dsg"])


def test_numbered_generators_are_found_as_training_writes_them(tmp_path):
    folder = tmp_path / "mine"
    codes = small_codes("b_2.jpg", "a_1.jpg")
    save_npy(folder / "exstyle_code.npy", codes.names, codes.exstyle)
    duals = {}
    for number in (500, 1000, 1500):
        torch.manual_seed(number)
        duals[number] = small_dual()
        save_pt(folder / f"generator-{number:06}.pt", {"g_ema": duals[number].state_dict()})
    store = store_of(tmp_path)
    drawn = {name: store.generator(name) for name in ("mine", "mine@1000", "mine@1500")}
    weights = {name: network.state_dict()["res.0.conv.0.weight"] for name, network in drawn.items()}
    assert torch.equal(weights["mine"], weights["mine@1500"])  # the newest is meant
    assert torch.equal(weights["mine@1000"], duals[1000].state_dict()["res.0.conv.0.weight"])
    assert store.resolve(StyleRef.parse("mine@1000:1")).style == "mine@1000"
    with pytest.raises(ModelMissingError, match="mine@700"):
        store.info("mine@700")
    by_path = store_of(tmp_path / "mine").info(f"{folder}@1000")
    assert by_path.path.name == "generator-001000.pt"


# ── where is looked ──────────────────────────────────────────────────────────────────────────────


def test_places_are_searched_in_order(tmp_path, monkeypatch):
    for name in ("flag", "env", "pretrained", "home/pretrained"):
        own_layout(tmp_path / name, "noir", set_name=name.partition("/")[0])
    monkeypatch.setenv("DSG_PRETRAINED", str(tmp_path / "env"))
    store = ModelStore.open(tmp_path / "flag")
    origins = [root.origin for root in store.roots]
    assert origins[:4] == ["--pretrained", "DSG_PRETRAINED", "./pretrained", "your data folder"]
    noirs = [style for style in store.styles() if style.name == "noir"]
    assert [style.root.origin for style in noirs][:4] == origins[:4]
    assert [style.shadowed for style in noirs][:4] == [False, True, True, True]
    assert store.info("noir").set_name == "flag"
    assert store.info("home/noir").set_name == "home"


def test_shipped_models_come_last(tmp_path):
    assert ModelStore.open().roots[-1].origin == "shipped with dsg"


def test_same_folder_is_searched_once(tmp_path, monkeypatch):
    own_layout(tmp_path / "pretrained", "sepia")
    monkeypatch.setenv("DSG_PRETRAINED", str(tmp_path / "pretrained"))
    names = [style.name for style in ModelStore.open(tmp_path / "pretrained").styles()]
    assert names.count("sepia") == 1


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_named_folder_that_is_missing_is_told(tmp_path, monkeypatch, by):
    if by == "environment":
        monkeypatch.setenv("DSG_PRETRAINED", str(tmp_path / "none"))
    with pytest.raises(ModelMissingError, match="which is no folder"):
        ModelStore.open(tmp_path / "none" if by == "flag" else None)


# ── both layouts ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("below", ["", "models"])
def test_published_folder_is_a_style(tmp_path, below):
    made = published_layout(tmp_path / "root" / below)
    store = store_of(tmp_path / "root")
    (info,) = store.styles()
    assert (info.name, info.published, info.size_px) == ("toon", True, 32)
    assert info.exemplars == ("b_2.jpg", "a_1.jpg", "c_3.jpg")
    assert (info.has_refined, info.has_instyle, info.has_sampler) == (True, True, True)
    assert same_weights(store.generator("toon"), made["dual"])
    assert same_weights(store.plain_generator("toon"), made["dual"].generator)
    assert same_weights(store.sampler("toon"), made["sampler"])
    style = store.style("toon")
    for role in ("exstyle", "refined", "instyle"):
        assert torch.equal(getattr(style, role), getattr(made["codes"], role))
    assert torch.equal(style.default, made["codes"].refined)


def test_own_set_is_put_together(tmp_path):
    made = own_layout(tmp_path / "root", "noir", "neon")
    store = store_of(tmp_path / "root")
    assert [style.name for style in store.styles()] == ["neon", "noir"]
    for name in ("noir", "neon"):
        assert same_weights(store.generator(name), made[name]["dual"])
        assert same_weights(store.sampler(name), made[name]["sampler"])
        assert torch.equal(store.style(name).refined, made[name]["codes"].refined)
        assert same_weights(store.plain_generator(name), made["base"])
    assert same_weights(store.plain_generator("base"), made["base"])
    assert same_weights(store.encoder("noir"), made["encoder"])
    assert store.same_base("noir", "neon")
    info = store.info("noir")
    assert (info.license, info.size_px, info.style_dim) == ("CC0", 32, STYLE_DIM)
    assert info.exemplars == ("noir_a.png", "noir_b.png")


def test_every_model_file_is_listed_with_where_it_is_from(tmp_path):
    published_layout(tmp_path / "root")
    own_layout(tmp_path / "root", "noir")
    save_pt(tmp_path / "root" / "model_ir_se50.pth", {})
    (tmp_path / "root" / "mine" / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    models = {model.qualified: model for model in store_of(tmp_path / "root").models()}
    assert {name: model.kind for name, model in models.items()} == {
        "model_ir_se50": "identity",
        "mine/base": "generator",
        "mine/broken": "unreadable",
        "mine/encoder": "encoder",
        "mine/noir": "style",
        "toon/toon": "dualstylegan",
        "toon/toon/exstyle_code": "codes",
        "toon/toon/instyle_code": "codes",
        "toon/toon/refined_exstyle_code": "codes",
        "toon/toon/sampler": "sampler",
    }
    assert "incomplete or damaged" in models["mine/broken"].problem
    assert all(model.root.origin == "--pretrained" for model in models.values())
    assert models["mine/noir"].size_px == 32


def test_style_is_found_by_path(tmp_path):
    made = published_layout(tmp_path / "elsewhere")
    own = own_layout(tmp_path / "other", "noir")
    store = ModelStore([])
    assert same_weights(store.generator(str(tmp_path / "elsewhere" / "toon")), made["dual"])
    path = str(tmp_path / "other" / "mine" / "noir.safetensors")
    assert same_weights(store.generator(path), own["noir"]["dual"])
    assert same_weights(store.encoder(path), own["encoder"])
    with pytest.raises(ModelMismatchError, match="holds no style"):
        store.info(str(tmp_path / "other" / "mine" / "base.safetensors"))


def test_listing_needs_no_torch(tmp_path):
    """Completion waits for a key."""
    published_layout(tmp_path / "root")
    own_layout(tmp_path / "root", "noir")
    code = (
        "import sys; from pathlib import Path; from dsgcli.store import ModelStore\n"
        f"store = ModelStore.open(Path({str(tmp_path / 'root')!r}))\n"
        "assert {'noir', 'toon'} <= {s.name for s in store.styles()}; store.models()\n"
        "assert not {'torch', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_listing_reads_no_weights(tmp_path):
    """Zeroed weights behind a whole header: the listing does not see them."""
    own_layout(tmp_path / "root", "noir")
    path = tmp_path / "root" / "mine" / "noir.safetensors"
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    path.write_bytes(raw[:start] + b"\xff" * (len(raw) - start))
    store = store_of(tmp_path / "root")
    assert store.info("noir").exemplars == ("noir_a.png", "noir_b.png")
    with pytest.raises(ModelCorruptError, match="not finite"):
        store.generator("noir")


# ── the default style ────────────────────────────────────────────────────────────────────────────


def test_default_is_the_first_style_of_the_default_set(tmp_path):
    own_layout(tmp_path / "root", "aaa", set_name="a")
    own_layout(tmp_path / "root", "noir", "neon", set_name="default")
    assert store_of(tmp_path / "root").info("default").name == "neon"


def test_default_is_what_the_default_base_says(tmp_path):
    card = Provenance(extra={"default_style": "noir"})
    own_layout(tmp_path / "root", "noir", "neon", set_name="default", provenance=card)
    store = store_of(tmp_path / "root")
    assert store.info("default").name == "noir"
    assert store.resolve(StyleRef.parse("default:1")).label == "noir-noir_b"


def test_no_default_is_told(tmp_path):
    own_layout(tmp_path / "root", "noir")
    with pytest.raises(ModelMissingError, match=r"no style 'default'.*it has noir"):
        store_of(tmp_path / "root").info("default")


# ── exemplars ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def store(tmp_path) -> ModelStore:
    published_layout(tmp_path / "root")
    return store_of(tmp_path / "root")


@pytest.mark.parametrize(
    ("text", "row"),
    [("toon", 0), ("toon:0", 0), ("toon:2", 2), ("toon:a_1", 1), ("toon:a_1.jpg", 1)],
)
def test_exemplar_is_named_by_number_or_name(store, text, row):
    resolved = store.resolve(StyleRef.parse(text))
    assert torch.equal(resolved.exstyle, store.style("toon").refined[row])
    assert torch.equal(resolved.instyle, store.style("toon").instyle[row])
    assert resolved.exemplars == (store.info("toon").exemplars[row],)


@pytest.mark.parametrize("text", ["Toon:2", "TOON-2", "toon-02", "toon-002", "toon:02", "toon:C_3"])
def test_exemplar_is_named_as_people_type_it(store, text):
    resolved = store.resolve(store.parse(text))
    assert resolved.exemplars == ("c_3.jpg",)


def test_blend_mixes_codes_in_z_plus(store):
    resolved = store.resolve(StyleRef.parse("toon:0*3+toon:a_1*1"))
    codes = store.style("toon").default
    torch.testing.assert_close(resolved.exstyle, 0.75 * codes[0] + 0.25 * codes[1])
    assert resolved.label == "toon-b_2-75-a_1-25"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("toon:3", r"toon:3 is out of range: toon has 3 exemplars, 0 to 2"),
        ("toon:-1", "out of range"),
        ("toon:b_3", r"no exemplar 'b_3'; did you mean"),
        ("toon:zzz", r"it has 3, from b_2\.jpg to c_3\.jpg"),
    ],
)
def test_exemplar_that_is_not_there_is_told(store, text, message):
    with pytest.raises(StyleRefError, match=message):
        store.resolve(StyleRef.parse(text))


def test_exemplars_named_by_numbers_are_told_from_positions(tmp_path):
    folder = tmp_path / "root" / "toon"
    save_pt(folder / "generator.pt", {"g_ema": small_dual().state_dict()})
    codes = small_codes("2.jpg", "0001.jpg", "same.jpg", "same.png")
    save_npy(folder / "exstyle_code.npy", codes.names, codes.exstyle)
    store = store_of(tmp_path / "root")

    def name_of(text: str) -> str:
        return store.resolve(StyleRef.parse(text)).exemplars[0]

    assert name_of("toon:2") == "same.jpg"
    assert name_of("toon:2.jpg") == "2.jpg"
    assert name_of("toon:0001") == "0001.jpg"
    with pytest.raises(StyleRefError, match="short form of several"):
        name_of("toon:same")


def test_numbers_mean_the_order_of_the_refined_codes(tmp_path):
    """The published script numbers the file that it draws with."""
    folder = tmp_path / "root" / "toon"
    save_pt(folder / "generator.pt", {"g_ema": small_dual().state_dict()})
    codes = small_codes("x", "y", "z")
    save_npy(folder / "exstyle_code.npy", codes.names, codes.exstyle)
    refined = codes.exstyle[[2, 0]] + 1
    save_npy(folder / "refined_exstyle_code.npy", ("z", "x"), refined)
    store = store_of(tmp_path / "root")
    assert store.info("toon").exemplars == store.style("toon").names == ("z", "x", "y")
    expected = torch.stack([refined[0], refined[1], codes.exstyle[1]])
    assert torch.equal(store.style("toon").default, expected)
    assert torch.equal(store.style("toon").exstyle, codes.exstyle[[2, 0, 1]])


# ── added exemplars ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["toon", "noir"])
def test_added_exemplar_comes_after_the_styles_own(tmp_path, name):
    published_layout(tmp_path / "root")
    own_layout(tmp_path / "root", "noir")
    store = store_of(tmp_path / "root")
    before = store.style(name)
    added = small_codes("me", refined=True)
    path = store.add_exemplar(name, added)
    assert path == tmp_path / "home" / "pretrained" / "overlays" / f"{name}.safetensors"
    again = ModelStore.open(tmp_path / "root")
    for each in (store, again):
        assert each.info(name).exemplars == (*before.names, "me")
        assert each.info(name).num_added == 1
        assert torch.equal(each.resolve(StyleRef.parse(f"{name}:me")).exstyle, added.refined[0])
        first = each.resolve(StyleRef.parse(f"{name}:0")).exstyle
        assert torch.equal(first, before.default[0])
    store.add_exemplar(name, small_codes("you"))
    assert store.info(name).exemplars[-2:] == ("me", "you")


def test_added_exemplar_of_the_same_name_replaces_in_place(store):
    names = store.info("toon").exemplars
    added = Codes(names=("a_1.jpg",), exstyle=torch.ones(1, 8, STYLE_DIM))
    store.add_exemplar("toon", added)
    assert store.info("toon").exemplars == names
    assert store.info("toon").num_added == 0
    assert torch.equal(store.style("toon").default[1], added.exstyle[0])


def test_style_is_found_before_what_was_added_to_it(tmp_path):
    own_layout(tmp_path / "root", "noir")
    store = store_of(tmp_path / "root")
    path = store.add_exemplar("noir", small_codes("me"))
    assert ModelStore([Root(path.parents[1], "user"), *store.roots]).find("noir").kind == "style"


@pytest.mark.parametrize("name", ["toon", "noir"])
def test_added_exemplars_are_removed_one_by_one(tmp_path, name):
    published_layout(tmp_path / "root")
    own_layout(tmp_path / "root", "noir")
    store = store_of(tmp_path / "root")
    before = store.style(name)
    store.add_exemplar(name, small_codes("me", refined=True))
    added = small_codes("you", refined=True)
    path = store.add_exemplar(name, added)
    assert store.remove_exemplar(name, "me") == "me"
    assert store.info(name).exemplars == (*before.names, "you")
    assert torch.equal(store.resolve(StyleRef.parse(f"{name}:you")).exstyle, added.refined[0])
    assert store.remove_exemplar(name, str(len(before.names))) == "you"
    assert not path.exists()
    assert torch.equal(store.style(name).default, before.default)


def test_exemplar_of_the_style_itself_is_not_removed(store):
    with pytest.raises(UsageError, match="belongs to the style"):
        store.remove_exemplar("toon", "0")
    with pytest.raises(StyleRefError, match="nobody"):
        store.remove_exemplar("toon", "nobody")


def test_added_exemplar_of_another_size_is_refused(store):
    with pytest.raises(ModelMismatchError, match=r"18 x 16.*32 px takes 8 x 16"):
        store.add_exemplar("toon", small_codes("me", rows=18))


# ── encoders ─────────────────────────────────────────────────────────────────────────────────────


def test_encoder_of_the_own_set_is_preferred_and_general_ones_are_cut(tmp_path):
    made = own_layout(tmp_path / "root", "noir")
    published_layout(tmp_path / "root")
    general = small_encoder(10)
    content = encoder_checkpoint(general, small_dual())
    save_pt(tmp_path / "root" / "encoder.pt", content)
    store = store_of(tmp_path / "root")
    assert same_weights(store.encoder("noir"), made["encoder"])
    faces = torch.randn(1, 3, 32, 32)
    assert torch.equal(store.encoder("toon")(faces), general(faces)[:, :8])


def test_encoder_is_chosen_by_its_space(tmp_path):
    published_layout(tmp_path / "root")
    zed, wed = small_encoder(), small_encoder()
    save_pt(tmp_path / "root" / "encoder_wplus.pt", encoder_checkpoint(wed, small_dual()))
    store = store_of(tmp_path / "root")
    assert same_weights(store.encoder("toon"), wed)
    assert store.encoder("toon").config.latent_space == "w+"
    with pytest.raises(ModelMissingError, match=r"without a z\+ encoder.*models pull encoder`"):
        store.encoder("toon", "z+")
    save_pt(tmp_path / "root" / "encoder.pt", encoder_checkpoint(zed, small_dual()))
    store.refresh()
    assert same_weights(store.encoder("toon"), zed)
    assert same_weights(store.encoder("toon", "w+"), wed)


def test_encoder_that_names_its_base_goes_with_no_other(tmp_path):
    made = own_layout(tmp_path / "root", "noir", set_name="one")
    own_layout(tmp_path / "root", "neon", set_name="two")
    for name in ("one", "two"):
        (tmp_path / "root" / name / "encoder.safetensors").unlink()
    base = tmp_path / "root" / "one" / "base.safetensors"
    save_encoder(tmp_path / "root" / "e" / "e.safetensors", made["encoder"], base=base)
    store = store_of(tmp_path / "root")
    assert same_weights(store.encoder("noir"), made["encoder"])
    with pytest.raises(ModelMissingError, match="drawn in the style neon without an encoder"):
        store.encoder("neon")


def test_encoder_of_another_width_is_refused(tmp_path):
    folder = tmp_path / "root" / "toon"
    dual = DualStyleGAN(small_config(style_dim=12))
    save_pt(folder / "generator.pt", {"g_ema": dual.state_dict()})
    codes = small_codes("a", style_dim=12)
    save_npy(folder / "exstyle_code.npy", codes.names, codes.exstyle)
    save_pt(tmp_path / "root" / "encoder.pt", encoder_checkpoint(small_encoder(), small_dual()))
    with pytest.raises(ModelMismatchError, match="codes 16 wide, and toon takes 12"):
        store_of(tmp_path / "root").encoder("toon")


def test_missing_encoder_says_how_to_get_it(store, tmp_path):
    with pytest.raises(ModelMissingError) as error:
        store.encoder("toon")
    home = str(tmp_path / "home" / "pretrained")
    for part in ("encoder.pt", "`dsg models pull encoder`", home, str(tmp_path / "root")):
        assert part in str(error.value)


# ── what is missing or wrong ─────────────────────────────────────────────────────────────────────


def test_unknown_style_offers_near_names(store):
    with pytest.raises(ModelMissingError, match=r"no style 'tonn'.*did you mean toon"):
        store.generator("tonn")


def test_published_style_that_is_not_here_says_how_to_get_it(store, tmp_path):
    with pytest.raises(ModelMissingError) as error:
        store.generator("arcane")
    assert "`dsg models pull arcane`" in str(error.value)
    assert str(tmp_path / "home" / "pretrained" / "arcane") in str(error.value)


def test_missing_base_is_named_with_its_hash(tmp_path):
    own_layout(tmp_path / "root", "noir")
    (tmp_path / "root" / "mine" / "base.safetensors").unlink()
    with pytest.raises(ModelMissingError, match=r"the base 'base' \(\w{12}\) of .*noir"):
        store_of(tmp_path / "root").generator("noir")


def test_base_is_found_in_another_set_by_its_hash(tmp_path):
    made = own_layout(tmp_path / "root", "noir")
    moved = tmp_path / "root" / "bases" / "other_name.safetensors"
    moved.parent.mkdir()
    (tmp_path / "root" / "mine" / "base.safetensors").rename(moved)
    save_generator(tmp_path / "root" / "mine" / "base.safetensors", small_dual().generator)
    assert same_weights(store_of(tmp_path / "root").generator("noir"), made["noir"]["dual"])


def test_style_without_codes_is_listed_with_its_problem(tmp_path):
    save_pt(tmp_path / "root" / "toon" / "generator.pt", {"g_ema": small_dual().state_dict()})
    store = store_of(tmp_path / "root")
    assert "exstyle_code.npy" in store.styles()[0].problem
    with pytest.raises(ModelMismatchError, match=r"put exstyle_code\.npy beside it"):
        store.generator("toon")


def test_codes_and_generator_of_different_sizes_are_told(tmp_path):
    folder = tmp_path / "root" / "toon"
    save_pt(folder / "generator.pt", {"g_ema": small_dual(64).state_dict()})
    codes = small_codes("a")
    save_npy(folder / "exstyle_code.npy", codes.names, codes.exstyle)
    with pytest.raises(ModelMismatchError, match=r"64 px takes codes of 10 x 16, and.*8 x 16"):
        store_of(tmp_path / "root").generator("toon")


def test_codes_of_different_runs_are_told(tmp_path):
    published_layout(tmp_path / "root", refined=False)
    other = small_codes("x", "y")
    save_npy(tmp_path / "root" / "toon" / "instyle_code.npy", other.names, other.exstyle)
    with pytest.raises(ModelMismatchError, match="they belong to different runs"):
        store_of(tmp_path / "root").style("toon")


def test_codes_that_fit_no_generator_are_told(tmp_path):
    folder = tmp_path / "root" / "toon"
    save_pt(folder / "generator.pt", {"g_ema": {}})
    np.save(folder / "exstyle_code.npy", {"a": np.zeros((1, 7, 4))})  # type: ignore[arg-type]
    with pytest.raises(ModelMismatchError, match="7 rows, which fit no generator"):
        store_of(tmp_path / "root").generator("toon")


def test_missing_sampler_and_finetuned_generator_are_told(tmp_path):
    published_layout(tmp_path / "root")
    (tmp_path / "root" / "toon" / "sampler.pt").unlink()
    store = store_of(tmp_path / "root")
    with pytest.raises(ModelMissingError, match="toon has no sampling network"):
        store.sampler("toon")
    with pytest.raises(ModelMissingError, match="fine-tuned generator of toon is missing"):
        store.finetuned("toon")


def test_last_finetuned_generator_is_taken(tmp_path, generator):
    published_layout(tmp_path / "root")
    for step, network in ((500, Generator(small_config())), (600, generator)):
        path = tmp_path / "root" / "toon" / f"finetune-{step:06d}.pt"
        save_pt(path, {"g_ema": network.state_dict()})
    store = store_of(tmp_path / "root")
    assert same_weights(store.finetuned("toon"), generator)
    assert same_weights(store.plain_generator("toon/finetune-000600"), generator)


@pytest.mark.parametrize("name", ["identity", "vgg16", "vgg19", "lpips"])
def test_missing_loss_network_says_how_to_get_it(tmp_path, name):
    store = ModelStore([])
    call = {"identity": store.identity, "lpips": store.lpips}.get(name)
    with pytest.raises(ModelMissingError, match="is missing: get it with `dsg models pull"):
        call() if call else store.vgg(int(name[3:]))


def test_discriminator_and_generator_are_found_by_name(tmp_path, generator, discriminator):
    folder = tmp_path / "root" / "mine"
    save_generator(folder / "faces.safetensors", generator, discriminator=discriminator)
    store = store_of(tmp_path / "root")
    for name in ("faces", "mine/faces", "faces.safetensors", str(folder / "faces.safetensors")):
        assert same_weights(store.plain_generator(name), generator)
        assert same_weights(store.discriminator(name), discriminator)
    with pytest.raises(ModelMissingError, match="no model 'face' in the store; did you mean faces"):
        store.discriminator("face")


def test_whole_dualstylegan_of_ours_is_a_model_and_no_style(tmp_path, dual):
    save_dualstylegan(tmp_path / "root" / "run" / "pretrain.safetensors", dual)
    store = store_of(tmp_path / "root")
    assert store.styles() == []
    assert same_weights(store.plain_generator("pretrain"), dual.generator)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_left_in_their_files_draw_the_same_bits(tmp_path, dtype):
    """However they lie there: the name, in the header, moves them by some bytes."""
    from dsgcli.portraits import Look, Portraits, pick_weights

    pictures, faces = [], torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    for set_name in ("a", "ab" * 4):
        torch.manual_seed(1)
        own_layout(tmp_path, "toon", set_name=set_name)
        store = store_of(tmp_path)
        name = f"{set_name}/toon"
        exstyle = store.resolve(StyleRef.parse(name)).exstyle
        for owned in (True, False):
            networks = store.generator(name, owned=owned), store.encoder(name, owned=owned)
            weights = [w for network in networks for w in network.state_dict().values()]
            assert all(w.data_ptr() % 64 == 0 for w in weights if owned or w.ndim < 4)
            portraits = Portraits(*networks, dtype=dtype)
            look = Look(exstyle=exstyle, weights=pick_weights(portraits.layout))
            pictures.append(portraits.draw_images(portraits.encode_images(faces), look))
    assert all(torch.equal(pictures[0], other) for other in pictures[1:])


def test_a_model_that_is_replaced_stays_as_it_was_for_who_has_it_open(tmp_path):
    own_layout(tmp_path / "root", "toon")
    store = store_of(tmp_path / "root")
    mapped = store.generator("toon", owned=False)
    kept = {key: tensor.clone() for key, tensor in mapped.state_dict().items()}
    torch.manual_seed(99)
    own_layout(tmp_path / "root", "toon")
    assert all(torch.equal(kept[key], tensor) for key, tensor in mapped.state_dict().items())


# ── damaged files ────────────────────────────────────────────────────────────────────────────────


def halve(path: Path) -> None:
    """As a copy that was interrupted leaves it."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("name", ["toon", "mine/toon"])
def test_a_damaged_style_is_an_error_though_another_has_its_name(tmp_path, name):
    for folder in ("first", "second"):
        own_layout(tmp_path / folder, "toon")
    halve(tmp_path / "first" / "mine" / "toon.safetensors")
    store = ModelStore([Root(tmp_path / n, n) for n in ("first", "second")])
    with pytest.raises(ModelCorruptError, match=r"toon\.safetensors"):
        store.info(name)


def test_a_damaged_style_behind_a_whole_one_is_not_in_the_way(tmp_path):
    for folder in ("first", "second"):
        own_layout(tmp_path / folder, "toon")
    halve(tmp_path / "second" / "mine" / "toon.safetensors")
    store = ModelStore([Root(tmp_path / n, n) for n in ("first", "second")])
    assert store.info("toon").path.parent == tmp_path / "first" / "mine"


def test_a_style_that_is_there_only_damaged_is_not_called_missing(tmp_path):
    own_layout(tmp_path, "toon", "ink")
    halve(tmp_path / "mine" / "ink.safetensors")
    with pytest.raises(ModelCorruptError, match=r"ink\.safetensors"):
        ModelStore([Root(tmp_path, "here")]).info("ink")


def test_a_damaged_encoder_is_an_error_though_another_set_has_one(tmp_path):
    own_layout(tmp_path / "first", "toon")
    own_layout(tmp_path / "second", "ink")
    halve(tmp_path / "first" / "mine" / "encoder.safetensors")
    store = ModelStore([Root(tmp_path / n, n) for n in ("first", "second")])
    with pytest.raises(ModelCorruptError, match=r"encoder\.safetensors"):
        store.lookup.encoder_for(store.info("toon"), "auto")
