"""What every phantom must do: the same patient for the same seed at every resolution, an exact truth, and a cohort without leaks."""

import csv
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vesalius.core.errors import UsageError
from vesalius.core.files import plain, read_json
from vesalius.io import load
from vesalius.phantoms import PHANTOMS, Phantom, Sample
from vesalius.phantoms._cohort import Visit, files_of, schedule, write_cohort


@cache
def sample(name: str, *, seed: int = 3, factor: float = 1.0, visit: int = 0, site: int = 0) -> Sample:
    """A scan whose sides are `factor` times the smallest that show everything; made once."""
    phantom: Phantom = PHANTOMS[name]()
    shape = [max(4, round(side * factor)) for side in phantom.shape]
    return phantom.sample(shape, seed=seed, site=phantom.sites[site], visit=visit)


def sizes(name: str, made: Sample) -> dict[str, float]:
    """Millilitres or square centimetres of every label."""
    what, unit, _ = PHANTOMS[name]().measure
    found: dict[str, float] = made["facts"][f"{what}_{unit}"]
    return found


def check_form(name: str) -> None:
    """Images (C, *S) of whole numbers that fit 16 bits, truth (*S) with known values only, facts that JSON can hold."""
    phantom, made = PHANTOMS[name](), sample(name)
    images, labels = made["images"], made["labels"]
    assert images.dtype == np.float32 and labels.dtype == np.uint8
    assert images.shape == (len(phantom.channels), *labels.shape) and labels.shape == made["space"].shape == tuple(phantom.shape)
    assert np.isfinite(images).all() and (images == np.rint(images)).all() and images.min() >= 0 and images.max() < 2**15
    assert all(image.std() > 1 for image in images)
    assert set(np.unique(labels)) <= {0, *phantom.labels.values()}
    assert plain(made["facts"]) == made["facts"]


def check_seed(name: str) -> None:
    """The same seed gives the same scan; another gives another."""
    phantom, made, other = PHANTOMS[name](), sample(name), sample(name, seed=4)
    again = phantom.sample(phantom.shape, seed=3, site=phantom.sites[0])
    assert (again["images"] == made["images"]).all() and (again["labels"] == made["labels"]).all()
    assert again["space"].same_as(made["space"]) and again["facts"] == made["facts"]
    assert (other["images"] != made["images"]).any() and other["facts"] != made["facts"]


def diseased(name: str) -> int:
    """A seed whose truth is not empty: 3, or the first after it."""
    return next(seed for seed in range(3, 20) if sample(name, seed=seed)["labels"].any())


def check_classes(name: str) -> None:
    """Where there are classes: equal shares whatever the seed, at every site alike, known to the facts, all of them in every part."""
    phantom: Phantom = PHANTOMS[name]()
    if not phantom.classes:
        return
    kinds = [phantom.class_of(seed) for seed in range(48)]
    assert all(kinds.count(kind) == 48 / len(phantom.classes) for kind in phantom.classes)
    assert all(sample(name, seed=seed)["facts"]["class"] == kinds[seed] for seed in range(3, 7))
    visits = schedule(phantom, 40 * len(phantom.classes), seed=1)
    for part in ("train", "val", "test"):
        counts = [len({v.patient for v in visits if v.split == part and phantom.class_of(v.seed) == kind}) for kind in phantom.classes]
        assert min(counts) > 0 and max(counts) - min(counts) <= max(3, 0.2 * max(counts)), counts
    for site in phantom.sites:
        assert {phantom.class_of(v.seed) for v in visits if v.site == site} == set(phantom.classes)


def check_truth(name: str) -> None:
    """Stated sizes are those of the labels; regions are unions of labels that exist."""
    phantom, made = PHANTOMS[name](), sample(name)
    _, unit, number = phantom.measure
    voxel = made["space"].voxel_volume / number
    for label, value in phantom.labels.items():
        assert np.isclose(sizes(name, made)[label], (made["labels"] == value).sum() * voxel, rtol=1e-9)
    for region, values in phantom.regions.items():
        assert set(values) <= set(phantom.labels.values())
        assert np.isclose(made["facts"][f"regions_{unit}"][region], np.isin(made["labels"], values).sum() * voxel, rtol=1e-9)


def check_resolution(name: str) -> None:
    """The same patient on a finer grid has the same sizes, to a twentieth of the whole."""
    coarse, fine = (sizes(name, sample(name, seed=diseased(name), factor=f)) for f in (1.0, 1.3))
    total = sum(fine.values())
    assert total > 0 and all(abs(coarse[label] - fine[label]) <= 0.05 * total for label in fine), (coarse, fine)


def check_visit(name: str) -> None:
    """A later visit is another scan of a patient whose disease has changed."""
    seed = diseased(name)
    first, later = sample(name, seed=seed), sample(name, seed=seed, visit=1)
    assert (first["images"] != later["images"]).any()
    assert sizes(name, first) != sizes(name, later)
    assert first["facts"].get("class") == later["facts"].get("class")


def check_refusal(name: str) -> None:
    """Nonsense is refused with a word."""
    phantom: Phantom = PHANTOMS[name]()
    where, shape = phantom.sites[0], phantom.shape
    tries: dict[str, Callable[[], Sample]] = {
        "one side": lambda: phantom.sample((8,), seed=0, site=where),
        "an empty side": lambda: phantom.sample((0, *shape[1:]), seed=0, site=where),
        "an unknown site": lambda: phantom.sample(shape, seed=0, site="nowhere"),
        "a negative spacing": lambda: phantom.sample(shape, seed=0, site=where, spacing=(1.0, -1.0, 1.0)[: len(shape)]),
    }
    for what, attempt in tries.items():
        try:
            attempt()
        except UsageError:
            continue
        raise AssertionError(f"{what} was not refused")


def check_schedule(name: str) -> None:
    """Cohorts of any number: patients on one side only, every part filled, every site used, the same for the same seed."""
    phantom: Phantom = PHANTOMS[name]()
    for cases in (1, 2, 5, 24, 60):
        visits = schedule(phantom, cases, seed=1)
        assert len(visits) == cases == len({v.case for v in visits}) and visits == schedule(phantom, cases, seed=1)
        assert all(len({v.split for v in visits if v.patient == p}) == 1 for p in {v.patient for v in visits})
        assert len({v.seed for v in visits}) == len({v.patient for v in visits})
    assert {v.split for v in visits} == {"train", "val", "test"} and {v.site for v in visits} == set(phantom.sites)
    assert {v.visit for v in visits} == {0, 1}
    assert not {v.seed for v in visits} & {v.seed for v in schedule(phantom, 60, seed=2)}


def check_cohort(name: str) -> None:
    """A folder that says what is in it; what is there already is not touched."""
    phantom: Phantom = PHANTOMS[name]()
    told: list[float] = []
    with TemporaryDirectory() as place:
        folder = Path(place) / "cohort"
        shape = [max(4, side // 2) for side in phantom.shape]
        write_cohort(phantom, folder, cases=2, shape=shape, seed=5, progress=lambda done, total, case: told.append(done))
        assert told == [1, 2] and sorted(p.name for p in Path(place).iterdir()) == ["cohort"]
        rows = list(csv.DictReader((folder / "cases.csv").read_text(encoding="utf-8").splitlines()))
        assert sorted(row["case"] for row in rows) == sorted(read_json(folder / "facts.json")) and len(rows) == 2
        if not phantom.classes:
            check_dataset_words(phantom, folder, rows)
        for row, visit in zip(rows, schedule(phantom, 2, seed=5), strict=True):
            check_row(phantom, folder, row, visit=visit)
        before = (folder / "cases.csv").read_bytes()
        try:
            write_cohort(phantom, folder, cases=1, shape=shape, seed=5)
        except UsageError:
            assert (folder / "cases.csv").read_bytes() == before
        else:
            raise AssertionError("a folder that is not empty was written to")


def check_dataset_words(phantom: Phantom, folder: Path, rows: list[dict[str, str]]) -> None:
    """dataset.json in nnU-Net's words says the same as cases.csv."""
    words = read_json(folder / "dataset.json")
    assert words["numTraining"] == len(rows) and list(words["channel_names"].values()) == list(phantom.channels)
    assert words["patients"] == {row["case"]: row["patient"] for row in rows}
    assert sorted(case for part in words["splits"].values() for case in part) == sorted(words["patients"])


def check_row(phantom: Phantom, folder: Path, row: dict[str, str], *, visit: Visit) -> None:
    """The files of a case lie on one grid; its class, its split and the sizes of its truth are as the table says."""
    images, truth = files_of(phantom, visit)
    labels = load(folder / truth)
    assert all(load(folder / image).space.same_as(labels.space) for image in images)
    if phantom.classes:
        assert row["class"] == phantom.class_of(visit.seed) and row["truth"] == truth
        assert [row[column] for column in row if column.partition("_")[0] == "image"] == images
    assert (row["patient"], row["split"], row["site"]) == (visit.patient, visit.split, visit.site)
    what, unit, number = phantom.measure
    known = read_json(folder / "facts.json")[visit.case][f"{what}_{unit}"]
    for label, value in phantom.labels.items():
        stated = known[label] if phantom.classes else float(row[f"{label}_{unit}"])
        assert abs(stated - (labels.array == value).sum() * labels.space.voxel_volume / number) < 2e-3


CHECKS: tuple[Callable[[str], None], ...] = (
    check_form, check_seed, check_classes, check_truth, check_resolution, check_visit, check_refusal, check_schedule, check_cohort,
)  # fmt: skip


def check_phantom(name: str) -> None:
    """Run every check on the entry `name` of the shelf."""
    for check in CHECKS:
        check(name)
