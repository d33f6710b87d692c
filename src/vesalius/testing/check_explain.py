"""What every explanation must do: a heat on the grid of the image, in 2D and 3D; a network left as it was; each sample by itself; another
heat for other weights; and a point on the thing that the class is about."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.errors import VesaliusError
from vesalius.explain import EXPLAIN, Explanation, energy_inside, pointing, randomisation_test

SIDES = {2: (20, 16), 3: (8, 12, 8)}
RADIUS = 2.2
CHANNELS, CLASSES = 2, 2


class Convolutional(nn.Module):
    """Two convolutions, the mean over places, a line: the kind of network that maps explain."""

    def __init__(self, ndim: int, generator: torch.Generator) -> None:
        super().__init__()
        layer = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
        self.first, self.second = layer(CHANNELS, 8, 3, padding=1), layer(8, 8, 3, padding=1, stride=2)
        self.norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[ndim](8)
        self.answer = nn.Linear(8, CLASSES)
        drawn(self, generator)

    def trunk(self, image: Tensor) -> Tensor:
        """Maps (B, 8, *S / 2)."""
        return F.relu(self.norm(self.second(F.relu(self.first(image)))))

    def classify(self, maps: Tensor) -> Tensor:
        """Logits of the maps."""
        logits: Tensor = self.answer(maps.flatten(2).mean(2))
        return logits

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.trunk(image))


class Attentive(nn.Module):
    """Patches of side 4, a class token, two layers of attention that are drawn to where a learned feature of the patch is high."""

    def __init__(self, ndim: int, generator: torch.Generator) -> None:
        super().__init__()
        layer = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
        self.embed, self.token = layer(CHANNELS, 8, 4, stride=4), nn.Parameter(torch.zeros(1, 1, 8))
        self.query = nn.ModuleList(nn.Linear(8, 16) for _ in range(2))
        self.answer = nn.Linear(8, CLASSES)
        drawn(self, generator)

    def grid(self, sides: Sequence[int]) -> tuple[tuple[int, ...], int]:
        """Patches along each axis, and the class token."""
        return tuple(side // 4 for side in sides), 1

    def _layers(self, image: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        patches = self.embed(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(image), -1, -1), patches], 1)
        for query in self.query:
            q, k = query(tokens).reshape(*tokens.shape[:2], 2, 8).movedim(2, 1).chunk(2, -1)
            attention = (q @ k.transpose(-1, -2)).softmax(-1)
            tokens = tokens + attention.mean(1) @ tokens
            yield attention, tokens

    def attentions(self, image: Tensor) -> list[Tensor]:
        """(B, 2, N, N) of both layers."""
        return [attention for attention, _ in self._layers(image)]

    def forward(self, image: Tensor) -> Tensor:
        *_, (_, tokens) = self._layers(image)
        logits: Tensor = self.answer(tokens[:, 0])
        return logits


def drawn(net: nn.Module, generator: torch.Generator) -> None:
    """Weights of a scale at which signals neither die nor grow."""
    with torch.no_grad():
        for weight in net.parameters():
            scale = (2 / weight[0].numel()) ** 0.5 if weight.ndim > 1 else 0.1
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)


def example(ndim: int, *, seed: int = 0, number: int = 3) -> tuple[Tensor, Tensor]:
    """Noise (B, 2, *S) with a bright or a dark ball in its first channel, by class; and the mask (B, *S) of the ball."""
    generator = torch.Generator().manual_seed(seed)
    sides = SIDES[ndim]
    image = 0.25 * torch.randn(number, CHANNELS, *sides, generator=generator)
    axes = torch.meshgrid(*[torch.arange(n) for n in sides], indexing="ij")
    mask = torch.zeros(number, *sides, dtype=torch.bool)
    for k in range(number):
        centre = [float(2 + torch.rand((), generator=generator) * (n - 5)) for n in sides]
        mask[k] = torch.stack([(axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)]).sum(0) < RADIUS**2
        image[k, 0] += mask[k] * (2.0 if k % CLASSES else -2.0)
    return image, mask


def network(name: str, ndim: int, *, seed: int = 0) -> nn.Module:
    """The kind of network that the entry `name` explains, with drawn weights."""
    kind = Attentive if "attentions" in EXPLAIN[name].needs else Convolutional
    return kind(ndim, torch.Generator().manual_seed(seed))


@cache
def trained(kind: type[nn.Module], ndim: int) -> nn.Module:
    """A network that has learned to tell bright balls from dark ones; takes a second or two."""
    net = kind(ndim, torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for step in range(100):
        image, _ = example(ndim, seed=step, number=16)
        loss = F.cross_entropy(net(image), torch.arange(16) % CLASSES)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return net.eval()


def learned(name: str, ndim: int) -> nn.Module:
    """A trained network of the kind that the entry `name` explains."""
    return trained(Attentive if "attentions" in EXPLAIN[name].needs else Convolutional, ndim)


def check_shape(name: str) -> None:
    """A finite heat (B, *S) in float32, in 2D and 3D, on sides that differ; not the same everywhere; never below 0 unless signed."""
    for ndim in (2, 3):
        image, _ = example(ndim)
        heat = EXPLAIN[name]()(network(name, ndim), image)
        assert heat.shape == (len(image), *SIDES[ndim]) and heat.dtype == torch.float32 and not heat.requires_grad
        assert bool((heat.flatten(1).std(1) > 0).all())
        assert EXPLAIN[name].signed or float(heat.min()) >= 0


def check_untouched(name: str) -> None:
    """Weights, their gradients, running means, the mode of every part and the image are as before."""
    net, (image, _) = network(name, 2).train(), example(2)
    next(iter(net.children())).eval()
    weights, modes, before = deepcopy(net.state_dict()), [part.training for part in net.modules()], image.clone()
    EXPLAIN[name]()(net, image)
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())
    assert [part.training for part in net.modules()] == modes and all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(image, before) and not image.requires_grad


def check_frozen(name: str) -> None:
    """Frozen weights and a caller without gradients change nothing."""
    net, (image, _) = network(name, 2), example(2)
    free = EXPLAIN[name]()(net, image)
    with torch.no_grad():
        frozen = EXPLAIN[name]()(net.requires_grad_(False), image)
    torch.testing.assert_close(free, frozen)


def check_alone(name: str) -> None:
    """A sample's heat is its own: batch mates change nothing; the same call gives the same heat."""
    for ndim in (2, 3):
        net, (image, _) = network(name, ndim), example(ndim)
        together, again = (EXPLAIN[name]()(net, image) for _ in range(2))
        assert torch.equal(together, again)
        torch.testing.assert_close(EXPLAIN[name]()(net, image[1:2])[0], together[1], rtol=1e-3, atol=1e-5)


def check_class(name: str) -> None:
    """The class asked for matters, where the method tells classes apart; None is the class that is answered."""
    net, (image, _) = network(name, 2), example(2)
    explain = EXPLAIN[name]()
    first, second = (explain(net, image, torch.full((len(image),), k)) for k in range(CLASSES))
    assert torch.equal(first, second) != explain.by_class
    assert torch.equal(explain(net, image), explain(net, image, net.eval()(image).argmax(1)))


def check_model(name: str) -> None:
    """Random weights give another heat: it depends on what was learned (Adebayo et al. 2018)."""
    for ndim in (2, 3):
        image, _ = example(ndim, seed=1000, number=4)
        found = randomisation_test(learned(name, ndim), EXPLAIN[name](), image)
        assert found.believable, (name, ndim, found)


def check_pointing(name: str) -> None:
    """The heat is denser on the ball than beside it, slice by slice; and its hottest place lies on the ball far more often than chance
    would have it, as exactly as the method is fine (a patch, a pixel of the maps, a pixel)."""
    needs, rough = EXPLAIN[name].needs, "attentions" in EXPLAIN[name].needs or EXPLAIN.card(name).tags == ("gradient",)
    for ndim in (2, 3):
        image, mask = example(ndim, seed=2000, number=20)
        net, target = learned(name, ndim), torch.arange(20) % CLASSES
        assert float((net(image).argmax(1) == target).float().mean()) > 0.9, "the network of the test did not learn"
        heat, reach = EXPLAIN[name]()(net, image, target), 2 if "attentions" in needs else len(needs) // 2
        density = float(energy_inside(heat, mask).mean() / mask.float().mean())
        assert density > 1.25, f"{name}: the heat on the ball is {density:.2f} times that of a place at random"
        hits = float(pointing(heat, mask, tolerance=reach).float().mean())
        places = torch.stack([pointing(_only(mask.shape, k), mask, tolerance=reach) for k in range(mask[0].numel())])
        chance = float(places.float().mean())
        assert hits >= 3.5 * chance or (rough and ndim == 3), f"{name} points at {hits:.2f} of the balls; chance is {chance:.2f}"


def _only(shape: torch.Size, place: int) -> Tensor:
    """Heats that point at one place."""
    return F.one_hot(torch.full((shape[0],), place), int(torch.tensor(shape[1:]).prod())).float().reshape(shape)


def check_nonsense(name: str) -> None:
    """Networks without what the method needs, classes that are not there and images that are none are refused in words."""
    explain, net, (image, _) = EXPLAIN[name](), network(name, 2), example(2)
    wrong: list[Callable[[], object]] = [
        lambda: explain(net, image, torch.tensor([0, 1, CLASSES])), lambda: explain(net, image, torch.tensor([0])),
        lambda: explain(net, image[0]), lambda: explain(net, image.long()), lambda: explain(nn.Identity(), image),
    ]  # fmt: skip
    for number, call in enumerate(wrong):
        try:
            call()
        except VesaliusError as problem:
            assert len(str(problem)) > 20
        else:
            raise AssertionError(f"{name} accepted nonsense number {number}")
    plain = nn.Sequential(nn.Flatten(), nn.Linear(image[0].numel(), CLASSES))
    assert bool(explain.refusal(plain)) == bool(explain.needs) and not explain.refusal(net)
    if explain.needs:
        assert all(word in explain.refusal(plain) for word in (*explain.needs, "Sequential", "occlusion"))


CHECKS: tuple[Callable[[str], None], ...] = (
    check_shape, check_untouched, check_frozen, check_alone, check_class, check_model, check_pointing, check_nonsense,
)  # fmt: skip


def check_explain(name: str) -> None:
    """Run every check on the entry `name` of the shelf."""
    assert issubclass(EXPLAIN[name], Explanation)
    for check in CHECKS:
        check(name)
