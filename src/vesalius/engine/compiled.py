"""Networks that torch compiles as they learn (torch.compile; Ansel et al. 2024, PyTorch 2): what stands between two convolutions becomes
one pass over memory. Off unless the plan says so: compiling takes its time in the first step, and has to pay for it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vesalius.core.errors import UsageError

Heads = Callable[[Tensor], list[Tensor]]


def compiled(net: nn.Module, say: Callable[[str], None]) -> None:
    """From now on `net.heads(image)` runs compiled, with the same weights under the same names; where torch cannot compile it
    (no C++ compiler, an operation that it does not know), that is said once and the network learns as it is. UsageError for networks of
    methods that learn from images alone."""
    if not hasattr(net, "heads"):
        raise UsageError("train.compile is for networks that learn from targets. Plan without it: --set train.compile=false")
    plain: Heads = net.heads  # type: ignore[assignment]
    quick: Heads = torch.compile(plain, dynamic=False)

    def heads(image: Tensor) -> list[Tensor]:
        try:
            return quick(image)
        except torch._dynamo.exc.TorchDynamoException as problem:
            net.heads = plain  # type: ignore[assignment]
            say(f"The network could not be compiled ({type(problem).__name__}) and learns as it is. Is there a C++ compiler, g++ or clang?")
            return plain(image)

    net.heads = heads  # type: ignore[assignment]
