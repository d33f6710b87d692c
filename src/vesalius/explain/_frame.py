"""What every explanation is: a final frame around an abstract `run` that leaves the network as it was and checks what goes in and out.

A network is `net(image (B, C, *S)) -> logits (B, K)`. Two kinds say more of themselves, so that nothing is hooked into them:
convolutional ones have `trunk(image) -> maps (B, F, *s)` and `classify(maps) -> logits`, with net(image) = classify(trunk(image));
transformers have `attentions(image) -> [(B, heads, N, N) per layer]` and `grid(S) -> (tokens per axis, number of extra ones)`: the extra
tokens (the class token) come first, then the patches in C order; axes before those of space are modalities or views.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vesalius.core.errors import UsageError

WORDS = {
    "trunk": "trunk(image), the feature maps (B, F, *s)",
    "classify": "classify(maps), the logits of those maps",
    "attentions": "attentions(image), a list of (B, heads, N, N)",
    "grid": "grid(sides), the number of tokens along each axis and of those before them",
}


class Explanation(ABC):
    """`explain(net, image, target)` is a heat (B, *S) in float32: how much each place spoke for class `target` (B,) of its sample.

    `needs` names what the network must have beside `forward`; `signed` heats have places that spoke against the class below 0;
    `by_class` is False where the method cannot tell one class from another.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    signed: ClassVar[bool] = False
    by_class: ClassVar[bool] = True

    @final
    def __call__(self, net: nn.Module, image: Tensor, target: Tensor | None = None) -> Tensor:
        """`target` None is the class that the network answers. Weights, their gradients and the mode of `net` stay as they are."""
        if why := self.refusal(net):
            raise UsageError(why)
        if image.ndim not in (4, 5) or not image.is_floating_point():
            raise UsageError(f"Expected float images (B, C, *S) with two or three axes S; got {tuple(image.shape)} of {image.dtype}.")
        modes = {part: part.training for part in net.modules()}
        net.eval()
        try:
            chosen = chosen_class(net, image.detach(), target)
            with torch.enable_grad():
                heat = self.run(net, image.detach(), chosen).detach().float()
        finally:
            for part, mode in modes.items():
                part.training = mode
        assert heat.shape == (len(image), *image.shape[2:]), f"{type(self).__name__}: {tuple(heat.shape)} for {tuple(image.shape)}"
        assert bool(heat.isfinite().all()), f"{type(self).__name__} gave a heat that is not finite"
        return heat

    @abstractmethod
    def run(self, net: nn.Module, image: Tensor, target: Tensor) -> Tensor:
        """The heat (B, *S); `net` is in evaluation mode, gradients are on, `target` (B,) holds classes."""

    @final
    def refusal(self, net: nn.Module) -> str:
        """Why `net` cannot be explained so, and what to do; "" where it can."""
        lacking = [WORDS[word] for word in self.needs if not callable(getattr(net, word, None))]
        if not lacking:
            return ""
        return (f"{type(self).__name__} cannot explain a {type(net).__name__}: it needs {' and '.join(lacking)}. "
                "Take occlusion or integrated_gradients, which work with every network.")  # fmt: skip


def chosen_class(net: nn.Module, image: Tensor, target: Tensor | None) -> Tensor:
    """`target` as (B,) of classes that exist; None is the highest logit."""
    with torch.no_grad():
        logits: Tensor = net(image)
    if logits.ndim != 2 or len(logits) != len(image):
        raise UsageError(f"Expected logits (B, K) of a classifier; got {tuple(logits.shape)}.")
    if target is None:
        return logits.argmax(1)
    target = torch.as_tensor(target, device=logits.device)
    if target.shape != (len(image),) or target.is_floating_point():
        raise UsageError(f"Expected one class per sample, whole numbers ({len(image)},); got {tuple(target.shape)} of {target.dtype}.")
    if int(target.min()) < 0 or int(target.max()) >= logits.shape[1]:
        raise UsageError(f"The network knows the classes 0 to {logits.shape[1] - 1}; asked for {target.tolist()}.")
    return target.long()


def score(logits: Tensor, target: Tensor) -> Tensor:
    """The logit (B,) of each sample's class."""
    return logits.gather(1, target[:, None])[:, 0]


def input_gradient(net: nn.Module, image: Tensor, target: Tensor) -> Tensor:
    """Of the score with respect to the image, (B, C, *S); samples do not mix."""
    image = image.detach().requires_grad_()
    return torch.autograd.grad(score(net(image), target).sum(), image)[0]


def maps_and_gradient(net: nn.Module, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Feature maps (B, F, *s) and the gradient of the score with respect to them."""
    with torch.no_grad():
        maps: Tensor = net.trunk(image)  # type: ignore[operator]
    maps = maps.detach().requires_grad_()
    return maps.detach(), torch.autograd.grad(score(net.classify(maps), target).sum(), maps)[0]  # type: ignore[operator]


def enlarged(heat: Tensor, sides: torch.Size) -> Tensor:
    """A coarse heat (B, *s) on the grid of the image, linearly, voxels edge to edge."""
    mode = "bilinear" if len(sides) == 2 else "trilinear"
    return F.interpolate(heat[:, None], tuple(sides), mode=mode, align_corners=False)[:, 0]


def over_space(value: Tensor, like: Tensor) -> Tensor:
    """(B, ...) with axes of length 1 appended until it broadcasts over `like`."""
    return value.reshape(*value.shape, *[1] * (like.ndim - value.ndim))
