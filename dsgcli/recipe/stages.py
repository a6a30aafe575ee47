"""The tables of a recipe that belong to one stage each; values are the published ones, Yang et al.
(arXiv:2203.13248).

Batch sizes are effective: portraits a step, over all devices and accumulations. So a schedule
written for eight devices is right on one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from dsgcli.recipe.rules import (
    MAX_COUNT,
    Count,
    Free,
    NotNegative,
    Positive,
    Range,
    Share,
    SizePx,
    Whole,
)
from dsgcli.recipe.tables import RecipeTable


@dataclass(frozen=True, slots=True, kw_only=True)
class AdversarialRecipe(RecipeTable):
    """Fields that the stages with a discriminator share."""

    steps: Whole
    """Optimizer steps of the generator."""
    batch_size: Count = 32
    """Portraits a step, over all devices. Small batches collapse: 16 at least, 32 as published."""
    lr: Positive = 0.002
    """Learning rate; the corrections for lazy regularization (4/5 and 16/17) are applied to it."""
    r1_gamma: NotNegative = 10.0
    """Weight of the discriminator's gradient penalty. Higher is steadier and blurrier."""
    r1_every: Whole = 16
    """Steps between gradient penalties; 0 never."""
    path_weight: NotNegative = 2.0
    """Weight of the path length penalty."""
    path_every: Whole = 4
    """Steps between path length penalties; 0 never. Each costs about a generator step."""
    path_shrink: Count = 2
    """The path length penalty takes batch_size / path_shrink portraits."""
    mixing: Share = 0.9
    """Probability of crossing two codes at a random row."""
    augment: bool = False
    """Adaptive augmentation of what the discriminator sees: for fewer than some 5,000 portraits."""
    augment_p: Share = 0.0
    """Fixed probability of augmentation; 0 lets the controller choose."""
    ada_target: Share = 0.6
    """Mean sign of the discriminator's answer on real portraits that the controller aims at."""
    ada_images: Count = 500_000
    """Portraits over which the controller may go from 0 to 1."""
    ema_half_life_steps: Positive = 312.5
    """Steps after which half of the averaged weights is new: decay 0.5^(32/10000) as published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth(RecipeTable):
    """One resolution of an autoencoder that grows."""

    size_px: SizePx
    """Side of the pictures in this phase."""
    steps: Count
    """Optimizer steps."""
    batch_size: Count = 32
    """Portraits a step."""
    lr: Positive = 8e-4
    """Learning rate at the top of the schedule: warm-up, then cosine to 5 %."""
    lambda_adv: NotNegative = 0.0
    """Weight of the adversarial term on reconstructions: 0.05 sharpens, once they are there."""
    lambda_sample: NotNegative = 0.0
    """Weight of the adversarial term on faces from random codes, so that these are faces too."""
    learns: Literal["all", "encoder", "new"] = "all"
    """all: both networks. encoder: it alone, for a generator that stays as it is, at any size up to
    the generator's; styles that were trained on it stay valid. new: only the layers that this
    resolution adds, so that pictures stay what they were, and become sharper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseRecipe(AdversarialRecipe):
    """Stage `base`: a StyleGAN2 of the source domain."""

    start: Literal["scratch", "checkpoint", "autoencoder"] = "scratch"
    """scratch: adversarial from random weights, a million pictures and more. checkpoint: from
    `start.base`. autoencoder: with an encoder, on reconstruction, grown by `growth`; good from
    a thousand pictures and without an accelerator. It makes the encoder too, and goes on from
    `start.base` and `start.encoder` if they are named."""
    steps: Whole = 100_000
    """Adversarial steps on random codes; with an autoencoder start, after its growth; may be 0."""
    growth: tuple[Growth, ...] = ()
    """The autoencoder's resolutions, small to large; the last is the model's size."""
    lambda_pixel: NotNegative = 1.0
    """Weight of the L1 distance over three levels of an image pyramid."""
    lambda_edge: NotNegative = 0.5
    """Weight of the L1 distance of horizontal and vertical differences."""
    face_weight: Positive = 1.0
    """How much more the middle of an aligned crop counts than its corners in these two terms: 4
    spends what the networks have on the person."""
    feature_weight: Positive = 1.0
    """How much more eyes and mouth count, on top of that: blinks and smiles are a fiftieth of the
    picture, and closed mouths cost little without it."""
    lambda_perc: NotNegative = 0.0
    """Weight of the distance of the discriminator's feature maps, where `lambda_adv` is not 0."""
    lambda_prior: NotNegative = 0.02
    """Weight that pulls the codes' mean to 0 and variance to 1."""
    prior_axes: Whole = 256
    """With an autoencoder start: principal axes of the codes that a random z moves along, so that
    random faces are faces; at most the style width. 0 repeats one z in all rows, as StyleGAN2."""
    warmup_steps: Whole = 200
    """Steps over which a phase's learning rate rises."""
    max_grad_norm: NotNegative = 1.0
    """Gradients are scaled down to this norm while the autoencoder grows; 0 never."""

    def problems(self) -> list[str]:
        sizes = [step.size_px for step in self.growth if step.learns != "encoder"]
        found = []
        if self.start == "autoencoder" and not self.growth:
            found.append("growth must not be empty with start = 'autoencoder'")
        if sizes != sorted(sizes):
            found.append(f"growth must go from small to large sizes, got {sizes}")
        if any(step.learns == "encoder" and step.lambda_sample > 0 for step in self.growth):
            found.append("growth cannot have lambda_sample where only the encoder learns")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderRecipe(RecipeTable):
    """Stage `encoder`: from a portrait to the codes of a given generator (pSp)."""

    steps: Count = 20_000
    """Optimizer steps."""
    batch_size: Count = 8
    """Portraits a step."""
    lr: Positive = 1e-4
    """Learning rate."""
    sample_share: Share = 0.5
    """Share of the batch that is the generator's own samples, whose codes are known."""
    lambda_pixel: NotNegative = 1.0
    """Weight of the squared pixel distance."""
    lambda_perc: NotNegative = 0.8
    """Weight of the perceptual distance."""
    lambda_id: NotNegative = 0.5
    """Weight of the identity distance."""
    lambda_reg: NotNegative = 0.005
    """Weight that pulls codes towards the mean code: higher edits better, follows less."""
    lambda_code: NotNegative = 0.1
    """Weight of the distance to the known codes of the generator's own samples."""
    max_grad_norm: NotNegative = 1.0
    """Gradients are scaled down to this norm; 0 never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneRecipe(AdversarialRecipe):
    """Stage `finetune`: the base fitted to the style's domain (g'), for destylization."""

    steps: Whole = 600
    """Optimizer steps. More than 600 breaks the correspondence between a photograph and its
    stylized twin, which destylization rests on."""
    augment: bool = True
    """Adaptive augmentation; styles have few portraits."""
    lambda_adv: NotNegative = 1.0
    """Weight of the adversarial term on random faces."""
    lambda_pixel: NotNegative = 0.0
    """Weight of the pixel distance between a portrait and what g' makes of its code. 1 (with
    lambda_adv = 0.05) for a base that was learnt as an autoencoder: a discriminator alone tears
    faces that it has not made."""
    swap_size_px: SizePx = 32
    """First resolution that the layer-swapped blend (`swap`) takes from g' instead of g."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DestylizeRecipe(RecipeTable):
    """Stage `destylize`: the photograph behind each portrait, as codes."""

    steps: Count = 300
    """Optimization steps a portrait. 100 to 600: more follows the portrait, less the face."""
    batch_size: Count = 1
    """Portraits at once. Terms are sums or means as published, so 1 and 16 agree to rounding."""
    lr: Positive = 0.1
    """Top of the learning rate ramp."""
    truncation: Share = 0.7
    """How far from the mean face the photograph may lie; 0.5 for styles far from photographs."""
    lambda_perc: NotNegative = 1.0
    """Weight of the perceptual distance."""
    lambda_id: NotNegative = 0.1
    """Weight of the identity distance."""
    lambda_reg: NotNegative = 1.0
    """Weight of the spread of the code's rows: higher gives cleaner photographs."""
    lambda_noise: NotNegative = 1e5
    """Weight that keeps the noise maps noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainRecipe(AdversarialRecipe):
    """Stage `pretrain`: color, then structure transfer on the source domain (stages 1, 2)."""

    steps: Whole = 3000
    """Optimizer steps at the last level; each level before takes `level_share` of them."""
    batch_size: Count = 4
    """Portraits a step; published with one device and 4."""
    levels: Annotated[int, Range(1, 7)] = 3
    """Levels of structure: the crossing row starts one above the last structure row and goes one
    row down a level (7, 6, 5 at the published layout)."""
    level_share: Share = 0.1
    """Share of `steps` for each level before the last."""
    encoded_every: Count = 4
    """Every so many steps the style is an encoded picture in w+; else it is the code itself."""
    lambda_adv: NotNegative = 0.1
    """Weight of the adversarial terms."""
    lambda_perc: NotNegative = 1.0
    """Weight of the perceptual distance to the picture with crossed codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRecipe(AdversarialRecipe):
    """Stage `transfer`: the extrinsic path fitted to the style's domain (stage three)."""

    steps: Whole = 1500
    """Optimizer steps. 1000 to 1500 are all usable: look at the samples and choose."""
    augment: bool = True
    """Adaptive augmentation; styles have few portraits."""
    paired: bool = True
    """Every second step trains on pairs of a portrait and its destylized code. Without, the
    structure of single exemplars is lost (ablation)."""
    code_jitter: NotNegative = 0.1
    """Standard deviation of the noise on extrinsic codes."""
    lambda_adv: NotNegative = 1.0
    """Weight of the adversarial terms."""
    lambda_perc: NotNegative = 1.0
    """Weight of the perceptual distance to the exemplar, on paired steps."""
    lambda_pixel: NotNegative = 0.0
    """Weight of the pixel distance to the exemplar, on paired steps; 1 for a base that was learnt
    as an autoencoder."""
    face_weight: Positive = 1.0
    """How much more the middle of an aligned crop counts than its corners in the pixel distance."""
    feature_weight: Positive = 1.0
    """How much more eyes and mouth count, on top of that, so that their shapes follow; hair and
    ground, which no two pictures share, are most of it without."""
    lambda_cx: NotNegative = 0.25
    """Weight of the contextual distance to the exemplar."""
    lambda_fm: NotNegative = 0.25
    """Weight of the distance of mean features to the exemplar's."""
    lambda_color: NotNegative = 0.0
    """Weight of the distance of colors, their means and deviations, to the exemplar's; 1 where
    features of small networks leave colors to chance."""
    lambda_id: NotNegative = 1.0
    """Weight of the identity distance to the plain face. Tune first for a new style: 4 for
    caricature, whose shapes go far; 1 for cartoon and anime."""
    lambda_reg: NotNegative = 0.015
    """Weight of the norms of the extrinsic path: higher stays closer to the real face. Tune
    second: 0.005 for caricature, 0.02 for anime."""
    reg_scope: Literal["all", "structure"] = "all"
    """all: every tensor of the extrinsic path, as the published code. structure: the residual
    blocks alone."""
    rows: tuple[Whole, ...] = ()
    """Rows of the code whose extrinsic path is trained and used; empty for all (ablation)."""
    keep_from: Annotated[int, Range(0, MAX_COUNT), Free()] = 1000
    """First step whose weights are kept as a candidate."""
    keep_every: Annotated[int, Range(1, MAX_COUNT), Free()] = 100
    """Steps between candidates."""
    candidate: Annotated[int, Range(0, MAX_COUNT), Free()] = 0
    """Step of the candidate that later stages use; 0 takes the one with the best score."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefineRecipe(RecipeTable):
    """Stage `refine`: each extrinsic code optimized against its exemplar."""

    steps: Count = 100
    """Optimization steps an exemplar."""
    batch_size: Count = 1
    """Exemplars at once."""
    lr_structure: NotNegative = 0.005
    """Learning rate of the structure rows."""
    lr_color: NotNegative = 0.01
    """Learning rate of the color rows; 0.1 for cartoon. Higher takes over more of the exemplar."""
    lambda_perc: NotNegative = 1.0
    """Weight of the perceptual distance."""
    lambda_cx: NotNegative = 1.0
    """Weight of the contextual distance."""
    lambda_noise: NotNegative = 1e5
    """Weight that keeps the noise maps noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnlargeRecipe(RecipeTable):
    """Stage `enlarge`: a style that was learnt at model.size_px draws at a larger size, without
    more training."""

    base: str = ""
    """A base that has grown from the style's own by `learns = "new"`: a file, the folder of a run,
    or a name in the store, as in [start]."""
    encoder: str = ""
    """Encoder for that base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExemplarSource(RecipeTable):
    """Exemplars that the headshot teacher draws alike."""

    folder: str
    """A folder within the style's, or one of the base's, whose portraits are exemplars too; empty
    for all portraits of the style."""
    share: Positive = 1.0
    """Share of the pairs, against 1 for another entry."""
    count: Whole = 0
    """How many of the portraits are exemplars, by name; 0 for all."""
    own_shape: Share = 0.4
    """How much of an exemplar's own proportions is drawn; the rest is the mean of its folder."""
    eyes: Annotated[float, Range(0, 3)] = 1.0
    """Enlargement of what sets the exemplars' eyes apart; 1.5 exaggerates."""
    strokes: Annotated[int, Range(0, 8)] = 3
    """Radius, in pixels at 256 px, of the filter that removes a photograph's texture; 0 is none."""
    least_contrast: NotNegative = 0.25
    """Least gain of local contrast: 0.1 for smooth skin, 0.5 keeps wrinkles."""
    most_contrast: Positive = 2.6
    """Largest gain of local contrast."""
    lightness: Share = 0.6
    """How far the mean lightness of the skin follows the exemplar: 1 makes dark skin light."""
    chroma: Share = 0.9
    """How far its mean color does."""
    shading: Share = 0.5
    """Share of the exemplar's own coarse light and shadow."""
    ground: Share = 0.5
    """How far hair, clothes and background follow the exemplar's color and light, against skin."""
    lines: Share = 0.0
    """Darkness of the ink lines along edges; 0 draws none."""
    vivid: Positive = 1.0
    """Gain of chroma in the end; 1.2 for stronger colors."""

    @property
    def prefix(self) -> str:
        """Beginning of the names of its portraits."""
        return f"{self.folder}/" if self.folder else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillPhase(RecipeTable):
    """One resolution of the translator's training."""

    size_px: SizePx
    """Side of the crops: a multiple of 32."""
    steps: Count
    """Optimizer steps."""
    batch_size: Count = 16
    """Pairs a step."""
    lr: Positive = 6e-4
    """Learning rate at the top of the schedule: warm-up, then cosine to `lr_end`."""
    lr_end: NotNegative = 5e-5
    """Learning rate of the last step."""
    zoom: tuple[Positive, ...] = (0.9, 1.6)
    """Smallest and largest enlargement of the face, against an aligned crop of this size: above 1
    a part of the face fills the crop, as in large faces."""
    lambda_adv: NotNegative = 0.0
    """Weight of the adversarial term: strokes, skin and hair of the real exemplars."""
    lambda_perc: NotNegative = 0.0
    """Weight of the distance of the feature maps that [features] names."""
    lambda_contrast: NotNegative = 0.0
    """Weight of the distance of local contrast, level by level: pixel distances alone make pictures
    soft wherever a stroke may lie here or a pixel beside."""
    lambda_strokes: NotNegative = 0.0
    """Weight of the sliced Wasserstein distance of Laplacian patches to the exemplar's: strokes,
    their strength and color, wherever they lie (Karras et al., arXiv:1710.10196, section 5)."""
    fine_weight: NotNegative = 1.0
    """Weight of the finest level in the pixel distance. Below 1, the other terms decide about
    strokes; 1 makes pictures soft."""
    noise: NotNegative = 0.0
    """Largest standard deviation of the noise that is added to photographs, in [-1, 1]: the
    translator learns not to draw it. 0.05 for the compression of videos."""
    lambda_shift: NotNegative = 0.0
    """Weight of the distance between what is drawn of a shifted crop and the shifted drawing:
    steadiness in videos. Costs a quarter of a step."""

    def problems(self) -> list[str]:
        found = []
        if self.size_px % 32:
            found.append(f"size_px must be a multiple of 32, got {self.size_px}")
        if len(self.zoom) != 2 or self.zoom[0] > self.zoom[1]:
            found.append(f"zoom must be two numbers, small to large, got {list(self.zoom)}")
        if self.lr_end > self.lr:
            found.append("lr_end must not be larger than lr")
        if self.lambda_shift > 0 and self.size_px < 96:
            found.append(f"lambda_shift needs a size_px of at least 96, got {self.size_px}")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillRecipe(RecipeTable):
    """Stage `distill`: a translator learns from the pairs of a teacher."""

    teacher: Literal["headshot", "dualstylegan", "pairs"] = "headshot"
    """headshot: draws photographs of the base in the light, color and proportions of exemplars; no
    network. dualstylegan: the style that `style` names, on random people of its base. pairs: a
    folder of the data, `pairs_folder`, with `before` and `after`, drawn by any tool."""
    style: str = ""
    """With dualstylegan: name of a style in the store."""
    pairs_folder: str = ""
    """With pairs: folder under `data.root` that holds `before` and `after`, with the same names."""
    pairs: Count = 10_000
    """Pairs that the teacher is asked for. A bad one is thrown away."""
    exemplars: tuple[ExemplarSource, ...] = ()
    """With headshot: whose portraits are exemplars, and how each folder is drawn. Without an entry,
    all portraits of the style are."""
    phases: tuple[DistillPhase, ...] = ()
    """Resolutions, in the order they run."""
    edge_share: NotNegative = 0.5
    """Weight of horizontal and vertical differences in the pixel distance."""
    face_weight: Positive = 2.0
    """How much more the middle of an aligned crop counts than its corners."""
    feature_weight: Positive = 3.0
    """How much more eyes and mouth count, on top of that."""
    lr_discriminator: Positive = 4e-4
    """Learning rate of the discriminator."""
    r1_gamma: NotNegative = 0.2
    """Weight of the discriminator's gradient penalty."""
    r1_every: Count = 16
    """Steps between gradient penalties."""
    warmup_steps: Whole = 50
    """Steps over which a phase's learning rate rises."""
    ema_half_life_steps: Positive = 60.0
    """Steps after which half of the averaged weights is new."""
    max_grad_norm: NotNegative = 1.0
    """Gradients are scaled down to this norm; 0 never."""
    code_decay: NotNegative = 1e-3
    """Weight of the mean square of the codes, which keeps them near 0."""

    def problems(self) -> list[str]:
        found = []
        if not self.phases:
            found.append("phases must not be empty")
        if self.teacher == "headshot" and not self.exemplars:
            found.append("exemplars must not be empty with teacher = 'headshot'")
        if self.teacher == "dualstylegan" and not self.style:
            found.append("style must name a style with teacher = 'dualstylegan'")
        if self.teacher == "pairs" and not self.pairs_folder:
            found.append("pairs_folder must name a folder with teacher = 'pairs'")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerRecipe(RecipeTable):
    """Stage `sampler`: from noise to extrinsic codes, structure and color apart."""

    row_updates: Count = 500_000
    """Code rows seen in all; epochs are row_updates / rows."""
    rows: Count = 1000
    """Codes are repeated with jitter to about this many rows."""
    batch_size: Count = 128
    """Rows a step."""
    noise_dim: Count = 128
    """Width of the noise."""
    jitter: NotNegative = 0.05
    """Standard deviation of the noise on repeated codes."""
    lr: Positive = 1e-3
    """Learning rate; halved every `half_life_epochs`."""
    half_life_epochs: Count = 50
    """Epochs after which the learning rate is halved."""
    weight_decay: NotNegative = 1e-5
    """L2 penalty on weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateRecipe(RecipeTable):
    """Stage `evaluate`: how good the style is, in numbers."""

    samples: Annotated[int, Range(2, MAX_COUNT)] = 200
    """Portraits made for each figure. KID is unbiased from 50 on; FID wants thousands."""
    features: Literal["vgg16", "encoder"] = "encoder"
    """Network for KID and FID. vgg16 must be in the store; figures with the encoder's features
    compare runs of one base, nothing else. The name is part of the figures'."""
    batch_size: Count = 8
    """Portraits at once."""
