"""Everything that inputs are drawn with: detector, segmentation and networks, loaded once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dsgcli.errors import DsgError, UsageError
from dsgcli.faces.align import looks_aligned
from dsgcli.faces.detect import FaceDetector, open_detector
from dsgcli.faces.masks import MaskKind, Segmenter, pick_kind
from dsgcli.faces.mediapipe_models import MULTICLASS_NAME, open_segmenter
from dsgcli.faces.smooth import DEFAULT_SMOOTH_S
from dsgcli.memory import require_memory
from dsgcli.portraits import STYLELESS_PRESETS
from dsgcli.progress import NULL_PROGRESS, Progress
from dsgcli.runtime import num_cpus, set_threads
from dsgcli.store import ModelStore
from dsgcli.stylize.backoff import Batches
from dsgcli.stylize.flow import Crew
from dsgcli.stylize.jobs import MANY_FRAMES
from dsgcli.stylize.output_styles import OutputStyle, StyleCache, encode_exemplar, make_casts
from dsgcli.stylize.paste import Paster
from dsgcli.stylize.refine import PictureLoss, find_perceptual
from dsgcli.stylize.summary import Stopwatch

if TYPE_CHECKING:
    from dsgcli.media.base import FrameSource, SourceInfo
    from dsgcli.pipeline import StylePipeline
    from dsgcli.stylize.jobs import Job
    from dsgcli.stylize.options import StylizeOptions

SMALL_PX, SMALL_BATCH, LARGE_BATCH = 512, 4, 2
"""On a CPU a batch saves a few percent and costs memory; portraits above this size go in twos."""

LEAST_HEAD_PX = 512
"""Hair of smaller portraits is too soft to stand in for a photograph's, and what is drawn beside it
shows: they replace the face alone, unless a mask is asked for."""

SMALL_WEIGHTS = 16_000_000
"""Weights of a generator and its encoder: below this, drawing a face takes no longer than finding
it, which has one thread anyway, and layers are so short that threads mostly wait for each other."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Studio:
    """Models that all inputs of a run share."""

    detector: FaceDetector
    segmenter: Segmenter | None
    mask: MaskKind
    """The kind of mask for portraits that redraw the head."""
    kept_mask: MaskKind
    """The kind of mask for portraits that keep the content of their crop."""
    casts: Sequence[OutputStyle]
    options: StylizeOptions
    clock: Stopwatch
    store: ModelStore
    batches: Batches = field(init=False)

    def __post_init__(self) -> None:
        largest = max(p.size_px for p in self.encoders)
        usual = SMALL_BATCH if largest <= SMALL_PX else LARGE_BATCH
        object.__setattr__(self, "batches", Batches(self.options.batch_size or usual))

    @property
    def encoders(self) -> list[StylePipeline]:
        """One for each encoder that the casts use, and one for all that need none."""
        found: dict[int, StylePipeline] = {}
        for cast in self.casts:
            for role in cast.roles:
                found.setdefault(id(role.portraits.encoder), role.portraits)
        return list(found.values())

    def face_rows(self, encoder: StylePipeline) -> int:
        """How many rows of its codes the casts draw with."""
        return max(
            role.portraits.face_rows(role.look)
            for cast in self.casts
            for role in cast.roles
            if role.portraits.encoder is encoder.encoder
        )

    def crew(self, job: Job, info: SourceInfo, *, aligned: bool) -> Crew:
        """Those who work on one input."""
        options, still = self.options, info.kind == "picture"
        moving = info.kind in ("animation", "video")
        self.expect(MANY_FRAMES if moving else job.num_pictures)
        smooth_s = DEFAULT_SMOOTH_S if options.smooth is None else options.smooth
        steps = options.refine if still else 0
        perceptual: PictureLoss | None = None
        if steps:
            perceptual = find_perceptual(self.store, self.encoders[0].device)
        return Crew(
            detector=self.detector,
            encoders=self.encoders,
            face_rows=[self.face_rows(portraits) for portraits in self.encoders],
            paster=Paster(
                mask=self.mask,
                kept_mask=self.kept_mask,
                segmenter=self.segmenter,
                blend=options.blend,
                color_match=options.match_color,
                alpha=options.alpha,
                crop=options.crop or aligned,
                compare=options.compare,
                size_px=[self._portrait_px(cast, info, aligned) for cast in self.casts],
            ),
            options=options,
            smooth_s=0.0 if still else smooth_s,
            refine_steps=steps,
            perceptual=perceptual,
            aligned=aligned,
            one_side=self._one_side(info, aligned) if moving else None,
            batches=self.batches,
            clock=self.clock,
            source=str(job.source.path),
            still=still,
        )

    def _one_side(self, info: SourceInfo, aligned: bool) -> float | None:
        """Side of a face by which the size of all portraits of a moving input is chosen, if they
        are its frames and must be of one size: faces in a large picture are taken to be large."""
        if aligned:
            return float(min(info.size_px))
        return float(min(info.size_px)) / 2 if self.options.crop else None

    @property
    def machine(self) -> dict[str, str]:
        """Device, precision and so on, as chosen: for the summary."""
        portraits = self.casts[0].role.portraits
        return {
            "device": str(portraits.device),
            "precision": str(portraits.dtype).removeprefix("torch."),
            "backend": portraits.backend_name,
            "detector": self.detector.name,
            "mask": self.kept_mask if portraits.keeps_content else self.mask,
            "cpus": str(num_cpus()),
        }

    def _portrait_px(self, cast: OutputStyle, info: SourceInfo, aligned: bool) -> int:
        """Side of a cast's portraits where a frame is cut that has no face to choose by."""
        side, pipeline = self._one_side(info, aligned), cast.role.portraits
        if pipeline.encoder is not None or side is None:
            return pipeline.size_px
        return pipeline.crop_size(side)

    @property
    def is_small(self) -> bool:
        """Whether all networks are so small that one thread draws best."""
        everyone = {role.portraits for cast in self.casts for role in cast.roles}
        return max(portraits.num_weights for portraits in everyone) < SMALL_WEIGHTS

    def expect(self, num_pictures: int) -> None:
        """Say how many pictures are to come, see `Portraits.expect`."""
        for role in (role for cast in self.casts for role in cast.roles):
            role.portraits.expect(num_pictures)

    def is_aligned(self, source: FrameSource) -> bool:
        """Whether an input is an FFHQ crop already: by the option, or by its first frame."""
        if self.options.aligned != "auto":
            return self.options.aligned == "yes"
        width, height = source.info.size_px
        if width != height:
            return False
        first = next(iter(source), None)
        if first is None:
            return False
        return looks_aligned(first, self.detector.detect(first, effort="glance"))


@contextmanager
def open_studio(
    options: StylizeOptions, progress: Progress = NULL_PROGRESS, clock: Stopwatch | None = None
) -> Iterator[Studio]:
    """Everything that inputs are drawn with, loaded once and closed in the end. The detector is
    imported and opened while the networks are read.

    Args:
        clock: counts the stages; None makes one.

    Raises:
        UsageError, ModelError: something that is not there, or does not fit.
    """
    store, clock = ModelStore.open(options.pretrained), clock or Stopwatch()
    with ThreadPoolExecutor(1) as beside, ExitStack() as stack:
        opening = beside.submit(_finders, options, store, stack)
        with clock.stage("load"):
            casts = _casts(store, options, lambda: opening.result()[0], progress)
        detector, segmenter, mask = opening.result()
        require_memory()
        yield Studio(
            detector=detector,
            segmenter=segmenter,
            mask=mask,
            kept_mask=_kept_mask(options, mask, segmenter),
            casts=casts,
            options=options,
            clock=clock,
            store=store,
        )


@contextmanager
def fitting_threads(studio: Studio) -> Iterator[None]:
    """One thread for small networks, unless OMP_NUM_THREADS says how many."""
    before = set_threads(None)
    if studio.is_small and "OMP_NUM_THREADS" not in os.environ:
        set_threads(1)
    try:
        yield
    finally:
        set_threads(before)


def _finders(
    options: StylizeOptions, store: ModelStore, stack: ExitStack
) -> tuple[FaceDetector, Segmenter | None, MaskKind]:
    """Detector, segmentation if a mask needs it, and the kind of mask."""
    detector = open_detector(task_file=store.face_landmarker())
    stack.callback(detector.close)
    segmenter, mask = _segmentation(options, store)
    if segmenter is not None:
        stack.callback(segmenter.close)
    return detector, segmenter, mask


def _segmentation(options: StylizeOptions, store: ModelStore) -> tuple[Segmenter | None, MaskKind]:
    """The segmentation model, if a mask needs one, and the kind of mask."""
    if options.mask in ("feather", "face") or (options.crop and not options.alpha):
        return None, "feather" if options.mask == "auto" else options.mask
    if options.mask == "auto" and not options.alpha and _drawn_px(options, store) < LEAST_HEAD_PX:
        return None, "face"
    segmenter = open_segmenter(store.file(MULTICLASS_NAME))
    return segmenter, pick_kind(options.mask, segmenter)


def _kept_mask(options: StylizeOptions, mask: MaskKind, segmenter: Segmenter | None) -> MaskKind:
    """The person, as far as the square reaches: the less ends at a neck, the less shows; but a
    cut-out is a head's."""
    if options.mask != "auto" or options.alpha:
        return mask
    return "feather" if segmenter is None else "person"


def _drawn_px(options: StylizeOptions, store: ModelStore) -> int:
    """Side of the first style's portraits, for which a translator's, which are as sharp as the
    photograph, count as large; a missing style is reported when it is loaded."""
    with suppress(DsgError):
        info = store.info(store.parse(options.style[0]).style)
        layout = info.layout
        if layout is not None and not info.of_translator:
            return min(layout.size_px, options.size or layout.size_px)
    return LEAST_HEAD_PX


def _casts(
    store: ModelStore,
    options: StylizeOptions,
    detector: Callable[[], FaceDetector],
    progress: Progress,
) -> list[OutputStyle]:
    """Map faces to styles; a picture given as exemplar is encoded here, and refined on request."""
    wardrobe = StyleCache(store, options)
    if options.preset not in (None, *STYLELESS_PRESETS):
        others = [name for name in map(wardrobe.style_of, options.style) if name != options.preset]
        if others:
            progress.note(
                f"--preset {options.preset} has the published weights of the style "
                f"{options.preset}; {', '.join(others)} is drawn with them, too"
            )
    if options.exemplar is None:
        return make_casts(wardrobe, options.style, options.face_style)
    if len(options.style) > 1 or options.face_style:
        raise UsageError("--exemplar with a picture takes one --style, and no --face-style")
    name = wardrobe.style_of(options.style[0])
    code = encode_exemplar(
        options.exemplar, name, wardrobe.portraits(name), store, options, detector(), progress
    )
    label = f"{name}-{options.exemplar.stem}"
    role, _ = wardrobe.role(options.style[0], exstyle=code, label=label)
    return [OutputStyle(label=label, reference=f"{name} after {options.exemplar.name}", role=role)]
