"""What the networks that look at a volume slice by slice share: a 2D network for every slice, and what is there."""

from torch import Tensor, nn

from vesalius.core.errors import UsageError
from vesalius.nets._classifier_blocks import encode_present, present


def volumes_only(ndim: int) -> int:
    """`ndim`, which is 3: the first axis counts the slices."""
    if ndim != 3:
        raise UsageError(f"This network puts slices together, so it has 3 axes of which the first counts the slices; got {ndim}.")
    return ndim


def slicewise(encoder: nn.Module, volume: Tensor) -> Tensor:
    """Volume (B, C, N, H, W) to maps (B, F, N, h, w) of the 2D `encoder`, the same for every slice; zero where a slice is zero all over."""
    slices = volume.transpose(1, 2).flatten(0, 1)
    maps = encode_present(encoder, slices, present(slices, 1))
    return maps.reshape(len(volume), -1, *maps.shape[1:]).transpose(1, 2)


def features(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Means (B, N, F) of maps (B, F, N, h, w), and which slices are there (B, N): those whose maps are not zero all over."""
    return maps.flatten(3).mean(3).transpose(1, 2), present(maps.transpose(1, 2), 2)
