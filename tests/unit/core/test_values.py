"""Values of the standard library: what pydantic makes of the same types is what they make, and what it refuses they refuse."""

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import ValidationError

from vesalius.core.errors import UsageError
from vesalius.core.settings import Settings, text_of
from vesalius.core.values import Values, Wrong, defaults, types_of
from vesalius.data.labels import Labels
from vesalius.data.normalise import Normalise
from vesalius.data.prepare import Preparation


@dataclass(frozen=True, kw_only=True)
class Leaf(Values):
    name: str
    share: float = 0.5
    sides: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tree(Values):
    kind: Literal["oak", "elm", 3]
    leaves: tuple[Leaf, ...] = ()
    first: Leaf | None = None
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    nested: tuple[tuple[int, ...], ...] = ()
    free: Any = None
    notes: tuple[dict[str, Any] | None, ...] = ()
    old: bool = False

    def check(self) -> None:
        if self.old and self.kind == "elm":
            raise ValueError("elms do not grow old")


class LeafOfPydantic(Settings):
    """The same, by the second implementation."""

    name: str
    share: float = 0.5
    sides: tuple[int, ...] = ()


class TreeOfPydantic(Settings):
    """The same, by the second implementation; without what its values must not be together."""

    kind: Literal["oak", "elm", 3]
    leaves: tuple[LeafOfPydantic, ...] = ()
    first: LeafOfPydantic | None = None
    colours: dict[int, tuple[int, int, int]] = {}
    rates: dict[str, float] = {}
    nested: tuple[tuple[int, ...], ...] = ()
    free: Any = None
    notes: tuple[dict[str, Any] | None, ...] = ()
    old: bool = False


class Wood(Settings):
    """Values within settings."""

    tree: Tree
    area: float = 1.0


GOOD = [
    {"kind": "oak"},
    {"kind": 3, "old": True},
    {"kind": "elm", "leaves": [{"name": "a"}, {"name": "b", "share": 1, "sides": [1, 2]}]},
    {"kind": "oak", "first": {"name": "", "share": -1e300}},
    {"kind": "oak", "first": None, "free": {"a": [1, {"b": None}]}},
    {"kind": "oak", "colours": {"1": [1, 2, 3], "-7": [0, 0, 0]}, "rates": {"x": 2, "y": 0.25}},
    {"kind": "oak", "colours": {4: (1, 2, 3)}},
    {"kind": "oak", "nested": [[], [1], (2, 3)], "notes": [None, {"a": [1.5]}]},
    {"kind": "oak", "nested": [[2.0, 10**30, -(2**63)]]},
    {"kind": "oak", "rates": {"inf": float("inf")}},
    {"kind": "oak", "rates": {"x": np.float32(0.5), "y": np.int64(3)}, "nested": [[np.int16(5)]]},
]
BAD = [  # (tree, the place and words that are told)
    ({}, "kind: is missing"),
    ({"kind": "ash"}, r"kind: expected 'oak' or 'elm' or 3 \(got 'ash'\)"),
    ({"kind": 3.5}, "kind: expected"),
    ({"kind": ["oak"]}, "kind: expected"),
    ({"kind": None}, "kind: expected"),
    ({"kind": "oak", "leafs": []}, "leafs: Unknown setting 'leafs'. Did you mean leaves"),
    ({"kind": "oak", "leaves": "ab"}, r"leaves: expected a list \(got 'ab'\)"),
    ({"kind": "oak", "leaves": {"0": {"name": "a"}}}, "leaves: expected a list"),
    ({"kind": "oak", "leaves": [{"name": "a"}, {"name": 3}]}, r"leaves\.1\.name: expected a text \(got 3\)"),
    ({"kind": "oak", "leaves": [{"name": "a", "shape": 3}]}, r"leaves\.0\.shape: Unknown setting 'shape'. Did you mean share"),
    ({"kind": "oak", "leaves": [{"name": None}, {}]}, r"leaves\.0\.name: expected a text \(got None\); leaves\.1\.name: is missing"),
    ({"kind": "oak", "first": []}, "first: expected Leaf by words: name, share, sides"),
    ({"kind": "oak", "first": {"name": "a", "share": None}}, r"first\.share: expected a number"),
    ({"kind": "oak", "first": {"name": "a", "share": [1]}}, r"first\.share: expected a number"),
    ({"kind": "oak", "first": {"name": "a", "share": 10**400}}, r"first\.share: expected a number"),
    ({"kind": "oak", "first": {"name": "a", "sides": [1.5]}}, r"first\.sides\.0: expected a whole number \(got 1\.5\)"),
    ({"kind": "oak", "first": {"name": "a", "sides": [float("nan")]}}, r"first\.sides\.0: expected a whole number"),
    ({"kind": "oak", "first": {"name": "a", "sides": [float("inf")]}}, r"first\.sides\.0: expected a whole number"),
    ({"kind": "oak", "first": {"name": "a", "sides": [None]}}, r"first\.sides\.0: expected a whole number"),
    ({"kind": "oak", "first": {"name": "a", "sides": 3}}, r"first\.sides: expected a list"),
    ({"kind": "oak", "colours": {"one": [1, 2, 3]}}, r"colours\.one: expected a whole number"),
    ({"kind": "oak", "colours": {"1": [1, 2]}}, r"colours\.1: expected 3 values"),
    ({"kind": "oak", "colours": {"1": [1, 2, 3, 4]}}, r"colours\.1: expected 3 values"),
    ({"kind": "oak", "colours": []}, "colours: expected values by their names"),
    ({"kind": "oak", "rates": {"x": "fast"}}, r"rates\.x: expected a number \(got 'fast'\)"),
    ({"kind": "oak", "rates": {3: 1.0}}, r"rates\.3: expected a text"),
    ({"kind": "oak", "nested": [[1], 2]}, r"nested\.1: expected a list"),
    ({"kind": "oak", "notes": ["x"]}, r"notes\.0: expected values by their names"),
    ({"kind": "oak", "old": "perhaps"}, r"old: expected true or false \(got 'perhaps'\)"),
    ({"kind": "oak", "old": 2}, "old: expected true or false"),
    ([], "expected Tree by words"),
    (None, "expected Tree by words"),
]
STRICTER = [  # what pydantic takes for what it might mean, and we do not
    {"kind": 3.0},
    {"kind": "oak", "nested": [["3"]]},
    {"kind": "oak", "nested": [[True]]},
    {"kind": "oak", "rates": {"x": "0.5"}},
    {"kind": "oak", "rates": {"x": True}},
    {"kind": "oak", "old": 1},
    {"kind": "oak", "old": "yes"},
]


@pytest.mark.parametrize("tree", GOOD)
def test_what_is_good_is_what_pydantic_makes_of_it(tree):
    made, wanted = Tree.checked(tree), TreeOfPydantic.model_validate(tree)
    assert repr(asdict(made)) == repr(wanted.model_dump())  # which tells 1 from 1.0, and a list from a tuple
    assert repr(made) == repr(wanted).replace("OfPydantic", "") and Tree(**tree) == made


@pytest.mark.parametrize(("tree", "says"), BAD)
def test_what_is_wrong_is_refused_by_its_place_as_pydantic_does(tree, says):
    with pytest.raises(ValidationError):
        TreeOfPydantic.model_validate(tree)
    with pytest.raises(UsageError, match=f"^In a file: .*{says}"):
        Tree.checked(tree, where="a file")


@pytest.mark.parametrize("tree", STRICTER)
def test_texts_and_truth_are_no_numbers(tree):
    TreeOfPydantic.model_validate(tree)
    with pytest.raises(UsageError):
        Tree.checked(tree)


@pytest.mark.parametrize("tree", [tree for tree, _ in BAD if isinstance(tree, dict)])
def test_in_python_it_is_refused_too(tree):
    with pytest.raises((ValueError, TypeError)):  # TypeError of a word that is missing or unknown, as of any function
        Tree(**tree)


def test_what_does_not_suit_each_other_is_refused():
    with pytest.raises(UsageError, match=r"^In settings: elms do not grow old$"):
        Tree.checked({"kind": "elm", "old": True})


def test_values_that_are_made_already_are_taken_as_they_are():
    leaf = Leaf(name="a", sides=[1])
    assert Tree.checked({"kind": "oak", "leaves": [leaf]}).leaves[0] is leaf and leaf.sides == (1,)


def test_all_problems_are_told_at_once():
    tree = {"kind": "oak", "leaves": [{"name": "a", "sides": [1, "b"]}, {"name": 2}], "rates": {"x": []}, "old": None}
    with pytest.raises(UsageError, match=r"^In it: leaves\.0\.sides\.1: .*; leaves\.1\.name: .*; rates\.x: .*; old: "):
        Tree.checked(tree, where="it")


@pytest.mark.parametrize("tree", GOOD)
@pytest.mark.parametrize("short", [False, True])
def test_json_is_that_of_pydantic(tree, short):
    made = Tree.checked(tree)
    assert made.dumped(short=short) == TreeOfPydantic.model_validate(tree).model_dump(mode="json", exclude_defaults=short)
    assert list(made.dumped()) == list(types_of(Tree))
    assert Tree.checked(json.loads(json.dumps(made.dumped(short=short)))) == made


def test_what_is_as_by_default_is_left_out_at_every_depth():
    made = Tree(kind="oak", leaves=(Leaf(name="a"), Leaf(name="b", share=0.25)), first=Leaf(name="c", sides=()))
    assert made.dumped(short=True) == {"kind": "oak", "leaves": [{"name": "a"}, {"name": "b", "share": 0.25}], "first": {"name": "c"}}


def test_values_are_frozen_copies_are_checked_and_defaults_not_shared():
    made = Tree(kind="oak")
    with pytest.raises(FrozenInstanceError):
        made.old = True
    with pytest.raises(Wrong, match="old: expected true or false"):
        replace(made, old=3)
    with pytest.raises(ValueError, match="elms do not grow old"):
        replace(made, old=True, kind="elm")
    made.rates["x"] = 1.0
    assert Tree(kind="oak").rates == {} == defaults(Tree)["rates"] and "kind" not in defaults(Tree)


def test_a_value_is_changed_by_words():
    made = Tree(kind="oak", first=Leaf(name="a")).changed(["first.name=b", "first.share = 2", "kind=elm", 'rates={"x": 1}'])
    assert made == Tree(kind="elm", first=Leaf(name="b", share=2.0), rates={"x": 1.0})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("first.nam=b", "Unknown setting in first 'nam'. Did you mean name"),
        ("first.share=high", r"In settings: first\.share: .*high"),
        ("second.name=3", "Unknown setting 'second'"),
        ("kind", "Expected NAME=VALUE"),
    ],
)
def test_wrong_words_change_nothing(words, says):
    with pytest.raises(UsageError, match=says):
        Tree(kind="oak", first=Leaf(name="a")).changed([words])


@pytest.mark.parametrize("tree", GOOD)
def test_within_settings_they_are_read_and_written_as_settings_are(tree):
    wood = Wood.checked({"tree": tree, "area": "2"})
    assert wood.tree == Tree.checked(tree) and Wood(tree=wood.tree, area=2.0) == wood
    assert wood.model_dump(mode="json") == {"tree": wood.tree.dumped(), "area": 2.0}
    assert Wood.model_validate_json(wood.model_dump_json()) == wood


@pytest.mark.parametrize("tree", STRICTER)
def test_within_settings_pydantic_is_as_lenient_as_elsewhere(tree):
    assert Wood.checked({"tree": tree}).tree.dumped() == TreeOfPydantic.model_validate(tree).model_dump(mode="json")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("tree.kindd=oak", "Unknown setting in tree 'kindd'. Did you mean kind"),
        ('tree={"kind": "oak", "leafs": []}', r"tree\.leafs: Unknown setting 'leafs'. Did you mean leaves"),
        ('tree={"leaves": []}', r"tree\.kind: Field required"),
        ("tree.leaves=[3]", r"tree\.leaves\.0"),
        ("tree.old=perhaps", r"tree\.old.*perhaps"),
        ('tree={"kind": "elm", "old": true}', "tree: .*elms do not grow old"),
    ],
)
def test_within_settings_wrong_words_are_told_as_of_settings(words, says):
    with pytest.raises(UsageError, match=says):
        Wood.checked({"tree": {"kind": "oak"}}).changed([words])


class LabelsBefore(Settings):
    """As Labels were when they were settings."""

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    kind: Literal["exclusive", "regions", "bits", "classes", "findings", "grades"] = "exclusive"
    ignore: int | None = None
    colours: dict[int, tuple[int, int, int]] = {}
    background: tuple[int, ...] = (0,)


class NormaliseBefore(Settings):
    """As Normalise was."""

    kind: Literal["window", "zscore", "unit"] = "zscore"
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 1.0
    nonzero: bool = False


class PreparationBefore(Settings):
    """As Preparation was."""

    channels: dict[str, int]
    normalise: tuple[NormaliseBefore, ...]
    spacing: tuple[float, ...] = ()
    crop: bool = False
    order: int = 3
    fit: Literal["grid", "pad", "stretch"] = "grid"
    lead: int = 0


def test_names_in_caches_are_those_of_before():
    """Prepared cases of an earlier vesalius are found again: the same text, to the last digit and letter."""
    labels = {"names": ["a", "ü"], "values": [[1, 2], [255]], "kind": "regions", "ignore": 7, "colours": {"1": [1, 2, 3]}}
    rules = [{"kind": "window", "low": -1e-7, "high": 1e16, "mean": 0.1, "std": 3}, {"kind": "unit", "nonzero": True, "high": float("inf")}]
    how = {"channels": {"ct": 1, "µ": 1}, "normalise": rules, "spacing": [1, 0.7, 1e-5], "order": 1}
    assert text_of(Labels.checked(labels)) == LabelsBefore.checked(labels).model_dump_json()
    assert text_of(Preparation.checked(how)) == PreparationBefore.checked(how).model_dump_json()
    assert text_of(Normalise()) == NormaliseBefore().model_dump_json()


def test_they_need_nothing_that_is_installed():
    code = "import sys; sys.modules.update(dict.fromkeys(('pydantic', 'pydantic_core', 'numpy'))); import vesalius.core.values"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
