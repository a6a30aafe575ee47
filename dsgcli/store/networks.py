"""Model files to networks: built from the file's own configuration, loaded strictly.

All networks come in evaluation mode, and with gradients on, as modules are made.

    generator, dualstylegan, discriminator, encoder, translator, sampler, identity, vgg, lpips
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dsgcli.errors import DsgError, ModelCorruptError, ModelMismatchError
from dsgcli.models.bounds import check_widths
from dsgcli.models.dualstylegan import DualConfig, DualStyleGAN
from dsgcli.models.encoder import CodeSpace, Encoder, EncoderConfig
from dsgcli.models.features import LPIPS, VGG16, VGG19, LPIPSHeads
from dsgcli.models.irse import IRSE50
from dsgcli.models.patch import Judge, PatchDiscriminator
from dsgcli.models.style_sampler import SamplerConfig, StyleSampler
from dsgcli.models.stylegan2 import Discriminator, Generator, GeneratorConfig
from dsgcli.models.translator import STRIDE_PX, Translator, TranslatorConfig
from dsgcli.store.architecture import check_keys, translator_config, without_prefix
from dsgcli.store.contents import OpenModel, State, open_model, shapes_of
from dsgcli.store.header import KIND_NAMES, BaseRef, Kind, Shapes
from dsgcli.types import LatentLayout

CPU = torch.device("cpu")
Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config")


def load_generator(
    source: Path | OpenModel, device: torch.device = CPU, part: str = "g_ema"
) -> Generator:
    """StyleGAN2 of a file that holds one: plain, or inside a whole DualStyleGAN.

    Args:
        part: "g_ema", or "g" for the weights as trained last.

    Raises:
        ModelError: as `open_model`; ModelMismatchError: a file of another kind, or incomplete.
    """
    model = _opened(source, "generator", "dualstylegan")
    state, config = model.part(part), generator_config_of(model)
    if model.header.kind == "dualstylegan":
        state = without_prefix(state, "generator.")
    what = f"a StyleGAN2 generator of {config.size_px} px"
    return build(lambda: Generator(config), state, model.path, what, device)


def load_discriminator(source: Path | OpenModel, device: torch.device = CPU) -> Judge:
    """The discriminator that a generator's file holds beside it, of whichever kind.

    Raises:
        ModelMismatchError: the file has none.
    """
    model = _opened(source, "generator", "dualstylegan")
    config, state = generator_config_of(model), model.part("d")
    if (kernel := state.get("layers.0.0.weight")) is not None:
        patches, width = "a discriminator of patches", kernel.shape[0] if kernel.ndim else 0
        check_widths(f"{model.path}: the channels of {patches}", width)
        return build(lambda: PatchDiscriminator(config, width), state, model.path, patches, device)
    what = f"a StyleGAN2 discriminator of {config.size_px} px"
    return build(lambda: Discriminator(config), state, model.path, what, device)


def find_discriminator(model: OpenModel) -> Judge | None:
    """The discriminator of a file, if it holds one."""
    return load_discriminator(model) if "d" in model.parts else None


def load_dualstylegan(
    source: Path | OpenModel,
    device: torch.device = CPU,
    *,
    base: Path | OpenModel | None = None,
    part: str = "g_ema",
    owned: bool = True,
) -> DualStyleGAN:
    """A whole DualStyleGAN, or a style put together with its base.

    Args:
        base: the file of the base; a style needs it, and it has to be the one the style names.
        owned: as `OpenModel.part`.

    Raises:
        ModelMismatchError: another kind, incomplete, or the wrong base.
    """
    model = _opened(source, "dualstylegan", "style")
    config = dual_config_of(model)
    if model.header.kind == "style":
        if base is None:
            raise ModelMismatchError(f"{model.path} is a style alone: it needs its base beside it")
        opened = open_model(base) if isinstance(base, Path) else base
        state = _with_base(model, opened, owned=owned)
    else:
        state = model.part(part, owned=owned)
    what = f"a DualStyleGAN of {config.generator.size_px} px"
    return build(lambda: DualStyleGAN.of(config), state, model.path, what, device)


def _with_base(style: OpenModel, base: OpenModel, *, owned: bool) -> State:
    wanted = style.header.base
    assert wanted is not None, style.path
    check_base(wanted, base, style.path)
    state = base.part("g_ema", owned=owned)
    generator = {f"generator.{key}": value for key, value in state.items()}
    return {**style.part("style_path", owned=owned), **generator}


def check_base(wanted: BaseRef, base: OpenModel, style: Path) -> None:
    """Refuse a base that a style was not trained on.

    Raises:
        ModelMismatchError: with both hashes.
    """
    if base.header.sha256 != wanted.sha256:
        raise ModelMismatchError(
            f"{style} was made with the base {wanted.name!r} ({wanted.sha256[:12]}), and "
            f"{base.path} is another one ({base.header.sha256[:12]}); put the right base beside it"
        )


def load_encoder(
    source: Path | OpenModel,
    device: torch.device = CPU,
    *,
    space: CodeSpace | None = None,
    num_latents: int | None = None,
    owned: bool = True,
) -> Encoder:
    """An encoder of faces.

    Args:
        space: of a published file's codes; None goes by its name.
        num_latents: rows wanted; an encoder with more is cut to the first ones (a published one
            has 18, of which a smaller generator of the same family takes the first).
        owned: as `OpenModel.part`.

    Raises:
        ModelMismatchError: another kind, incomplete, or fewer rows than wanted.
    """
    model = open_model(source, space=space) if isinstance(source, Path) else source
    model = _opened(model, "encoder")
    config = configuration(model, EncoderConfig.from_json)
    state = model.part("encoder", owned=owned)
    if num_latents is not None and num_latents != config.num_latents:
        config, state = _cut(config, state, num_latents, model.path)
    what = f"an encoder of {config.num_latents} x {config.style_dim} codes"
    return build(lambda: Encoder(config), state, model.path, what, device)


def _cut(
    config: EncoderConfig, state: State, num_latents: int, path: Path
) -> tuple[EncoderConfig, State]:
    if num_latents > config.num_latents:
        raise ModelMismatchError(
            f"{path} makes codes of {config.num_latents} rows "
            f"({1 << config.num_latents // 2 + 1} px), and the model takes "
            f"{num_latents} ({1 << num_latents // 2 + 1} px)"
        )
    dropped = tuple(f"styles.{row}." for row in range(num_latents, config.num_latents))
    kept = {key: value for key, value in state.items() if not key.startswith(dropped)}
    if "latent_avg" in kept:
        kept["latent_avg"] = kept["latent_avg"][:num_latents]
    values = {**config.as_json(), "num_latents": num_latents}
    return EncoderConfig.from_json(values), kept


def load_translator(
    source: Path | OpenModel, device: torch.device = CPU, *, owned: bool = True
) -> Translator:
    """A translator with its style encoder.

    Args:
        owned: as `OpenModel.part`.

    Raises:
        ModelMismatchError: another kind, incomplete, or tensors that the header does not describe.
    """
    model = _opened(source, "translator")
    config = translator_config_of(model)
    state = model.part("translator", owned=owned)
    if translator_config(shapes_of(state), model.path) != config:
        raise ModelMismatchError(
            f"{model.path} describes another translator than the one it holds; make it again"
        )
    return build(lambda: Translator(config), state, model.path, "a translator", device)


def translator_config_of(model: OpenModel) -> TranslatorConfig:
    """The configuration in the header of a translator.

    Raises:
        ModelMismatchError: a file of another kind. ModelCorruptError: no such description.
    """
    return configuration(_opened(model, "translator"), TranslatorConfig.from_json)


def load_sampler(
    source: Path | OpenModel, device: torch.device = CPU, *, style_dim: int = 512
) -> StyleSampler:
    """The sampling network of a style, from its own file or from the style's.

    Args:
        style_dim: of the style's codes, for a published file, which does not say; 512 in all of
            these.

    Raises:
        ModelMismatchError: no sampling network inside, or one for codes of another size.
    """
    model = _opened(source, "sampler", "style", "translator-style")
    if not {"color", "structure"} <= set(model.parts):
        raise ModelMismatchError(f"{model.path} holds no sampling network")
    halves = {half: model.part(half) for half in ("color", "structure")}
    config = _sampler_config(model, halves, style_dim)
    state = {f"{half}.{key}": value for half, part in halves.items() for key, value in part.items()}
    what = f"a sampling network of {config.layout.num_latents} x {config.style_dim} codes"
    return build(lambda: StyleSampler(config), state, model.path, what, device)


def _sampler_config(model: OpenModel, halves: Mapping[str, State], style_dim: int) -> SamplerConfig:
    """From the header where there is one, else from the sizes of the two outputs."""
    if model.header.kind == "sampler" and model.header.config:
        return configuration(model, SamplerConfig.from_json)
    for half, state in halves.items():
        if "lin_out.weight" not in state or state["lin_out.weight"].ndim != 2:
            raise ModelMismatchError(f"{model.path} holds no sampling network under {half!r}")
    noise_dim = halves["color"]["lin_out.weight"].shape[1]
    if model.header.kind == "style":
        dual = dual_config_of(model)
        return SamplerConfig(
            layout=dual.layout, style_dim=dual.generator.style_dim, noise_dim=noise_dim
        )
    if model.header.kind == "translator-style":
        style_dim = configuration(model, lambda values: int(values["style_dim"]))
    structure, color = (len(halves[half]["lin_out.weight"]) for half in ("structure", "color"))
    rows = (structure + color) // style_dim
    if structure % style_dim or color % style_dim or rows % 2 or not 8 <= rows <= 18:
        raise ModelMismatchError(
            f"{model.path} samples {structure} + {color} numbers, which are no rows of {style_dim}"
        )
    layout = LatentLayout(1 << (rows + 2) // 2, structure // style_dim - 1)
    return SamplerConfig(layout=layout, style_dim=style_dim, noise_dim=noise_dim)


def load_identity(source: Path | OpenModel, device: torch.device = CPU) -> IRSE50:
    """The identity network."""
    return _load_plain(source, "identity", IRSE50, device)


def load_vgg16(source: Path | OpenModel, device: torch.device = CPU) -> VGG16:
    """VGG16 with ImageNet weights; its classifier is left out."""
    return _load_plain(source, "vgg16", VGG16, device)


def load_vgg19(source: Path | OpenModel, device: torch.device = CPU) -> VGG19:
    """VGG19 with ImageNet weights; its classifier is left out."""
    return _load_plain(source, "vgg19", VGG19, device)


def load_lpips(
    heads: Path | OpenModel, vgg16: Path | OpenModel, device: torch.device = CPU
) -> LPIPS:
    """LPIPS from its two files."""
    network = LPIPS().eval()
    network.vgg = load_vgg16(vgg16)
    network.heads = _load_plain(heads, "lpips", LPIPSHeads, CPU)
    return network.to(device)


def _load_plain(
    source: Path | OpenModel, kind: Kind, factory: Callable[[], Network], device: torch.device
) -> Network:
    model = _opened(source, kind)
    return build(factory, model.part("net"), model.path, KIND_NAMES[kind], device)


# ── building ─────────────────────────────────────────────────────────────────────────────────────


class _Undrawn(TorchFunctionMode):
    """Makes networks without drawing the random numbers that their weights would begin with.

    All of these are replaced by a file's right after, and drawing them takes longer than reading
    the file (5.7 s against 0.2 s for the published encoder). Constants are made as always. The
    meta device would do the same, and imports 800 modules first.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.randn, torch.rand):
            return torch.empty(*args, **kwargs)
        in_place = func in (Tensor.normal_, Tensor.uniform_)
        if in_place or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


class _Outline(_Undrawn):
    """Makes networks of shapes alone, on the meta device, without taking memory.

    Operations that would make torch load its 800 modules of decompositions are passed over: of a
    tensor without numbers they change nothing.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in (Tensor.div_, Tensor.mul_, Tensor.add_):
            return args[0]
        if func is torch.eye:
            return torch.empty(args[0], args[0])
        return super().__torch_function__(func, types, args, kwargs)


def outline(factory: Callable[[], nn.Module]) -> Shapes:
    """Keys and shapes of the network that `factory` makes, before there is memory for it."""
    with torch.device("meta"), _Outline():
        return shapes_of(factory().state_dict())


def check_model(model: OpenModel, base: Path | None = None) -> None:
    """Build the network of a file and run it once, so that what passes here can be used.

    Args:
        base: of a style; None checks the style alone, without drawing.

    Raises:
        ModelMismatchError: as the loaders, for the averaged weights of generators.
        ModelCorruptError: what the network makes is not finite.
    """
    network: nn.Module | None = None
    match model.header.kind:
        case "generator":
            network = load_generator(model)
        case "dualstylegan":
            network = load_dualstylegan(model)
        case "style":
            _check_style(model)
            network = load_dualstylegan(model, base=base) if base is not None else None
        case "encoder":
            network = load_encoder(model)
        case "sampler" if model.header.config:
            network = load_sampler(model)
        case "translator":
            network = load_translator(model)
        case "translator-style":
            _check_translator_style(model)
        case "identity":
            load_identity(model)
        case "vgg16":
            load_vgg16(model)
        case "vgg19":
            load_vgg19(model)
        case "lpips":
            _load_plain(model, "lpips", LPIPSHeads, CPU)
    if network is not None and not bool(torch.isfinite(_made_by(network, model)).all()):
        raise ModelCorruptError(
            f"{model.path} makes numbers that are not finite, although its weights are: it was "
            f"damaged, or its training failed; use an earlier checkpoint, or fetch it again"
        )


@torch.inference_mode()
def _made_by(network: nn.Module, model: OpenModel) -> Tensor:
    """Run a network on an ordinary input: a picture (1, 3, S, S), or codes (1, L, D)."""
    rng = torch.Generator().manual_seed(0)
    if isinstance(network, Generator):
        return network(network.map_plus(_any_code(network, rng)))  # type: ignore[no-any-return]
    if isinstance(network, DualStyleGAN):
        inner = network.generator
        code = exstyle = _any_code(inner, rng)
        if "codes" in model.parts:
            exstyle = model.part("codes")["exstyle"][:1]
        return network(inner.map_plus(code), inner.map_plus(exstyle))  # type: ignore[no-any-return]
    if isinstance(network, Encoder):
        px = network.config.input_px
        return network(torch.rand(1, 3, px, px, generator=rng))  # type: ignore[no-any-return]
    if isinstance(network, Translator):
        crop = torch.rand(1, 3, STRIDE_PX, STRIDE_PX, generator=rng) * 2 - 1
        weights = [1.0] * network.layout.num_latents
        return network(crop, network.encode_style(crop), weights)  # type: ignore[no-any-return]
    assert isinstance(network, StyleSampler)
    noise = torch.randn(2, 1, network.config.noise_dim, generator=rng)
    return network(noise[0], noise[1])  # type: ignore[no-any-return]


def _any_code(generator: Generator, rng: torch.Generator) -> Tensor:
    """A code (1, L, D) in z+."""
    shape = (1, generator.layout.num_latents, generator.config.style_dim)
    return torch.randn(shape, generator=rng)


def _check_style(model: OpenModel) -> None:
    """The extrinsic path without its base, its codes, and the sampling network if there is one."""
    config = dual_config_of(model)
    wanted = outline(lambda: DualStyleGAN.of(config))
    own = {key: shape for key, shape in wanted.items() if not key.startswith("generator.")}
    what = f"the style of a DualStyleGAN of {config.generator.size_px} px"
    check_keys(shapes_of(model.part("style_path")), own, what=what, path=model.path)
    width = model.part("codes")["exstyle"].shape[-1]
    if width != config.generator.style_dim:
        raise ModelMismatchError(
            f"{model.path} has codes of {width} numbers a row, and its network takes "
            f"{config.generator.style_dim}; make it again"
        )
    if "color" in model.parts:
        load_sampler(model)


def _check_translator_style(model: OpenModel) -> None:
    """A code for each name, of the size that the header says; the sampling network if there is one.

    Raises:
        ModelMismatchError: they differ.
    """
    style_dim = configuration(model, lambda values: int(values["style_dim"]))
    header, codes = model.header, model.part("codes").get("exstyle")
    wanted = (len(header.names), header.layout.num_latents if header.layout else 0, style_dim)
    if codes is None or tuple(codes.shape) != wanted:
        found = "none" if codes is None else "x".join(map(str, codes.shape))
        raise ModelMismatchError(
            f"{model.path} should hold codes of {'x'.join(map(str, wanted))} and holds {found}; "
            f"make it again"
        )
    if "color" in model.parts:
        load_sampler(model)


def build(
    factory: Callable[[], Network], state: State, path: Path, what: str, device: torch.device
) -> Network:
    """A network with exactly these weights, in evaluation mode.

    Raises:
        ModelMismatchError: keys missing, too many, or of another shape.
    """
    check_keys(shapes_of(state), outline(factory), what=what, path=path)
    with _Undrawn():
        network = factory()
    for key, made in network.state_dict().items():
        if made.is_floating_point() != state[key].is_floating_point():
            raise ModelMismatchError(
                f"{path} is not {what}: {key} is of {state[key].dtype}; make it again"
            )
    network.load_state_dict(state, strict=True, assign=True)
    return network.to(device).eval()


def generator_config_of(model: OpenModel) -> GeneratorConfig:
    """Configuration of the generator in a file of a generator, a DualStyleGAN or a style."""
    if model.header.kind == "generator":
        return configuration(model, GeneratorConfig.from_json)
    return dual_config_of(model).generator


def dual_config_of(model: OpenModel) -> DualConfig:
    """Configuration of the DualStyleGAN in the file of one, or of a style.

    Raises:
        ModelCorruptError: no such configuration, or the layout beside it is another one's.
    """
    config = configuration(model, DualConfig.from_json)
    if model.header.layout not in (None, config.layout):
        raise ModelCorruptError(
            f"{model.path} contradicts itself: its layout and its configuration are of different "
            f"generators; make it again"
        )
    return config


def configuration(model: OpenModel, parse: Callable[[Mapping[str, Any]], Config]) -> Config:
    """The architecture in the header.

    Raises:
        ModelCorruptError: it says nothing that a network could be built from.
    """
    try:
        return parse(model.header.config)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, DsgError) as error:
        raise ModelCorruptError(
            f"{model.path} describes no network that could be built ({error}); make it again"
        ) from error


def _opened(source: Path | OpenModel, *wanted: Kind) -> OpenModel:
    model = open_model(source) if isinstance(source, Path) else source
    if model.header.kind not in wanted:
        names = " or ".join(KIND_NAMES[kind] for kind in wanted)
        raise ModelMismatchError(
            f"{model.path} holds {KIND_NAMES[model.header.kind]}, not {names}; name another file"
        )
    return model
