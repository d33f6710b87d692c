"""Settings: to JSON and back, changed by words, and every wrong word told by its dotted name."""


import pytest
from pydantic import ValidationError

from vesalius.core.errors import UsageError
from vesalius.core.settings import Settings
from vesalius.core.values import parse_value


class Train(Settings):
    learning_rate: float = 0.01
    epochs: int = 10
    name: str = "adam"
    patch: tuple[int, ...] = (64, 64)


class Whole(Settings):
    train: Train = Train()
    memory: float | None = None


def test_a_setting_is_changed_and_the_original_is_not():
    before = Whole()
    after = before.changed(["train.learning_rate=0.5", "train.patch=[32, 16]", "memory=1e9", "train.name=sgd"])
    assert after == Whole(train=Train(learning_rate=0.5, patch=(32, 16), name="sgd"), memory=1e9)
    assert before == Whole()


def test_json_there_and_back():
    whole = Whole(memory=2.5).changed(["train.epochs=3"])
    assert Whole.model_validate_json(whole.model_dump_json()) == whole


def test_infinity_survives_json():
    assert Whole.model_validate_json(Whole(memory=float("inf")).model_dump_json()).memory == float("inf")


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Whole().memory = 1.0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train.learning_rat=1", "Did you mean learning_rate"),
        ("trian.epochs=1", "Did you mean train"),
        ("train.epochs", "Expected NAME=VALUE"),
        ("train.epochs=many", r"train\.epochs.*many"),
        ("train.epochs.deep=1", "Unknown setting"),
        ("memory=[1]", "memory"),
    ],
)
def test_a_wrong_word_is_told_by_its_name(words, says):
    with pytest.raises(UsageError, match=says):
        Whole().changed([words])


def test_an_unknown_word_in_a_file_is_an_error():
    with pytest.raises(UsageError, match=r"In plan\.json: train\.epoch: Unknown setting 'epoch'. Did you mean epochs"):
        Whole.checked({"train": {"epoch": 3}}, where="plan.json")


VALUES = [("3", 3), ("true", True), ("null", None), ("[1, 2]", [1, 2]), ("adam", "adam"), ("1e-3", 1e-3)]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_values_are_json_or_plain_words(text, value):
    assert parse_value(text) == value
