"""Was it worth it: planted cohorts in which the answer is known, and every number against a second way."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn
from torch.optim import Adam

from vesalius.audit import likelihoods, readings, worth
from vesalius.audit.verdicts import worth_verdict
from vesalius.audit.worth import Cohort, Part
from vesalius.core.errors import DataError
from vesalius.data.batch import Batch, Kind
from vesalius.data.labels import IGNORE, Labels
from vesalius.methods._unlabelled import Unlabelled
from vesalius.methods.autoencoder import Autoencoder
from vesalius.methods.rbm import Rbm
from vesalius.methods.vae import Vae

LABELS = Labels(names=("without", "with"), values=((0,), (1,)), kind="classes")
SIDE = 6
SPOT = np.pad(np.ones((2, 2), np.float32), 2)


def part(number, *, seed, planted, targets=True):
    """Images in noise; half have a spot that is bright or dark with equal chance ("sign"), or always bright ("bright"), or say nothing."""
    random = np.random.default_rng(seed)
    there = np.arange(number) % 2
    sign = np.where(random.random(number) < 0.5, -1, 1) if planted == "sign" else np.ones(number)
    strength = 0.0 if planted == "nothing" else 1.0 if planted == "bright" else 2.5
    images = random.normal(0, 1, (number, 1, SIDE, SIDE)) + strength * (there * sign)[:, None, None, None] * SPOT
    patients = np.array([f"{seed}_{k // 2}" for k in range(number)])
    return Part(images.astype(np.float32), patients, tuple(f"{seed}_{k}" for k in range(number)),
                there[:, None].astype(np.uint8) if targets else None)  # fmt: skip


def cohort(planted, *, targets=True, labels=LABELS):
    parts = [part(n, seed=s, planted=planted, targets=targets) for s, n in enumerate((300, 100, 200))]
    return Cohort(*parts, labels)


def learned(method, images, *, steps, batch=50):
    """`method` after some steps on `images`."""
    optimisers, random = method.optimisers(), np.random.default_rng(0)
    for _ in range(steps):
        rows = torch.from_numpy(images[random.integers(len(images), size=batch)])
        for name, losses in method.steps(Batch({"image": rows}, {"image": Kind.IMAGE})):
            optimisers[name].zero_grad()
            sum(losses.values()).backward()
            optimisers[name].step()
    return method


class Squares(Unlabelled):
    """Learns two directions that give images back, and forgets the sign: its features are the squares of the codes."""

    def __init__(self, shape, seed=0):
        super().__init__(shape, learning_rate=0.01, weight_decay=0.0, seed=seed)
        self.net = nn.Linear(self.size, 2, bias=False)
        nn.init.normal_(self.net.weight, std=0.1, generator=torch.Generator().manual_seed(seed))

    def optimisers(self):
        return {"net": Adam(self.net.parameters(), self.learning_rate)}

    def infer(self, image):
        return self.as_image(self.net(self.units(image)) @ self.net.weight)

    def steps(self, batch):
        yield "net", {"reconstruction": (self.infer(batch["image"]) - batch["image"]).square().sum(1).mean()}

    def features(self, image):
        return self.net(self.units(image)).square()

    def score(self, image):
        return (self.infer(image) - image).square().flatten(1).mean(1)


@pytest.fixture(scope="module")
def signs():
    """Spots of either sign, whose mean is that of none."""
    data = cohort("sign")
    untaught, taught = (Squares((1, SIDE, SIDE)) for _ in range(2))
    return worth.worth(learned(taught, data.train.images, steps=150), data, drawn=untaught, draws=100)


def test_features_that_must_win_win(signs):
    """No line through pixels or components tells a spot of either sign from none; squares of learned directions do."""
    found = signs.found
    areas = found["measures"]["linear_probe"]
    assert areas["run"]["value"] > 0.8 and areas["pixels"]["value"] < 0.65 and areas["pca"]["value"] < 0.65
    assert found["differences"]["linear_probe"]["pixels"]["low"] > 0 and areas["drawn"]["value"] < areas["run"]["value"]
    assert "better than raw pixels" in found["verdict"]["headline"] and "not better than raw" not in found["verdict"]["headline"]
    assert found["verdict"]["tone"] == "unsure"
    assert "not better than k-means" in found["verdict"]["headline"]  # which has centres for both signs


def test_where_there_is_nothing_the_verdict_says_no_difference():
    data = cohort("nothing")
    found = worth.worth(learned(Autoencoder((1, SIDE, SIDE), kind="linear", code=8), data.train.images, steps=30), data, draws=100).found
    assert found["verdict"]["headline"] == "Features of the run are not better than raw pixels on this data."
    assert found["verdict"]["tone"] == "bad"
    gap = found["differences"]["linear_probe"]["pixels"]
    assert gap["low"] < 0 < gap["high"]


def test_every_measure_has_an_interval_around_it_and_each_rival(signs):
    found = signs.found
    assert set(found["measures"]) == set(readings.TITLES)
    for name, row in found["measures"].items():
        assert set(row) == {"run", "drawn", "pca", "kmeans", "pixels"}
        assert all(cell["low"] <= cell["value"] <= cell["high"] for cell in row.values()), name
        for who, gap in found["differences"][name].items():
            assert gap["difference"] == pytest.approx(row["run"]["value"] - row[who]["value"], abs=1e-9)
            assert gap["low"] <= gap["difference"] <= gap["high"]
    assert found["by_chance"]["precision_at_5"] == pytest.approx(0.5)


def test_without_labels_only_what_needs_none_is_told():
    data = cohort("bright", targets=False, labels=None)
    found = worth.worth(learned(Autoencoder((1, SIDE, SIDE), kind="linear", code=4), data.train.images, steps=10), data, draws=50).found
    assert not found["measures"] and found["reconstruction"] and found["likelihood"] is None
    assert "not known" in found["verdict"]["headline"] and any("No classes" in remark for remark in found["remarks"])


def test_unknown_classes_are_left_out_and_one_class_is_not_enough():
    data = cohort("bright")
    data.test.targets[:40] = IGNORE
    method = Autoencoder((1, SIDE, SIDE), kind="linear", code=4)
    views, _ = worth._views(data, {name: worth.described(method, one.images) for name, one in data.parts().items()}, None, seed=0)
    assert len(worth.tables(data, views)["pixels"].test.targets) == 160
    data.test.targets[:] = 0
    assert "does not show two classes" in worth._unlabelled(data)


def test_a_linear_autoencoder_cannot_do_better_than_principal_components():
    data = cohort("bright")
    method = learned(Autoencoder((1, SIDE, SIDE), kind="linear", code=5, learning_rate=0.01), data.train.images, steps=300)
    found = worth.reconstruction(method, data, components=5)
    test = data.test.images
    assert found["run"]["value"] == pytest.approx(float((method.infer(torch.from_numpy(test)).numpy() - test).__pow__(2).mean()), rel=1e-5)
    assert found["mean"]["value"] == pytest.approx(float(((test - data.train.images.mean(0)) ** 2).mean()), rel=1e-5)
    assert found["pca"]["value"] < found["run"]["value"] * 1.02 < found["mean"]["value"] * 1.02
    assert found["differences"]["pca"]["value"] == pytest.approx(found["run"]["value"] - found["pca"]["value"])


def test_without_a_test_part_validation_is_looked_at_and_said():
    data = cohort("bright")
    none = Part(data.test.images[:0], data.test.patients[:0], (), data.test.targets[:0])
    method = Autoencoder((1, SIDE, SIDE), kind="linear", code=4)
    found = worth.worth(method, Cohort(data.train, data.val, none, LABELS), draws=50).found
    assert "validation images" in found["remarks"][0] and found["cases"]["test"] == 100
    with pytest.raises(DataError, match="not learned from"):
        worth.worth(method, Cohort(data.train, none, none, LABELS))


# -- likelihoods ----------------------------------------------------------------------------------------------------------


def test_normal_rivals_are_the_densities_of_scipy():
    random = np.random.default_rng(0)
    train, test = (random.normal(size=(n, 6)).astype(np.float32) @ random.normal(size=(6, 6)).astype(np.float32) for n in (200, 9))
    own = multivariate_normal(train.mean(0), np.diag(train.var(0)))
    assert likelihoods.of_normals(train, test) == pytest.approx(own.logpdf(test), rel=1e-4)
    values, axes = np.linalg.eigh(np.cov(train.T))
    rest = values[:4].mean()
    joint = (axes[:, 4:] * (values[4:] - rest)) @ axes[:, 4:].T + rest * np.eye(6)  # Tipping & Bishop 1999, W W' + s2 I
    assert likelihoods.of_components(train, test, 2) == pytest.approx(multivariate_normal(train.mean(0), joint).logpdf(test), rel=1e-3)


def test_coins_by_hand():
    train = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], np.float32)
    assert likelihoods.of_coins(train, np.array([[1, 1]], np.float32)) == pytest.approx([np.log(3 / 4 * 1 / 4)])


def test_the_likelihood_of_a_small_machine_lies_where_enumeration_says(monkeypatch):
    monkeypatch.setattr(likelihoods, "TEMPERATURES", 100)
    random = np.random.default_rng(0)
    images = (random.random((200, 1, 3, 3)) < 0.3).astype(np.float32)
    machine = learned(Rbm((1, 3, 3), hidden=4, seed=2), images, steps=50)
    assert likelihoods.is_binary(machine) and not likelihoods.is_binary(Rbm((1, 3, 3), hidden=4, visible="gaussian"))
    flat = images.reshape(200, -1)
    rows = likelihoods.likelihoods(machine, flat[:150], flat[150:], patients=np.arange(50).astype(str), components=4)
    by = {(row["who"], row["how"]): row["value"] for row in rows}
    exact = by["run", "exact"]
    assert by["run", likelihoods.WORDS["conservative"]] == pytest.approx(exact, abs=0.3)
    assert by["independent pixels", "a formula"] == pytest.approx(float(likelihoods.of_coins(flat[:150], flat[150:]).mean()))


def test_a_variational_autoencoder_tells_a_bound_beside_components():
    data = cohort("bright")
    method = learned(Vae((1, SIDE, SIDE), kind="dense", code=3, widths=(8,)), data.train.images, steps=20)
    found = worth.worth(method, data, draws=50).found
    assert [row["who"] for row in found["likelihood"]] == ["run", "independent pixels", "principal components"]
    assert any("nats" in sentence for sentence in found["verdict"]["sentences"])


def gaps(pixels, pca=(0.1, 0.2), kmeans=(0.1, 0.2)):
    cells = {who: {"difference": sum(ends) / 2, "low": ends[0], "high": ends[1]} for who, ends in
             (("pca", pca), ("kmeans", kmeans), ("pixels", pixels))}  # fmt: skip
    return {"differences": {"linear_probe": cells}, "measures": {"linear_probe": {who: {"value": 0.7} for who in ("run", *cells)}}}


@pytest.mark.parametrize(("found", "words", "tone"), [
    (gaps((0.01, 0.1)), "better than raw pixels, principal components and k-means on", "good"),
    (gaps((0.01, 0.1), pca=(-0.1, 0.1)), "but not better than principal components", "unsure"),
    (gaps((-0.01, 0.1)), "not better than raw pixels", "bad"),
    (gaps((-0.1, -0.01)), "worse than raw pixels", "bad"),
])  # fmt: skip
def test_the_verdict_says_no_more_than_the_interval(found, words, tone):
    made = worth_verdict(found)
    assert words in made["headline"] and made["tone"] == tone


def test_components_are_fewer_than_the_images_that_a_probe_has():
    """With as many components as images a standardised probe would learn by heart, and a rival would lose that has not failed."""
    data = Cohort(part(60, seed=0, planted="bright"), part(20, seed=1, planted="bright"), part(40, seed=2, planted="bright"), LABELS)
    found = worth.worth(Autoencoder((1, SIDE, SIDE), kind="linear", code=30), data, draws=20).found
    assert found["names"]["pca"] == "principal components (20)"


def test_numbers_below_zero_have_a_minus():
    back = {"run": {"value": 1.5}, "pca": {"value": 1.2}, "mean": {"value": 1.0}, "differences": {"pca": {"low": 0.1, "high": 0.4}}}
    nats = [{"who": who, "how": "exact", "value": v, "low": v - 1, "high": v + 1} for who, v in (("run", -9.5), ("coins", -4.0))]
    found = {"differences": {}, "reconstruction": back, "likelihood": nats}
    said = " ".join(worth_verdict(found)["sentences"])
    assert "(\u221250% and \u221220% of the variance)" in said and "(\u22129.5 and \u22124.0 nats" in said and "less probable" in said
