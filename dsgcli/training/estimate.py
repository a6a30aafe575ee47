"""About how long a stage takes and how much memory it needs, before anything is built.

Flow: recipe -> floating-point operations and activations of its networks -> hours, GiB.

The operations are counted from the layers' sizes; the machine's speed is taken from a short
convolution. Good to a factor of two: enough to see whether it is minutes, hours or weeks.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from dsgcli.models.patch import PATCH_WIDTH
from dsgcli.models.translator import STYLE_PX, Translator, TranslatorConfig
from dsgcli.recipe import DistillRecipe, Growth, ModelRecipe, Recipe
from dsgcli.runtime import num_cpus
from dsgcli.types import LatentLayout

EFFICIENCY = 0.4
"""Share of the probed speed that a training step reaches: it also moves memory."""
ACTIVATIONS_KEPT = 4
"""Copies of each layer's output that a training step holds until its backward pass."""


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate."""

    hours: float
    memory_gib: float


@dataclass(frozen=True, slots=True)
class Load:
    """Cost of one forward pass of a picture."""

    flops: float
    activations: float
    """Numbers that come out of layers."""
    parameters: float

    def __add__(self, other: Load) -> Load:
        return Load(
            self.flops + other.flops,
            self.activations + other.activations,
            self.parameters + other.parameters,
        )


NOTHING = Load(0, 0, 0)


def channels_at(model: ModelRecipe, side: int) -> int:
    """Channels of the generator at a resolution."""
    return min(model.channel_base // side, model.max_channels)


def generator_load(model: ModelRecipe, size_px: int) -> Load:
    """Cost of the generator: two convolutions for each resolution."""
    load = NOTHING
    for side in LatentLayout(size_px, model.last_structure).resolutions_px:
        here, below = channels_at(model, side), channels_at(model, max(4, side // 2))
        load += _conv(below, here, side) + _conv(here, here, side)
    mapping = model.mapping_layers * model.style_dim**2
    return load + Load(2 * mapping, 0, mapping)


def discriminator_load(model: ModelRecipe, size_px: int) -> Load:
    """Cost of the discriminator: the generator's mirror image, or three layers of patches."""
    if model.discriminator == "patch":
        half, quarter = size_px // 2, size_px // 4
        return (
            _conv(3, PATCH_WIDTH, half)
            + _conv(PATCH_WIDTH, 2 * PATCH_WIDTH, quarter)
            + _conv(2 * PATCH_WIDTH, 4 * PATCH_WIDTH, quarter)
        )
    load = NOTHING
    for side in LatentLayout(size_px, model.last_structure).resolutions_px:
        here, below = channels_at(model, side), channels_at(model, max(4, side // 2))
        load += _conv(here, here, side) + _conv(here, below, max(4, side // 2))
    linear = channels_at(model, 4) ** 2 * 16
    return load + Load(2 * linear, 0, linear)


def encoder_load(model: ModelRecipe) -> Load:
    """Cost of the encoder: its body, and a head for each row."""
    load, side, before = NOTHING, model.encoder_px, model.encoder_widths[0]
    sides = []
    for width, units in zip(model.encoder_widths[1:], model.encoder_units, strict=True):
        load += _conv(before, width, side) + _conv(width, width, side // 2)
        side //= 2
        for _ in range(units - 1):
            load += _conv(width, width, side) + _conv(width, width, side)
        before = width
        sides.append(side)
    rows = LatentLayout(model.size_px, model.last_structure).num_latents
    for row in range(rows):
        first = sides[3] if row < 3 else sides[2] if row < 7 else sides[1]
        load += _conv(before, model.encoder_head_width, first // 2)
    return load


def _conv(inside: int, outside: int, side: int) -> Load:
    weights = 9 * inside * outside
    return Load(2.0 * weights * side**2, float(outside * side**2), float(weights))


# ── stages ───────────────────────────────────────────────────────────────────────────────────────

ADVERSARIAL_PASSES = (5.0, 9.0)
"""Passes forward of generator and discriminator that an adversarial step costs, backward passes
(twice a forward one) and the lazy penalties' share included."""


def estimate(stage: str, recipe: Recipe, portraits: int = 0) -> Cost | None:
    """Cost of a whole stage; None for stages whose cost is small or not known.

    Args:
        portraits: of the style, which some stages go through one by one.
    """
    if stage == "distill" and recipe.distill is not None:
        return _distill_cost(recipe, recipe.distill)
    model, table = recipe.model, getattr(recipe, stage)
    g, d = generator_load(model, model.size_px), discriminator_load(model, model.size_px)
    e = encoder_load(model)
    made_g, made_d = ADVERSARIAL_PASSES
    adversarial = made_g * g.flops + made_d * d.flops
    if stage == "base":
        grown = [_growth_flops(model, growth) for growth in table.growth]
        flops = sum(grown) + table.steps * table.batch_size * adversarial
    elif stage in ("finetune", "pretrain", "transfer"):
        flops = table.steps * table.batch_size * (adversarial + g.flops)
    elif stage == "encoder":
        flops = table.steps * table.batch_size * 3 * (e.flops + g.flops)
    elif stage in ("destylize", "refine") and portraits:  # features cost about a discriminator
        flops = table.steps * portraits * 3 * (g.flops + d.flops)
    else:
        return None
    networks = [g, d, e] if stage in ("base", "encoder") else [g, d]
    memory = _memory_gib(networks, _at_once(recipe, table.batch_size))
    return Cost(flops / (EFFICIENCY * probed_flops(recipe.run.precision)) / 3600, memory)


CHECKPOINT_COPIES = 2 * 5 * 4
"""Bytes a weight: two checkpoints of weights, average, gradient moments and the rest, in fp32."""


def disk_gb(recipe: Recipe, stages: Sequence[str], portraits: int) -> float:
    """About how many GB a run writes.

    Args:
        portraits: of all data sets; each is packed at the recipe's size and all smaller ones.
    """
    picture = 3 * recipe.model.size_px**2
    total = 4 / 3 * portraits * picture
    for stage in stages:
        if stage == "distill" and recipe.distill is not None:
            total += recipe.distill.pairs * 2 * picture
            total += CHECKPOINT_COPIES * translator_loads(256)[0].parameters
        elif stage not in ("prepare", "sampler", "evaluate"):
            networks = generator_load(recipe.model, recipe.model.size_px)
            networks += discriminator_load(recipe.model, recipe.model.size_px)
            total += CHECKPOINT_COPIES * networks.parameters
    return total / 1e9


PAIR_CORE_S = {"headshot": 0.15, "pairs": 0.0}
"""Seconds of a core for a pair: warps, filters and a look for the face."""


def _distill_cost(recipe: Recipe, distill: DistillRecipe) -> Cost:
    """Pairs, drawn by all cores, then the phases: a step is three passes of translator and style
    encoder, two more for the shifted crop, and those of the discriminator."""
    speed = EFFICIENCY * probed_flops(recipe.run.precision)
    if distill.teacher == "dualstylegan":  # two pictures of a generator of 1024 px
        teacher = replace(recipe.model, size_px=1024)
        seconds = distill.pairs * 2 * generator_load(teacher, 1024).flops / speed
    else:
        seconds = distill.pairs * PAIR_CORE_S[distill.teacher] / num_cpus()
    patches = replace(recipe.model, discriminator="patch")
    memory = 0.0
    for phase in distill.phases:
        drawn, encoded = translator_loads(phase.size_px)
        judge = discriminator_load(patches, phase.size_px)
        passes = 3.0 + (3.0 if phase.lambda_shift else 0.0)
        flops = passes * drawn.flops + 3.0 * encoded.flops
        flops += 9.0 * judge.flops if phase.lambda_adv else 0.0
        seconds += phase.steps * phase.batch_size * flops / speed
        memory = max(memory, _memory_gib([drawn, judge], _at_once(recipe, phase.batch_size)))
    return Cost(seconds / 3600, memory)


@lru_cache(maxsize=8)
def translator_loads(size_px: int) -> tuple[Load, Load]:
    """Cost of the translator for a crop, and of its style encoder for an exemplar; counted on
    tensors without numbers."""
    with torch.device("meta"):
        network = Translator(TranslatorConfig())
        rows, width = network.layout.num_latents, network.config.code_dim
        with FlopCounterMode(display=False) as counted:
            network(
                torch.empty(1, 3, size_px, size_px), torch.empty(1, rows, width), torch.ones(rows)
            )
        drawn = float(counted.get_total_flops())
        with FlopCounterMode(display=False) as counted:
            network.encode_style(torch.empty(1, 3, STYLE_PX, STYLE_PX))
        encoded = float(counted.get_total_flops())
    weights = float(sum(weight.numel() for weight in network.parameters()))
    activations = 3.0 * network.config.widths[0] * size_px**2  # most of them at the full sides
    return Load(drawn, activations, weights), Load(encoded, 0.0, 0.0)


def _growth_flops(model: ModelRecipe, growth: Growth) -> float:
    """A backward pass is two forward ones where a network learns, one where gradients only go
    through it, and none below the layers that learn."""
    size_px = growth.size_px
    g, d = generator_load(model, size_px).flops, discriminator_load(model, size_px).flops
    half_px = max(32, size_px // 2)  # no generator is smaller than 32 px
    e, below = encoder_load(model).flops, generator_load(model, half_px).flops
    image = {"all": 3 * (g + e), "encoder": 2 * g + 3 * e, "new": 3 * g - 2 * below + e}
    flops = image[growth.learns]
    if growth.lambda_adv or growth.lambda_sample:
        flops += (3 * g if growth.learns == "all" else g) + 10 * d
    return flops * growth.steps * growth.batch_size


def _at_once(recipe: Recipe, batch_size: int) -> int:
    return min(batch_size, recipe.run.device_batch or batch_size)


def _memory_gib(networks: Iterable[Load], batch: int) -> float:
    total = sum(networks, NOTHING)
    weights = 5 * 4 * total.parameters  # weights, average, gradient, two moments
    return (weights + ACTIVATIONS_KEPT * 4 * batch * total.activations) / 2**30


@lru_cache(maxsize=2)
def probed_flops(precision: str) -> float:
    """Floating-point operations a second of a convolution of usual size, on the default device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    x = torch.randn(4, 128, 64, 64, device=device, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3, device=device, dtype=dtype)
    done, started = 0, 0.0
    for turn in range(8):
        if turn == 2:  # the first ones choose and prepare
            started = time.perf_counter()
        torch.nn.functional.conv2d(x, weight, padding=1).sum().item()
        done += turn >= 2
    operations = 2.0 * 9 * 128 * 128 * 64 * 64 * 4 * done
    return operations / (time.perf_counter() - started)
