"""What every layout must do: recognise its own example and no other's, read it lazily, say how, and refuse what it cannot read."""

import json
from pathlib import Path

from vesalius.core.errors import UsageError, VesaliusError
from vesalius.data.case import files_of
from vesalius.data.dataset import Dataset
from vesalius.data.layouts import LAYOUTS, Layout, recognise
from vesalius.data.split import leaks
from vesalius.io import header


def example(name: str, folder: Path) -> Path:
    """The layout's own example, written into `folder`."""
    made = LAYOUTS[name]()
    assert isinstance(made, Layout), f"{name} is no Layout"
    made.example(folder)
    return folder


def opened(name: str, folder: Path) -> Dataset:
    """The folder as it is recognised; images without answers only where none are needed."""
    return recognise(folder, unlabelled=not LAYOUTS[name].answers)


def check_recognised_by_itself(name: str, folder: Path) -> None:
    """Nothing but the path is needed, and the words say which layout it was."""
    dataset = opened(name, example(name, folder))
    assert dataset.layout == name, f"the example of {name} was read as {dataset.layout}"
    assert any(name in note for note in dataset.notes)


def check_same_when_named(name: str, folder: Path) -> None:
    """`layout=` gives what recognition gives."""
    example(name, folder)
    assert recognise(folder, name).cases == opened(name, folder).cases


def check_complete(name: str, folder: Path) -> None:
    """Every case has a patient, images that can be read, a mask on the same grid or classes that are listed, and listed channels."""
    dataset = opened(name, example(name, folder))
    assert len({case.name for case in dataset.cases}) == len(dataset.cases) > 1
    assert bool(dataset.labels.names) == LAYOUTS[name].answers != dataset.alone
    assert dataset.task in (LAYOUTS.card(name).tasks or ("segment",)) and dataset.learnable == dataset.cases
    for case in dataset.cases:
        assert case.patient and set(case.images) <= set(dataset.channels)
        grids = [header(path).space for path in case.images.values() if path.is_absolute()]
        assert len(grids) == len(case.images) > 0
        if case.mask:
            assert all(grid.same_as(header(path).space) for grid in grids for path in files_of(case.mask))
        else:
            assert set(case.classes or {}) <= set(dataset.labels.names)
            assert dataset.alone or len(dataset.labels.coded(case.classes or {}))


def check_json(name: str, folder: Path) -> None:
    """The data set survives being written down."""
    dataset = opened(name, example(name, folder))
    assert Dataset.from_json(json.loads(json.dumps(dataset.to_json()))) == dataset


def check_no_leak(name: str, folder: Path) -> None:
    """The parts that the example gives share no patient."""
    dataset = opened(name, example(name, folder))
    assert not leaks(dataset.cases, {case.name: case.split for case in dataset.cases})


def check_refuses_nothing(name: str, folder: Path) -> None:
    """An empty folder is not recognised, and reading it anyway is a clear error."""
    assert not LAYOUTS[name]().recognises(folder)
    try:
        recognise(folder, name)
    except VesaliusError as problem:
        assert str(folder) in str(problem), f"the error does not name the folder: {problem}"
        return
    raise AssertionError("an empty folder was read")


def check_refuses_unknown_options(name: str, folder: Path) -> None:
    """A wrong option is an error, never ignored."""
    example(name, folder)
    try:
        recognise(folder, name, nonsense="1")
    except UsageError as problem:
        assert "nonsense" in str(problem)
        return
    raise AssertionError("an unknown option was ignored")


def check_says_what_it_needs(name: str, folder: Path) -> None:
    """The words for the error when nothing is recognised."""
    assert len(LAYOUTS[name]().needs) > 20 and folder.is_dir()


CHECKS = (
    check_recognised_by_itself, check_same_when_named, check_complete, check_json, check_no_leak, check_refuses_nothing,
    check_refuses_unknown_options, check_says_what_it_needs,
)  # fmt: skip
