"""How the voxels of two maps see each other through a convolution (`direct.h`, `extent.h`)."""

from dataclasses import dataclass, replace

Sides = tuple[int, ...]


@dataclass(frozen=True)
class Lattice:
    """How the voxels of a fine map and a coarse one see each other: a kernel of `side` voxels goes in `step`s, from `pad` voxels before
    the fine map on. A convolution makes the coarse one, a `rising` (transposed) one the fine one."""

    side: Sides
    step: Sides
    pad: Sides
    rising: bool = False

    def turned(self) -> "Lattice":
        """The way back."""
        return replace(self, rising=not self.rising)

    def made(self, sides: Sides) -> Sides:
        """The sides of what is made of a map; of a rising one where the kernel is its step."""
        if self.rising:
            return tuple(n * s for n, s in zip(sides, self.step, strict=True))
        return tuple((n + 2 * p - k) // s + 1 for n, p, k, s in zip(sides, self.pad, self.side, self.step, strict=True))
