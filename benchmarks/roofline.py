"""What the convolutions of our U-Net cost by themselves, beside what this processor can do at best: the least that a step can take.

    python benchmarks/roofline.py [--patch 40 56 40] [--batch 2] [--channels 1] [--rounds 5]

The ceiling is a matrix product of 1024 x 1024 in oneDNN, in fp32 and in bf16. Then every convolution of the network is timed alone, on maps
of its own sizes, forward and (for a step) backward, in fp32 with channels apart as others run it and in bf16 with channels together as ours
does, and the shortest of its rounds is added up. Nothing else is in it: no norm, no loss, no optimiser. A step cannot take less than its
convolutions, so the time that another tool takes for a step over this is the most that a step in bf16 could be ahead of it.
"""

import argparse
from math import prod

from _side_by_side import Turn, alone, keep, timed


def layers(options):
    """(layer, the shape that it is given) of every convolution of the network, in order."""
    import torch
    from torch import nn

    from vesalius.nets.unet import UNet

    torch.manual_seed(0)
    net, found = UNet(3, options.channels, 3).eval(), []
    for layer in net.modules():
        if isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
            layer.register_forward_hook(lambda layer, given, out: found.append((layer, tuple(given[0].shape))))
    with torch.no_grad():
        net.heads(torch.zeros(options.batch, options.channels, *options.patch))
    return found


def operations(layer, shape):
    """Multiplications and additions of one layer forward."""
    voxels = shape[0] * prod(shape[2:])
    voxels //= 1 if layer.transposed else prod(layer.stride)
    return 2 * voxels * prod(layer.kernel_size) * layer.in_channels * layer.out_channels


def shortest(call, rounds):
    """The turn of least processor time."""
    call()
    return min((timed(call)[0] for _ in range(rounds)), key=lambda turn: turn.cpu)


def measured(found, options, *, low, learning):
    """Seconds of all convolutions, one by one; the first is not asked for the gradient of the image."""
    import torch

    total = Turn(0.0, 0.0)
    for number, (layer, shape) in enumerate(found):
        layout = torch.channels_last_3d if low else torch.contiguous_format
        kind = torch.bfloat16 if low else torch.float32
        own = layer.to(kind, memory_format=layout)
        x = torch.randn(shape).to(kind).contiguous(memory_format=layout).requires_grad_(learning and number > 0)
        with torch.no_grad():
            push = torch.randn_like(own(x))

        def once(own=own, x=x, push=push):
            with torch.set_grad_enabled(learning):
                out = own(x)
            if learning:
                out.backward(push)

        turn = shortest(once, options.rounds)
        total = Turn(total.wall + turn.wall, total.cpu + turn.cpu)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patch", type=int, nargs=3, default=[40, 56, 40])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    found, made, ceiling = layers(options), [], {}
    for low, name in ((False, "fp32"), (True, "bf16")):
        square = torch.randn(1024, 1024).to(torch.bfloat16 if low else torch.float32)
        turn = shortest(lambda square=square: square @ square, options.rounds)
        ceiling[low] = 2 * 1024**3 / turn.cpu
        made.append(alone(f"matrix product of 1024 x 1024, {name}", [turn], check=f"{ceiling[low] / 1e9:.0f} GFLOP/s"))
    forward = sum(operations(*one) for one in found)
    for learning, work in ((True, "step"), (False, "pass")):
        amount = 3 * forward - operations(*found[0]) if learning else forward
        for low, name in ((False, "fp32"), (True, "bf16")):
            turn = measured(found, options, low=low, learning=learning)
            told = f"{amount / 1e9:.1f} GFLOP; {amount / turn.cpu / 1e9:.0f} GFLOP/s, {amount / turn.cpu / ceiling[low]:.0%} of the product"
            size = f"{options.batch} patches of {' x '.join(map(str, options.patch))}, {options.channels} channels"
            made.append(alone(f"convolutions alone, {work}, {size}, {name}", [turn], check=told))
    keep("roofline", made, title="What convolutions cost by themselves")


if __name__ == "__main__":
    main()
