"""A network beside what is kept of the training images, which is as large as they make it."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from vesalius.core.errors import VesaliusError


class Keeper(nn.Module):
    """`coder`, and buffers by name that are empty (their first axis is 0 long) until `keep` fills them. They are saved with the weights,
    and loaded whatever their length."""

    def __init__(self, coder: nn.Module, **empty: Tensor) -> None:
        super().__init__()
        self.coder = coder
        self.names = tuple(empty)
        for name, value in empty.items():
            self.register_buffer(name, value)

    def keep(self, **values: Tensor) -> None:
        """In place of what was kept before, in its type and where it was."""
        for name, value in values.items():
            setattr(self, name, value.detach().to(self.get_buffer(name)).contiguous())

    def kept(self, name: str) -> Tensor:
        """What is kept under `name`; refused as long as nothing was gathered."""
        value = self.get_buffer(name)
        if not len(value):
            raise VesaliusError("This method compares with what it keeps of the training images, and has gathered none yet. "
                                "After learning, call method.gather(batches of every training image).")  # fmt: skip
        return value

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        for name in self.names:
            found, own = state_dict.get(prefix + name), self.get_buffer(name)
            if found is not None and found.shape != own.shape and found.ndim == own.ndim:
                setattr(self, name, own.new_zeros(found.shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def every(images: Iterable[Tensor]) -> Iterable[Tensor]:
    """`images` as they are; refused where there are none."""
    some = False
    for image in images:
        some = True
        yield image
    if not some:
        raise VesaliusError("There was no image to gather from. Give every training image, in batches (B, C, *S).")
