"""Features judged by their neighbours: against scikit-learn, with classes only looked at, and without any."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from vesalius.data.case import Case
from vesalius.data.labels import Labels
from vesalius.tasks import TASKS, Images
from vesalius.tasks._neighbours import balanced, classes, pixels, votes

TWO = Labels(names=("well", "ill"), values=((0,), (1,)), kind="classes")
NONE = Labels(names=(), values=())


def rows(seed=0, number=40, features=5):
    return np.random.default_rng(seed).normal(size=(number, features))


def images(truth, *, labels=TWO, seed=0, side=6):
    """Noise whose first pixel says what it is."""
    draw = np.random.default_rng(seed)
    array = draw.normal(size=(len(truth), 1, side, side)).astype(np.float32)
    array[:, 0, 0, 0] = np.where(np.array(truth) > 0, 3, -3)
    known = [{labels.names[t]: 1} if labels.names and t >= 0 else None for t in truth]
    return Images([Case(f"c{k}", f"p{k}", {}, classes=one) for k, one in enumerate(known)], list(array), labels)


class Corner:
    """Features: the first pixel, and one. Gives back zeros."""

    def features(self, image):
        return torch.stack([image[:, 0, 0, 0], torch.ones(len(image)) * 0.1], 1)

    def infer(self, image):
        return torch.zeros_like(image)

    def score(self, image):
        return image.flatten(1).square().mean(1)


class Silent(Corner):
    def infer(self, image):
        return self.features(image)


def test_votes_are_those_of_scikit_learn():
    known, asked, answers = rows(), rows(1, 15), np.arange(40) % 3
    middle = known.mean(0)
    oracle = KNeighborsClassifier(7, metric="cosine").fit(known - middle, answers)
    np.testing.assert_allclose(votes(known, answers, asked, k=7), oracle.predict_proba(asked - middle))


def test_a_row_has_no_voice_for_itself():
    known, answers = rows(), np.arange(40) % 2
    found = votes(known, answers, known, k=3, own=True)
    for k in range(40):
        others = np.delete(np.arange(40), k)
        oracle = KNeighborsClassifier(3, metric="cosine").fit((known - known.mean(0))[others], answers[others])
        np.testing.assert_allclose(found[k], oracle.predict_proba((known - known.mean(0))[k : k + 1])[0])


def test_balanced_accuracy_is_that_of_scikit_learn():
    said, truth = np.array([0, 1, 1, 2, 0, 0]), np.array([0, 1, 0, 2, 2, 0])
    assert balanced(said, truth) == pytest.approx(balanced_accuracy_score(truth, said))


def test_classes_are_read_and_unknown_ones_are_minus_one():
    assert classes(images([0, 1, -1, 1])).tolist() == [0, 1, -1, 1]
    assert classes(images([0, 0, -1])) is None and classes(images([0, 1], labels=NONE)) is None


def test_large_images_are_compared_in_blocks():
    big = Images([Case("a", "a", {})], [np.arange(64 * 64, dtype=np.float32).reshape(1, 64, 64)], NONE)
    found = pixels(big)
    assert found.shape == (1, 1024)
    np.testing.assert_allclose(found.reshape(32, 32), big.pixels[0][0].reshape(32, 2, 32, 2).mean((1, 3)))
    assert pixels(images([0, 1])).shape == (2, 36)


def test_the_look_is_how_often_neighbours_agree():
    task, seen = TASKS["pretrain"](), images([0, 1] * 15 + [-1])
    assert task.look(Corner(), seen) == 1.0
    nothing = images([0, 1] * 5, labels=NONE)
    assert 0 <= task.look(Corner(), nothing) <= 1 and task.look(Silent(), nothing) is None


def test_what_is_judged_depends_on_what_there_is(tmp_path):
    task = TASKS["pretrain"]()
    trained, seen = images([0, 1] * 15), images([0, 1] * 6, seed=1)
    full = task.judge(Corner(), seen, trained=trained, calibration={}, folder=tmp_path)
    table = full.measure("model", np.arange(12))["all"]
    assert table["neighbours"] == 1.0 and set(table) == {"neighbours", "explained", "error"}
    array = np.stack(seen.pixels)
    assert table["error"] == pytest.approx(float((array**2).mean()), rel=1e-5)
    mean = np.stack(trained.pixels).mean(0)
    assert table["explained"] == pytest.approx(1 - float((array**2).sum() / ((array - mean) ** 2).sum()), rel=1e-5)
    assert full.rows["model"][1]["said"] == full.rows["model"][1]["truth"] == "ill"
    silent = task.judge(Silent(), seen, trained=trained, calibration={}, folder=tmp_path).measure("baseline", np.arange(12))["all"]
    answers = np.array([0, 1] * 15)
    assert silent == {"neighbours": balanced(votes(pixels(trained), answers, pixels(seen)).argmax(1), np.array([0, 1] * 6))}
    blank = task.judge(Silent(), images([0] * 4, labels=NONE), trained=images([0] * 4, labels=NONE), calibration={}, folder=tmp_path)
    assert set(blank.measure("model", np.arange(4))["all"]) == {"strange"} and "strange" in blank.rows["model"][0]
