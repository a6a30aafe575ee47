"""Recognize a network from the names and shapes of its weights.

Published checkpoints say nothing of their architecture; here a state dict becomes a configuration
from which the network can be built, and is compared with what that network needs.

Shapes: a `Shapes` maps the keys of a state dict to tuples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from dsgcli.errors import ModelMismatchError, UsageError
from dsgcli.models.bounds import MAX_LAYERS
from dsgcli.models.dualstylegan import DualConfig
from dsgcli.models.encoder import CodeSpace, EncoderConfig
from dsgcli.models.stylegan2 import GeneratorConfig
from dsgcli.models.translator import TranslatorConfig
from dsgcli.store.header import KIND_NAMES, Kind, Shapes

T = TypeVar("T")

_NAMED_KEYS = 3
"""Keys that a message names before it counts the rest."""

# ── kinds ────────────────────────────────────────────────────────────────────────────────────────

_SIGNS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("dualstylegan", ("res.0.conv.0.weight", "generator.conv1.conv.weight")),
    ("generator", ("conv1.conv.weight", "to_rgb1.bias")),
    ("identity", ("input_layer.0.weight", "output_layer.3.weight")),
    ("encoder", ("input_layer.0.weight", "styles.0.linear.weight")),
    ("lpips", ("lin0.model.1.weight",)),
    ("vgg19", ("features.0.weight", "features.16.weight", "features.34.weight")),
    ("vgg16", ("features.0.weight", "features.17.weight", "features.28.weight")),
)
"""Keys that together occur in one kind of network only; first match wins."""

_STRANGERS = (
    (("final_conv.0.weight", "final_linear.0.weight"), "a StyleGAN2 discriminator alone"),
    (("cp.resnet.conv1.weight",), "a face parsing network (BiSeNet)"),
    (("param_groups", "state"), "the state of an optimizer"),
    (("synthesis.input.weight",), "a StyleGAN3 generator"),
    (("lin1.weight", "lin_out.weight"), "one half of a sampling network"),
    (("stem.weight", "t_structure.layers.0.weight"), "a translator"),
)


def kind_of(keys: Iterable[str]) -> Kind | None:
    """The kind of network that a state dict belongs to; None if it is none of ours."""
    present = set(keys)
    return next((kind for kind, signs in _SIGNS if present.issuperset(signs)), None)


def likely(keys: Iterable[str]) -> str:
    """Describe a set of keys for a message."""
    present = set(keys)
    if kind := kind_of(present):
        return KIND_NAMES[kind]
    known = (name for signs, name in _STRANGERS if present.issuperset(signs))
    return next(known, "") or (
        f"something with {_some(sorted(present))}" if present else "something without a tensor"
    )


# ── configurations ───────────────────────────────────────────────────────────────────────────────


def generator_config(shapes: Shapes, path: Path) -> GeneratorConfig:
    """Configuration of a StyleGAN2 generator.

    Raises:
        ModelMismatchError: keys are missing, or make no generator of 32 to 1024 px.
    """
    convs = _count(shapes, "convs.{}.conv.weight")
    if convs > MAX_LAYERS:
        raise ModelMismatchError(f"{path} holds {convs} convolutions, more than any generator has")
    outputs = {
        8 << k: _side(shapes, f"convs.{2 * k}.conv.weight", 1, path) for k in range(convs // 2)
    }
    try:
        return GeneratorConfig(
            size_px=4 << convs // 2,
            style_dim=_side(shapes, "conv1.conv.modulation.weight", 1, path),
            mapping_layers=_count(shapes, "style.{}.weight", first=1),
            channels={4: _side(shapes, "conv1.conv.weight", 1, path), **outputs},
        )
    except (UsageError, ModelMismatchError) as error:  # a size or a width that dsg has not
        raise ModelMismatchError(
            f"{path} holds no generator of a size that dsg has: {error}"
        ) from error


def dual_config(shapes: Shapes, path: Path) -> DualConfig:
    """Configuration of a DualStyleGAN."""
    inner = {
        k.removeprefix("generator."): s for k, s in shapes.items() if k.startswith("generator.")
    }
    generator = generator_config(inner, path)
    try:
        return DualConfig(
            generator=generator,
            last_structure=_count(shapes, "res.{}.conv.0.weight") - 1,
            style_layers=_count(shapes, "style.{}.weight", first=1),
        )
    except (UsageError, ModelMismatchError) as error:
        raise ModelMismatchError(f"{path} holds no DualStyleGAN that dsg has: {error}") from error


def encoder_config(
    shapes: Shapes, path: Path, *, space: CodeSpace, latent_avg: bool
) -> EncoderConfig:
    """Configuration of a pSp encoder whose four stages differ in width, as the published one's do.

    Args:
        space, latent_avg: what the shapes do not tell.
    """
    outputs = [
        _side(shapes, f"body.{unit}.res_layer.3.weight", 0, path)
        for unit in range(_count(shapes, "body.{}.res_layer.3.weight"))
    ]
    widths = tuple(sorted(set(outputs), key=outputs.index))
    if len(widths) != 4:
        raise ModelMismatchError(
            f"{path} holds an encoder whose body has not four stages of widths"
        )
    heads = [
        _count(shapes, f"styles.{row}.convs.{{}}.weight", step=2)
        for row in range(_count(shapes, "styles.{}.linear.weight"))
    ]
    linear = "styles.0.linear.weight"
    try:
        return EncoderConfig(
            num_latents=len(heads),
            style_dim=_side(shapes, linear, 0, path),
            latent_space=space,
            input_px=16 << min(heads[0], MAX_LAYERS),
            stem_width=_side(shapes, "input_layer.0.weight", 0, path),
            widths=(widths[0], widths[1], widths[2], widths[3]),
            units=tuple(outputs.count(width) for width in widths),  # type: ignore[arg-type]
            head_width=_side(shapes, linear, 1, path),
            coarse_rows=heads.count(heads[0]),
            middle_rows=heads.count(heads[0] + 1),
            latent_avg=latent_avg,
        )
    except ModelMismatchError as error:
        raise ModelMismatchError(f"{path} holds no encoder that dsg has: {error}") from error


def translator_config(shapes: Shapes, path: Path) -> TranslatorConfig:
    """Configuration of a translator: a network that is built from this is no larger than its file.

    Raises:
        ModelMismatchError: keys are missing, or tensors have too few axes.
    """

    def side(key: str, axis: int = 0) -> int:
        return _side(shapes, key, axis, path)

    # of the style encoder's body, each level is two convolutions and two activations
    levels = _count(shapes, "style_encoder.body.{}.weight", step=4)
    return TranslatorConfig(
        widths=(
            side("stem.weight"),
            side("down2.weight"),
            side("down3.weight"),
            side("down4.weight"),
        ),
        code_dim=side("t_structure.layers.0.weight", 1),
        style_hidden=side("t_structure.layers.0.weight"),
        style_widths=tuple(
            side(f"style_encoder.body.{4 * level}.weight") for level in range(levels)
        ),
    )


def _count(shapes: Shapes, pattern: str, *, first: int = 0, step: int = 1) -> int:
    """How many consecutive numbers the pattern has a key for."""
    count = 0
    while pattern.format(first + step * count) in shapes:
        count += 1
    return count


def _side(shapes: Shapes, key: str, axis: int, path: Path) -> int:
    """Length of one axis of a tensor."""
    try:
        return shapes[key][axis]
    except KeyError:
        raise ModelMismatchError(
            f"{path} is incomplete: {key!r} is missing; it looks like {likely(shapes)}"
        ) from None
    except IndexError:
        raise ModelMismatchError(
            f"{path} is damaged: {key!r} is {_sides(shapes[key])} and has too few axes"
        ) from None


# ── comparison ───────────────────────────────────────────────────────────────────────────────────


def check_keys(found: Shapes, wanted: Shapes, *, what: str, path: Path) -> None:
    """Compare a state dict with the one a network needs.

    Raises:
        ModelMismatchError: keys that are missing, too many, or of another shape; the first few of
            each, and what the file seems to be.
    """
    missing = [key for key in wanted if key not in found]
    extra = [key for key in found if key not in wanted]
    sizes = [
        f"{key} is {_sides(found[key])} instead of {_sides(wanted[key])}"
        for key in wanted
        if key in found and found[key] != wanted[key]
    ]
    problems = [
        _counted(missing, "key is missing", "keys are missing"),
        _counted(extra, "key is too many", "keys are too many"),
        _counted(sizes, "tensor is of another size", "tensors are of another size"),
    ]
    if told := "; ".join(problem for problem in problems if problem):
        looks = likely(found)
        hint = "" if looks in what else f"; it looks like {looks}"
        raise ModelMismatchError(f"{path} is not {what}: {told}{hint}")


def _counted(items: Sequence[str], one: str, several: str) -> str:
    if not items:
        return ""
    return f"{len(items)} {one if len(items) == 1 else several} ({_some(items)})"


def _sides(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _some(items: Sequence[str]) -> str:
    rest = len(items) - _NAMED_KEYS
    shown = ", ".join(items[:_NAMED_KEYS])
    return f"{shown} and {rest} more" if rest > 0 else shown


def without_prefix(state: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The entries under a prefix, without it."""
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
