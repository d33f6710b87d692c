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
from vesalius.phantoms._cohort import schedule, write_cohort


@cache
def sample(name: str, *, seed: int = 3, factor: float = 1.0, visit: int = 0, site: int = 0) -> Sample:
    """A scan whose sides are `factor` times the smallest that show everything; made once."""
    phantom: Phantom = PHANTOMS[name]()
    shape = [max(4, round(side * factor)) for side in phantom.shape]
    return phantom.sample(shape, seed=seed, site=phantom.sites[site], visit=visit)


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


def check_truth(name: str) -> None:
    """Stated volumes are those of the labels; regions are unions of labels that exist."""
    phantom, made = PHANTOMS[name](), sample(name)
    voxel = made["space"].voxel_volume / 1e3
    for label, value in phantom.labels.items():
        assert np.isclose(made["facts"]["volumes_ml"][label], (made["labels"] == value).sum() * voxel, rtol=1e-9)
    for region, values in phantom.regions.items():
        assert set(values) <= set(phantom.labels.values())
        assert np.isclose(made["facts"]["regions_ml"][region], np.isin(made["labels"], values).sum() * voxel, rtol=1e-9)


def check_resolution(name: str) -> None:
    """The same patient on a finer grid has the same volumes, to a twentieth of the whole."""
    coarse, fine = (sample(name, factor=f)["facts"]["volumes_ml"] for f in (1.0, 1.3))
    total = sum(fine.values())
    assert all(abs(coarse[label] - fine[label]) <= 0.05 * total for label in fine), (coarse, fine)


def check_visit(name: str) -> None:
    """A later visit is another scan of a patient whose disease has changed."""
    first, later = sample(name), sample(name, visit=1)
    assert (first["images"] != later["images"]).any()
    assert first["facts"]["volumes_ml"] != later["facts"]["volumes_ml"]


def check_refusal(name: str) -> None:
    """Nonsense is refused with a word."""
    phantom: Phantom = PHANTOMS[name]()
    where, shape = phantom.sites[0], phantom.shape
    tries: dict[str, Callable[[], Sample]] = {
        "one side": lambda: phantom.sample((8,), seed=0, site=where),
        "an empty side": lambda: phantom.sample((0, 8, 8), seed=0, site=where),
        "an unknown site": lambda: phantom.sample(shape, seed=0, site="nowhere"),
        "a negative spacing": lambda: phantom.sample(shape, seed=0, site=where, spacing=(1.0, -1.0, 1.0)),
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
    """A folder in the layout of nnU-Net that says what is in it; what is there already is not touched."""
    phantom: Phantom = PHANTOMS[name]()
    told: list[float] = []
    with TemporaryDirectory() as place:
        folder = Path(place) / "cohort"
        shape = [max(4, side // 2) for side in phantom.shape]
        write_cohort(phantom, folder, cases=2, shape=shape, seed=5, progress=lambda done, total, case: told.append(done))
        words, facts = read_json(folder / "dataset.json"), read_json(folder / "facts.json")
        assert told == [1, 2] and words["numTraining"] == 2 and sorted(p.name for p in Path(place).iterdir()) == ["cohort"]
        assert list(words["channel_names"].values()) == list(phantom.channels)
        assert sorted(case for part in words["splits"].values() for case in part) == sorted(words["patients"]) == sorted(facts)
        rows = list(csv.DictReader((folder / "cases.csv").read_text(encoding="utf-8").splitlines()))
        for row in rows:
            labels = load(folder / "labelsTr" / f"{row['case']}.nii.gz")
            images = [load(folder / "imagesTr" / f"{row['case']}_{k:04d}.nii.gz") for k in range(len(phantom.channels))]
            assert all(image.space.same_as(labels.space) for image in images) and words["patients"][row["case"]] == row["patient"]
            for label, value in phantom.labels.items():
                stated = float(row[f"{label}_ml"])
                assert abs(stated - (labels.array == value).sum() * labels.space.voxel_volume / 1e3) < 2e-3
        before = (folder / "dataset.json").read_bytes()
        try:
            write_cohort(phantom, folder, cases=1, shape=shape, seed=5)
        except UsageError:
            assert (folder / "dataset.json").read_bytes() == before
        else:
            raise AssertionError("a folder that is not empty was written to")


CHECKS: tuple[Callable[[str], None], ...] = (
    check_form, check_seed, check_truth, check_resolution, check_visit, check_refusal, check_schedule, check_cohort,
)  # fmt: skip


def check_phantom(name: str) -> None:
    """Run every check on the entry `name` of the shelf."""
    for check in CHECKS:
        check(name)
