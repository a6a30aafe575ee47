"""The tables of a recipe that every stage shares: the run, its data, its models, its features.

A recipe is a choice, not a program: each field says what it does and what it costs. Fields marked
`Free` may differ between two starts of one run, because they do not change its results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from dsgcli.names import why_no_name
from dsgcli.recipe.rules import (
    MAX_COUNT,
    Count,
    Free,
    NotNegative,
    Positive,
    Range,
    Seed,
    Share,
    SizePx,
    Whole,
    check,
)


class RecipeTable:
    """A table of a recipe file: checked when it is made."""

    __slots__ = ()

    def __post_init__(self) -> None:
        check(self, *self.problems())

    def problems(self) -> list[str]:
        """Contradictions between fields that are each valid alone."""
        return []


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecipe(RecipeTable):
    """How the run as a whole behaves; none of it is mathematics, except `seed` and `precision`."""

    name: Annotated[str, Free()] = ""
    """Name of the style (or base) that the run makes; empty takes the recipe's file name."""
    license: Annotated[str, Free()] = "unknown"
    """License of what the run makes, stored in its files; follows from the data's licenses."""
    seed: Seed = 0
    """Every random draw of the run follows from it."""
    precision: Literal["auto", "fp32", "bf16"] = "fp32"
    """Number format of the convolutions. bf16 is 2 to 5 times as fast where the processor has it;
    weights, optimizers and sums stay fp32. auto: bf16 where the machine has it, and for the rest of
    the run what it began with."""
    device_batch: Annotated[int, Range(0, MAX_COUNT), Free()] = 0
    """Most portraits a device takes at once; a larger batch is accumulated over several passes.
    0 takes the whole batch. Lower it when memory runs out: the schedule does not change."""
    checkpoint_minutes: Annotated[float, Range(0), Free()] = 5.0
    """Time between checkpoints: what a killed run loses at most."""
    sample_every: Annotated[int, Range(0, MAX_COUNT), Free()] = 100
    """Steps between sample sheets on a fixed set of codes; 0 draws none."""
    sample_count: Annotated[int, Range(1, 64), Free()] = 16
    """Portraits on a sample sheet."""

    def problems(self) -> list[str]:
        why = why_no_name(self.name)
        return [f"name {self.name!r} {why}"] if self.name and why else []


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(RecipeTable):
    """A folder of portraits, with how often it is drawn."""

    folder: str
    """Folder under `data.root`, with its sub-folders."""
    weight: Positive = 1.0
    """How often a portrait of this folder is drawn, against 1 for another folder's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe(RecipeTable):
    """Which portraits the run learns from."""

    root: Annotated[str, Free()] = "data"
    """Folder that the others lie under; relative to where `dsg train` is started. `--data` and
    DSG_DATA come before it."""
    style: str = ""
    """Folder of the style's portraits (the target domain); empty for a run that makes a base."""
    source: tuple[Source, ...] = ()
    """Folders of photographs (the source domain)."""
    mirror: bool = True
    """Mirror portraits at random: twice the data, and no face parts its hair on one side only."""
    drawn: Whole = 0
    """Draw this many faces for each folder instead of reading it: for tests and demonstrations. The
    folder's name says how: `photo`, `ink` and `pop` are faces of simple shapes; `people` are random
    people of the base that comes with dsg, and a style such as `noir`, or `noir+neon` for what
    lies between, is other people in it."""
    holdout: Share = 0.0
    """Share of each folder's portraits kept out of training, for `evaluate`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecipe(RecipeTable):
    """Sizes of the networks."""

    size_px: SizePx = 1024
    """Side of the pictures: a power of two from 32 to 1024. Time and memory grow with its
    square."""
    style_dim: Annotated[int, Range(8, 1024)] = 512
    """Width of a row of a latent code."""
    mapping_layers: Annotated[int, Range(1, 16)] = 8
    """Layers from z to w."""
    channel_base: Count = 32768
    """Channels at resolution r are min(channel_base / r, max_channels); 32768 is the published
    width. Time grows with its square."""
    max_channels: Annotated[int, Range(4, 1024)] = 512
    """Most channels of a layer."""
    discriminator: Literal["stylegan2", "patch"] = "stylegan2"
    """Architecture of a new base; runs that start from a base keep the one of that base. stylegan2:
    the published one, which judges whole faces, and needs tens of thousands of steps to. patch:
    judges what is sharp alone, from a hundred steps on; for an autoencoder start, whose
    reconstruction says the rest."""
    last_structure: Annotated[int, Range(0, 16)] = 6
    """Last row of the code with a residual block of structure: 6 is the 32x32 block; even."""
    style_layers: Count = 2
    """Layers of T_s, from w to the structure code."""
    encoder_px: Annotated[int, Range(32, 256)] = 256
    """Side of the encoder's input."""
    encoder_widths: tuple[Count, ...] = (64, 64, 128, 256, 512)
    """Channels of the encoder's input layer and of its four stages; the published IR-SE50 body."""
    encoder_units: tuple[Count, ...] = (3, 4, 14, 3)
    """Residual units of the encoder's four stages."""
    encoder_head_width: Count = 512
    """Channels of the encoder's heads, one head a row of the code."""
    encoder_space: Literal["z+", "w+"] = "z+"
    """Latent space of the encoder's codes. z+ keeps the structure of the style apart from its
    color; w+ follows the photograph more closely."""

    def problems(self) -> list[str]:
        found = []
        if self.size_px < 32 or self.size_px & (self.size_px - 1):
            found.append(f"size_px must be a power of two from 32 to 1024, got {self.size_px}")
        if self.last_structure % 2:
            found.append(f"last_structure must be even, got {self.last_structure}")
        if len(self.encoder_widths) != 5 or len(self.encoder_units) != 4:
            found.append("encoder_widths must have 5 entries and encoder_units 4")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesRecipe(RecipeTable):
    """Frozen networks that tell how alike two portraits are. There is no default that hides the
    choice: it is printed, and stored with the run."""

    perceptual: Literal["vgg", "discriminator", "encoder"] = "discriminator"
    """vgg: VGG19 and LPIPS, which must be in the store (`dsg models pull losses`). discriminator:
    the frozen discriminator of the base; nothing to download. encoder: the trunk of the run's own
    encoder."""
    identity: Literal["irse50", "encoder", "none"] = "encoder"
    """irse50: a face recognition network, which must be in the store. encoder: the run's own
    encoder, whose codes tell people apart less well. none: no identity loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecipe(RecipeTable):
    """Models that the run starts from, unless it makes them itself: names in the store, files, or
    folders of other runs. Empty: made by an earlier stage of the run."""

    base: str = ""
    """Plain StyleGAN2 of the source domain, with its discriminator if the file has one."""
    encoder: str = ""
    """Encoder for that generator."""
    finetuned: str = ""
    """StyleGAN2 of the style's domain (g')."""
    codes: str = ""
    """Intrinsic and extrinsic codes of the style's portraits."""
    pretrained: str = ""
    """DualStyleGAN pretrained on the source domain."""
    style: str = ""
    """DualStyleGAN of the style, for runs that only refine or evaluate."""
    translator: str = ""
    """Translator that `distill` trains on; empty begins a new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareRecipe(RecipeTable):
    """Audit, align and pack the portraits. Nothing is deleted: what is left out is listed."""

    aligned: Literal["auto", "yes", "no"] = "auto"
    """auto looks whether a picture is an aligned crop already; yes takes all as they are; no
    aligns all."""
    min_face_px: Whole = 64
    """Leave out faces smaller than this, in pixels of the picture."""
    min_sharpness: NotNegative = 0.0
    """Leave out portraits blurrier than this: variance of the Laplacian of the gray crop at
    256 px, in units of 1/255. 20 to 50 leaves out what is plainly out of focus; painted styles
    are smooth by intent, so the default leaves out none and the report shows the figures."""
    duplicate_bits: Annotated[int, Range(-1, 16)] = 4
    """Two portraits whose 64-bit perceptual hashes differ in at most this many bits are
    duplicates, and the first is kept; -1 keeps all."""
    several: Literal["largest", "leave_out"] = "largest"
    """Choice for pictures of several people."""
    no_face: Literal["leave_out", "keep"] = "leave_out"
    """keep: take a picture in which no face is found as an aligned crop, for styles too far from
    photographs for the detector."""
