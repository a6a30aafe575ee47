"""The tiny store that other tests stand on."""

from dsgcli.types import StyleRef


def test_the_tiny_store_holds_two_styles_on_one_base(only_tiny_store):
    names = [style.name for style in only_tiny_store.styles() if not style.shadowed]
    assert {"ink", "toon"} <= set(names)
    assert only_tiny_store.same_base("toon", "ink")
    assert only_tiny_store.style("toon").names[2] == "cy.png"


def test_default_is_the_first_style_of_the_set(only_tiny_store):
    default = only_tiny_store.resolve(StyleRef.parse("default"))
    assert default.exemplars == ("ada.png",)


def test_its_networks_fit_together(only_tiny_store):
    generator = only_tiny_store.generator("toon")
    assert only_tiny_store.encoder("toon").config.num_latents == generator.layout.num_latents
    assert only_tiny_store.sampler("toon").config.layout == generator.layout
    assert only_tiny_store.finetuned("toon").config == generator.config.generator
