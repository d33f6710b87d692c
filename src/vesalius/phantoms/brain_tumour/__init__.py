"""Heads with tumours in multi-sequence MRI (T1, T1 with contrast agent, T2, FLAIR), built from anatomy, with exact truth.

Folded cortex, deep nuclei, ventricles, skull, face and vessels are continuous shapes in millimetres; a tumour grows in them
along white matter and pushes them aside; tissues give signals by the equations of the sequences; coil, slices and noise follow.
Labels: 1 necrotic or non-enhancing core, 2 oedema, 3 enhancing. Regions as in BraTS (Menze et al., IEEE Trans Med Imaging
34:1993, 2015): whole tumour 1 + 2 + 3, tumour core 1 + 3, enhancing tumour 3.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from vesalius.core.card import Card
from vesalius.core.errors import UsageError, suggest
from vesalius.core.space import Array, Space
from vesalius.phantoms import Phantom, Sample
from vesalius.phantoms._cohort import Progress
from vesalius.phantoms._cohort import write_cohort as _write_cohort
from vesalius.phantoms.brain_tumour.growth import Lesion, draw_lesion, grow
from vesalius.phantoms.brain_tumour.head import EXTENT, draw_head, draw_pose
from vesalius.phantoms.brain_tumour.regions import LABELS, REGIONS
from vesalius.phantoms.brain_tumour.render import Scene, render
from vesalius.phantoms.brain_tumour.scan import SITES, Protocol, Site, acquire, grid
from vesalius.phantoms.brain_tumour.tissues import signal_table

CARD = Card(entry="BrainTumour", title="Brain tumour MRI",
            summary="Heads with tumours in T1, T1 with contrast agent, T2 and FLAIR, from four sites",
            paper="Growth: Swanson et al. 2000, Cell Prolif 33:317. Tissues: Kwan et al. 1999, IEEE Trans Med Imaging 18:1085",
            tasks=("segment",), ndim=(3,), tags=("mr", "brain", "tumour"))  # fmt: skip
SEQUENCES = ("T1", "T1c", "T2", "FLAIR")
SMALL = (56, 72, 60)  # about 3 mm: enough to show the parts of a tumour

__all__ = ["CARD", "LABELS", "REGIONS", "SEQUENCES", "SITES", "BrainTumour", "Lesion", "Protocol", "Site", "generate", "write_cohort"]


def generate(
    shape: Sequence[int] = (96, 112, 96),
    spacing: Sequence[float] | None = None,
    *,
    seed: int,
    sequences: Sequence[str] = SEQUENCES,
    site: Site | str | None = None,
    lesion: Lesion | None = None,
    visit: int = 0,
) -> Sample:
    """One scan of patient `seed`: "images" (len(sequences), *shape) float32, "labels" (*shape) uint8, "space", "facts".

    The same seed is the same head and tumour at every `shape` and `spacing` (mm; None: isotropic, so that the head fits); a long
    spacing along the last axis gives thick slices. `site` is one of SITES, its name, or your own (None: by the seed).
    `lesion` None is drawn; one with volume 0 is a healthy head. Later visits have the same tumour, grown or shrunk.
    """
    sides, steps = _checked(shape, spacing)
    place = _site(site, seed)
    table = signal_table([(place.protocol(s).signal, place.protocol(s).enhanced) for s in sequences], place.field)
    head = draw_head(_stream(seed, 0))
    wanted = (lesion or draw_lesion(_stream(seed, 1), head)).at_visit(visit, _stream(seed, 2, visit))
    tumour = grow(_stream(seed, 3), head, wanted) if wanted.volume else None
    scanner = _stream(seed, 4, visit)
    pose, space = draw_pose(scanner), grid(sides, steps, site=place, generator=scanner)
    signals, parts = render(Scene(head, tumour, pose, table), space)
    labels = np.where(parts.sum(0) >= 0.5, parts.argmax(0) + 1, 0).astype(np.uint8)
    images = np.rint(acquire(signals, space, site=place, sequences=tuple(sequences), generator=scanner)).clip(0, 32767)
    facts = _facts(labels, parts, space) | {
        "seed": seed, "visit": visit, "sequences": list(sequences), "lesion": wanted.model_dump(mode="json"),
        "site": place.name, "field": place.field, "protocols": {s: place.protocol(s).model_dump(mode="json") for s in sequences},
        "atrophy": head.atrophy, "metadata": {"field": place.field, "kind": wanted.kind if wanted.volume else "none"},
    }  # fmt: skip
    return {"images": images, "labels": labels, "space": space, "facts": facts}


def write_cohort(folder: Path | str, *, cases: int = 24, shape: Sequence[int] = SMALL, seed: int = 0,
                 sequences: Sequence[str] = SEQUENCES, workers: int | None = None, progress: Progress | None = None) -> Path:  # fmt: skip
    """Write `cases` scans of fewer patients from four sites to `folder`, split by patient; see vesalius.phantoms._cohort."""
    return _write_cohort(BrainTumour(sequences), Path(folder), cases=cases, shape=shape, seed=seed, workers=workers, progress=progress)


@final
class BrainTumour(Phantom):
    """The entry on the shelf: `generate` with a site for every scan; `healthy` is the share of patients who have no tumour."""

    title = "Synthetic brain tumours in multi-sequence MRI"
    labels = LABELS
    regions = REGIONS
    sites = tuple(site.name for site in SITES)
    shape = SMALL
    extent = EXTENT

    def __init__(self, sequences: Sequence[str] = SEQUENCES, healthy: float = 0.0) -> None:
        if not 0 <= healthy <= 1:
            raise UsageError(f"The share of healthy heads is from 0 to 1; got {healthy}.")
        self.channels, self.healthy = tuple(sequences), healthy

    def sample(self, shape: Sequence[int], *, seed: int, spacing: Sequence[float] | None = None, site: str, visit: int = 0) -> Sample:
        lesion = None if _stream(seed, 5).random() >= self.healthy else _nothing(seed)
        return generate(shape, spacing, seed=seed, sequences=self.channels, site=site, lesion=lesion, visit=visit)


def _stream(*words: int) -> np.random.Generator:
    """One generator per purpose, so that a change in how one thing is drawn leaves the others alone."""
    return np.random.default_rng(words)


def _nothing(seed: int) -> Lesion:
    """The lesion of patient `seed`, without any volume."""
    return draw_lesion(_stream(seed, 1), draw_head(_stream(seed, 0))).model_copy(update={"volume": 0.0})


def _checked(shape: Sequence[int], spacing: Sequence[float] | None) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    if len(shape) != 3 or min(shape) < 4:
        raise UsageError(f"A head needs three sides of at least 4 voxels; got shape {tuple(shape)}.")
    if spacing is None:
        spacing = (max(length / side for length, side in zip(EXTENT, shape, strict=True)),) * 3
    if len(spacing) != 3 or min(spacing) <= 0:
        raise UsageError(f"Expected three spacings in millimetres, each above 0; got {tuple(spacing)}.")
    return (int(shape[0]), int(shape[1]), int(shape[2])), (float(spacing[0]), float(spacing[1]), float(spacing[2]))


def _site(site: Site | str | None, seed: int) -> Site:
    if isinstance(site, Site):
        return site
    if site is None:
        return SITES[seed % len(SITES)]
    known = {place.name: place for place in SITES}
    if site not in known:
        raise UsageError(suggest(site, known, "site"))
    return known[site]


def _facts(labels: Array, parts: Array, space: Space) -> dict[str, Any]:
    """Millilitres: of the labels as they are stored, and of the continuous shapes before they were cut into voxels."""
    counts = np.bincount(labels.ravel(), minlength=len(LABELS) + 1) * (space.voxel_volume / 1e3)
    exact = parts.sum((1, 2, 3), dtype=np.float64) * (space.voxel_volume / 1e3)
    return {
        "volumes_ml": {name: float(counts[value]) for name, value in LABELS.items()},
        "regions_ml": {name: float(sum(counts[v] for v in values)) for name, values in REGIONS.items()},
        "continuous_ml": {name: float(exact[value - 1]) for name, value in LABELS.items()},
    }
