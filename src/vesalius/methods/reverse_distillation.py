"""Reverse distillation: a student says from one narrow code what each map of a teacher is; on what is not normal it errs.

Deng & Li 2022 (CVPR): the teacher's three maps are brought to one code (a convolution for each, a residual block), from which a decoder
goes the other way; per place 1 - cosine of both vectors, summed over scales. Ours learns the teacher first, on the user's images, then
holds it still, and has its maps whitened for the student.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW, Optimizer

from vesalius.core.card import Card
from vesalius.data.batch import Batch
from vesalius.methods._coder import Resize, fresh, with_meta
from vesalius.methods._maps import MapCoder, Residual
from vesalius.methods._patches import LOOKED, SHRINKAGE, Patches, as_rows, whitening
from vesalius.methods._phases import Phases
from vesalius.methods._unlabelled import decayed, joint_mean
from vesalius.nets._blocks import CONV

CARD = Card(
    entry="ReverseDistillation", title="Reverse distillation", paper="Deng & Li 2022, CVPR", tasks=("anomaly",),
    summary="A student decodes a teacher's maps from a narrow code, and cannot where the image is not normal.",
    facts={"arguments": {"widths": (8, 8)}},
)  # fmt: skip

FOLLOWED = 50


class Narrow(nn.Module):
    """A residual block without norm, since the code may be of one place."""

    def __init__(self, ndim: int, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.SiLU(), with_meta(CONV[ndim], channels, channels, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class Student(nn.Module):
    """From maps with `channels` and `sides` (the finest first) through one code at half the coarsest sides back to maps of their kinds."""

    def __init__(self, channels: Sequence[int], sides: Sequence[Sequence[int]]) -> None:
        super().__init__()
        n, last, conv = len(sides[0]), channels[-1], CONV[len(sides[0])]
        self.narrow = nn.ModuleList(nn.Sequential(*(layer for step in range(len(channels) - k)
                                                    for layer in (with_meta(conv, a if not step else last, last, 3, 2, 1), nn.SiLU())))
                                    for k, a in enumerate(channels))  # fmt: skip
        self.code = nn.Sequential(with_meta(conv, len(channels) * last, last, 1), Narrow(n, last))
        ways = [(last, last), *pairwise(channels[::-1])]
        self.widen = nn.ModuleList(nn.Sequential(Resize(side), with_meta(conv, a, b, 3, 1, 1), Residual(n, b))
                                   for (a, b), side in zip(ways, sides[::-1], strict=True))  # fmt: skip

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps of the same shapes."""
        x = self.code(torch.cat([narrow(m) for narrow, m in zip(self.narrow, maps, strict=True)], 1))
        found = []
        for widen in self.widen:
            x = widen(x)
            found.append(x)
        return found[::-1]


class White(nn.Module):
    """Vectors at the places of maps with mean 0 and covariance 1 over the images seen so far (the last FOLLOWED batches)."""

    seen: Tensor
    mean: Tensor
    covariance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("covariance", torch.eye(channels))

    @torch.no_grad()
    def follow(self, maps: Tensor) -> None:
        """Moments with those of the places of `maps`, of every process."""
        rows = as_rows(maps).flatten(0, 1) - self.mean
        first, second = joint_mean(rows.mean(0, keepdim=True)), joint_mean((rows.T @ rows / len(rows))[None])
        new = 1 / (1 + self.seen.clamp(max=FOLLOWED))
        self.covariance.lerp_(second, new).sub_(new**2 * torch.outer(first, first))
        self.mean.add_(new * first)
        self.seen += 1

    def forward(self, maps: Tensor) -> Tensor:
        """White `maps`."""
        white = whitening(self.covariance[None], SHRINKAGE)[0].to(maps.dtype)
        return ((as_rows(maps) - self.mean) @ white.T).transpose(1, 2).reshape(maps.shape)


class Pair(nn.Module):
    """The teacher (with the decoder that it learns with), its maps made white, and the student."""

    def __init__(self, coder: MapCoder, student: Student, channels: Sequence[int]) -> None:
        super().__init__()
        self.coder, self.student = coder, student
        self.white = nn.ModuleList(White(n) for n in channels)


class ReverseDistillation(Patches):
    """The teacher learns until `teacher` of the time has passed, the student from then on."""

    net: Pair

    def __init__(
        self, shape: Sequence[int], *, teacher: float = 0.4, widths: Sequence[int] = (), learning_rate: float = 1e-3,
        weight_decay: float = 1e-4, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(shape, widths=widths, looked=LOOKED, learning_rate=learning_rate, weight_decay=weight_decay, seed=seed)
        self.phases = Phases(teacher)
        sides = [self.sides]
        for _ in self.stages[1:]:
            sides.append(tuple((side + 1) // 2 for side in sides[-1]))
        channels = [self.widths[stage] for stage in self.stages]
        student = Student(channels, sides)
        fresh(student, torch.Generator().manual_seed(seed + 1))
        self.net = Pair(self.own(), student, channels)

    def optimisers(self) -> dict[str, Optimizer]:
        """One for each of the two."""
        parts = {"teacher": self.net.coder, "student": self.net.student}
        return {name: AdamW(decayed(part, self.weight_decay), lr=self.learning_rate, betas=(0.9, 0.99)) for name, part in parts.items()}

    def steps(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor]]]:
        image, chance = self.checked(batch["image"]), self.chance()
        if self.phases.first:
            yield "teacher", {"reconstruction": self.restoring(image, chance)}
        if self.phases.second:
            for white, maps in zip(self.net.white, self.maps(image), strict=True):
                assert isinstance(white, White)
                white.follow(maps)
            yield "student", {"distillation": torch.stack([apart.mean() for apart in self.apart(image)]).sum()}
        self.step += 1

    def apart(self, image: Tensor) -> list[Tensor]:
        """1 - cosine of teacher and student at each place of each map: (B, *s)."""
        maps = [white(maps) for white, maps in zip(self.net.white, self.maps(image), strict=True)]
        return [1 - F.cosine_similarity(a, b.float(), dim=1) for a, b in zip(maps, self.net.student(maps), strict=True)]

    @torch.no_grad()
    def anomaly_map(self, image: Tensor) -> Tensor:
        """What sets teacher and student apart, summed over scales."""
        return torch.stack([self.on_pixels(apart) for apart in self.apart(image)]).sum(0)

    def score(self, image: Tensor) -> Tensor:
        """The greatest of the map."""
        return self.anomaly_map(image).flatten(1).amax(1)
