"""What every way of learning must do: name an optimiser for each weight that it teaches, yield finite losses in turns that
the loop can step, learn, answer, and carry its state through a file.

A method whose card names the task "pretrain" learns from images alone: it is built for the shape of an image, gets no target,
and shows that it learns by giving the images back; where it gives none back (tags "views" and "described") its loss has to fall, and two
views of one image have to come nearer to each other than to those of other images. One whose card names "synthesise" makes images: it is
built for a shape and a small `Design`, gets images with two classes, and shows that it learns by samples that come nearer to them. One
whose card names "anomaly" says how strange each pixel is, after it has gathered what it keeps of the training images, and all that
survives a file.
"""

from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vesalius.core.card import Card
from vesalius.core.errors import VesaliusError
from vesalius.data.batch import Batch, Kind
from vesalius.engine.state import load_weights, pack, save_weights, unpack
from vesalius.losses import LOSSES
from vesalius.methods import METHODS, Method
from vesalius.methods._adversarial import Adversarial
from vesalius.methods._adversaries import Design
from vesalius.methods._chance import Chance
from vesalius.methods._crops import Crops
from vesalius.methods._unlabelled import Unlabelled
from vesalius.nets import NETS
from vesalius.nets._blocks import initialise

RATE = 1e-2
STEADY = 2e-3  # for two networks against each other
SIDES = {2: (16, 16), 3: (8, 8, 8)}


def unlabelled(card: Card) -> bool:
    """Whether the method of `card` learns from images alone."""
    return ("pretrain" in card.tasks or "anomaly" in card.tasks) and not synthesises(card)


def synthesises(card: Card) -> bool:
    """Whether the method of `card` makes images."""
    return "synthesise" in card.tasks


def describes(card: Card) -> bool:
    """Whether the method of `card` describes images and gives none back."""
    return bool({"views", "described"} & set(card.tags))


def build(card: Card, ndim: int = 2, *, seed: int = 0) -> Method:
    """A small method of `card`: for the shape of an image, or around a small network and a segmentation loss (channels-last)."""
    if unlabelled(card) or synthesises(card):
        small = dict((card.facts or {}).get("arguments", {}))
        if "design" in signature(METHODS[card.name]).parameters:
            small["design"] = Design(latent=6, widths=(8, 8), bounds=(0.0, 1.0))
        alone: Method = METHODS[card.name]((1, *SIDES[ndim]), learning_rate=RATE, weight_decay=1e-3, seed=seed, **small)
        return alone
    net = initialise(NETS["unet"](ndim, 1, 2, channels=(4, 8, 8)), torch.Generator().manual_seed(seed))
    layout = torch.channels_last_3d if ndim == 3 else torch.channels_last
    loss: nn.Module = LOSSES["deep_supervision"](LOSSES["dice_cross_entropy"](True))
    net = net.to(memory_format=layout)  # type: ignore[call-overload]
    made: Method = METHODS[card.name](net, loss, learning_rate=RATE, weight_decay=1e-3)
    return made


def example(card: Card, ndim: int = 2, *, seed: int = 0) -> Batch:
    """Noise with a bright part and the part as target; images alone (halves and quarters, bright on dark) for one without labels."""
    random = torch.Generator().manual_seed(seed)
    if unlabelled(card):
        return Batch({"image": (waves if describes(card) else parts)(ndim, random)}, {"image": Kind.IMAGE})
    if synthesises(card):
        tensors = {"image": parts(ndim, random), "label": torch.arange(8) % 2}
        return Batch(tensors, {"image": Kind.IMAGE, "label": Kind.LABEL})
    target = torch.zeros(2, 1, *SIDES[ndim], dtype=torch.uint8)
    target[:, :, 2:7, 3:8] = 1
    image = torch.randn(2, 1, *SIDES[ndim], generator=random) + 2 * target
    return Batch({"image": image, "target": target}, {"image": Kind.IMAGE, "target": Kind.MASK})


def parts(ndim: int, random: torch.Generator, size: int = 8) -> Tensor:
    """Images (size, 1, *S) in [0, 1], bright on one side of the middle of some axes, with a little noise."""
    image = 0.1 * torch.rand(size, 1, *SIDES[ndim], generator=random)
    for number in range(size):
        for axis, n in enumerate(SIDES[ndim][: 1 + number % ndim]):
            image[number].narrow(axis + 1, n // 2 if number >> axis & 1 else 0, n // 2).add_(0.3)
    return image


def waves(ndim: int, random: torch.Generator, size: int = 8) -> Tensor:
    """Images (size, 1, *S), each with a wave of its own direction and length, all brighter towards one corner, with a little noise."""
    grid = torch.stack(torch.meshgrid(*(torch.linspace(0, 1, n) for n in SIDES[ndim]), indexing="ij"))
    angle = torch.arange(size) * torch.pi / size
    length = 1 + torch.arange(size) % 3 / 2
    wave = torch.stack([3 * angle.cos() * length, 3 * angle.sin() * length, torch.arange(size) % 2][:ndim], 1)
    found = torch.sin(2 * torch.pi * torch.einsum("bn,n...->b...", wave, grid)) + grid.mean(0)
    return found[:, None] + 0.1 * torch.rand(size, 1, *SIDES[ndim], generator=random)


def turns(method: Method, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The turns of one step, without an optimiser's step between them."""
    yield from method.steps(batch)


def step(method: Method, optimisers: dict[str, torch.optim.Optimizer], batch: Batch) -> float:
    """One step as the loop takes it; the sum of all losses."""
    total = 0.0
    for name, losses in method.steps(batch):
        loss = torch.stack([term.float() for term in losses.values()]).sum()
        optimisers[name].zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimisers[name].step()
        total += float(loss.detach())
    return total


def weights(method: Method) -> dict[str, Tensor]:
    """A copy of everything that the method keeps."""
    return {name: value.detach().clone() for name, value in method.state_dict().items()}


def check_optimisers(card: Card, folder: Path) -> None:
    """Every weight is taught by one optimiser, once; the rates are those that were asked for."""
    method = build(card)
    optimisers = method.optimisers()
    taught = [p for o in optimisers.values() for group in o.param_groups for p in group["params"]]
    assert optimisers and len({id(p) for p in taught}) == len(taught)
    assert {id(p) for p in taught} == {id(p) for p in method.parameters() if p.requires_grad}
    assert all(group["lr"] == RATE for o in optimisers.values() for group in o.param_groups)


def check_turns(card: Card, folder: Path) -> None:
    """Each turn names a known optimiser and has named, finite scalars with a gradient; there is an end to them."""
    for ndim in card.ndim:
        method = build(card, ndim)
        known, number = method.optimisers(), 0
        for name, losses in turns(method, example(card, ndim)):
            number += 1
            assert name in known and losses and number < 1000
            for word, term in losses.items():
                assert isinstance(word, str) and term.ndim == 0 and bool(term.isfinite()) and term.requires_grad
        assert number > 0


def check_learns(card: Card, folder: Path) -> None:
    """Thirty steps on one batch bring the loss down (without labels: fifty, what is lost in giving it back); every weight has moved."""
    for ndim in card.ndim:
        method = build(card, ndim)
        optimisers, before, batch = method.optimisers(), weights(method), example(card, ndim)
        if synthesises(card) or describes(card):
            (check_drawn_near if synthesises(card) else check_described)(card, ndim)
            continue
        first = lost(method, batch["image"]) if unlabelled(card) else 0.0
        losses = [step(method, optimisers, batch) for _ in range(50 if unlabelled(card) else 30)]
        losses = [first, lost(method, batch["image"])] if unlabelled(card) else losses
        assert min(losses[-3:]) < 0.7 * losses[0], f"{card.name}: {losses[0]:.3f} became {losses[-1]:.3f}"
        still = [name for name, value in method.named_parameters() if torch.equal(value, before[name])]
        assert not still, f"{card.name}: not taught: {still}"


def check_drawn_near(card: Card, ndim: int) -> None:
    """Sixty steps bring the mean of samples nearer to that of images (in 3D ten steps are taken); every weight has moved."""
    method, image = build(card, ndim), parts(ndim, torch.Generator().manual_seed(1), 64)
    assert isinstance(method, Adversarial)
    method.learning_rate = STEADY
    optimisers, before, first = method.optimisers(), weights(method), from_mean(method, image)
    for seed in range(60 if ndim == 2 else 10):
        step(method, optimisers, example(card, ndim, seed=seed))
    assert ndim == 3 or from_mean(method, image) < 0.8 * first, f"{card.name}: {first:.4f} became {from_mean(method, image):.4f}"
    still = [name for name, value in method.named_parameters() if torch.equal(value, before[name])]
    assert not still, f"{card.name}: not taught: {still}"


def check_described(card: Card, ndim: int) -> None:
    """Forty steps on one batch bring the loss down, and views of one image nearer to each other (in 3D ten steps are taken); every weight
    has moved."""
    method, batch = build(card, ndim), example(card, ndim)
    optimisers, before, first = method.optimisers(), weights(method), nearness(method, batch["image"])
    losses = [step(method, optimisers, batch) for _ in range(40 if ndim == 2 else 10)]
    still = [name for name, value in method.named_parameters() if value.requires_grad and torch.equal(value, before[name])]
    assert not still, f"{card.name}: not taught: {still}"
    if ndim == 2:
        assert sum(losses[-10:]) < (0.9 if "views" in card.tags else 1) * sum(losses[:10]), f"{card.name}: {losses} does not fall"
        last = nearness(method, batch["image"])
        assert "views" not in card.tags or last < min(1, first), f"{card.name}: views were {first:.3f} as far as others, then {last:.3f}"


@torch.no_grad()
def nearness(method: Method, image: Tensor) -> float:
    """Mean distance between two views of one image over that between views of two images."""
    assert isinstance(method, Unlabelled)
    method.eval()
    first, second = (method.features(Crops()(image, Chance(5, view))) for view in range(2))
    method.train()
    apart = torch.cdist(first, second)
    own, number = apart.diagonal().sum(), len(image)
    return float(own / number / ((apart.sum() - own) / (number * number - number)))


def from_mean(method: Method, image: Tensor) -> float:
    """Mean squared difference between the mean of samples and that of `image`."""
    assert isinstance(method, Adversarial)
    return float((method.samples(64, seed=1).mean(0) - image.mean(0)).square().mean())


def check_samples(card: Card, folder: Path) -> None:
    """What is made has the shape and the bounds asked for, is the same for the same seed, and leaves no trace."""
    for ndim in card.ndim if synthesises(card) else ():
        method = build(card, ndim)
        assert isinstance(method, Adversarial)
        before, (low, high) = weights(method), method.design.bounds or (-torch.inf, torch.inf)
        made, again, other = method.samples(5), method.samples(5), method.samples(5, seed=1)
        assert made.shape == (5, 1, *SIDES[ndim]) and float(made.min()) >= low and float(made.max()) <= high
        assert torch.equal(made, again) and not torch.equal(made, other) and method.training
        assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
        features, score = method.eval().features(made), method.score(made)
        assert features.ndim == 2 and len(features) == len(score) == len(made) and score.ndim == 1


@torch.no_grad()
def lost(method: Method, image: Tensor) -> float:
    """Mean squared difference between `image` and what the method gives back."""
    method.eval()
    away = float((method.infer(image) - image).square().mean())
    method.train()
    return away


def check_infer(card: Card, folder: Path) -> None:
    """An answer per sample, the same each time and without a trace in the weights."""
    for ndim in card.ndim:
        method, batch = build(card, ndim).eval(), example(card, ndim)
        before = weights(method)
        with torch.inference_mode():
            first, second = method.infer(batch["image"]), method.infer(batch["image"])
        assert len(first) == len(batch) and bool(first.isfinite().all()) and torch.equal(first, second)
        assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def check_unlabelled(card: Card, folder: Path) -> None:
    """Without labels: the image given back has its shape; features and scores are one row and one number per sample, each alone."""
    for ndim in card.ndim if unlabelled(card) else ():
        method, image = build(card, ndim).eval(), example(card, ndim)["image"]
        assert isinstance(method, Unlabelled)
        method.gather([image[:5], image[5:]])
        with torch.inference_mode():
            features, score = method.features(image), method.score(image)
            assert method.infer(image).shape == (features if describes(card) else image).shape
            assert features.ndim == 2 and len(features) == len(image) == len(score) and score.ndim == 1
            assert bool(features.isfinite().all()) and bool(score.isfinite().all()) and float(features.std(0).max()) > 0
            torch.testing.assert_close(method.score(image[:1]), score[:1], rtol=1e-4, atol=1e-4)
        try:
            method.infer(image[..., :-1])
        except VesaliusError as problem:
            assert "shape" in str(problem)
        else:
            raise AssertionError(f"{card.name} takes an image of another shape than it was made for")


def check_anomalies(card: Card, folder: Path) -> None:
    """A map for every image, each alone; what was gathered is there again in another method that its weights are loaded into."""
    for ndim in card.ndim if "anomaly" in card.tasks else ():
        method, other, image = build(card, ndim).eval(), build(card, ndim, seed=1).eval(), example(card, ndim)["image"]
        assert isinstance(method, Unlabelled) and isinstance(other, Unlabelled)
        assert isinstance(method.net, nn.Module) and isinstance(other.net, nn.Module)
        method.gather([image[:3], image[3:]])
        save_weights(folder / "weights.safetensors", method.net.state_dict())
        other.net.load_state_dict(load_weights(folder / "weights.safetensors")[0])
        other.seed.copy_(method.seed)
        with torch.inference_mode():
            score, found = method.score(image), method.anomaly_map(image)
            assert found.shape == (len(image), 1, *SIDES[ndim]) and bool(found.isfinite().all()) and float(found.std()) > 0
            torch.testing.assert_close(method.anomaly_map(image[:1]), found[:1], rtol=1e-3, atol=1e-4)
            assert torch.equal(other.score(image), score) and torch.equal(other.anomaly_map(image), found)


def check_repeatable(card: Card, folder: Path) -> None:
    """The same seed and batches give the same weights to the last bit; the global generator is left alone."""
    made: list[Any] = []
    for _ in range(2):
        method = build(card)
        optimisers, state = method.optimisers(), torch.get_rng_state()
        for k in range(3):
            step(method, optimisers, example(card, seed=k))
        assert torch.equal(state, torch.get_rng_state()), f"{card.name} draws from the global generator"
        made.append(weights(method))
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])


def check_state(card: Card, folder: Path) -> None:
    """Stopped, packed into a file and unpacked elsewhere, it goes on as if nothing had been: equal to the last bit."""
    for ndim in card.ndim:
        whole, first, second = (build(card, ndim, seed=seed) for seed in (0, 0, 1))
        teachers = [method.optimisers() for method in (whole, first, second)]
        for k in range(4):
            step(whole, teachers[0], example(card, ndim, seed=k))
        for k in range(2):
            step(first, teachers[1], example(card, ndim, seed=k))
        save_weights(folder / "state.safetensors", pack(first, weights(first), teachers[1]))
        average = weights(second)
        unpack(load_weights(folder / "state.safetensors")[0], second, average, optimisers=teachers[2])
        assert all(torch.equal(average[name], value) for name, value in first.state_dict().items())
        for k in (2, 3):
            step(second, teachers[2], example(card, ndim, seed=k))
        unlike = [name for name, value in second.state_dict().items() if not torch.equal(value, whole.state_dict()[name])]
        assert not unlike, f"{card.name}: another run after resuming: {unlike}"


CHECKS: tuple[Callable[[Card, Path], None], ...] = (
    check_optimisers, check_turns, check_learns, check_infer, check_unlabelled, check_anomalies, check_samples, check_repeatable,
    check_state,
)  # fmt: skip


def check_method(name: str, folder: Path) -> None:
    """Run every check on the entry `name` of the shelf; `folder` is a place to write."""
    for check in CHECKS:
        check(METHODS.card(name), folder)
