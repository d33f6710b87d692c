"""Samples that are only scaled, shifted and mirrored are sampled axis by axis: the same as in one go."""

import pytest
import torch

from vesalius.augment import Augment, Composed, _compose
from vesalius.augment._compose import along_axes
from vesalius.data.batch import Batch, Kind

STILL = {f"{name}_probability": 0.0 for name in ("noise", "blur", "brightness", "contrast", "low_resolution", "gamma", "gamma_inverted")}
PATCH, SOURCE, SPACING = (8, 9, 6), (12, 9, 11), (1.0, 1.3, 2.0)


def batch(dtype):
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(2, 2, *SOURCE, generator=draw).to(dtype)
    mask = torch.randint(0, 4, (2, 1, *SOURCE), generator=draw, dtype=torch.uint8)
    return Batch({"image": image, "mask": mask}, {"image": Kind.IMAGE, "mask": Kind.MASK})


@pytest.mark.parametrize("outside", ["zeros", "border"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_three_samplings_along_lines_are_one_in_space(outside, dtype, monkeypatch):
    settings = Augment(**STILL, mirror=(True,) * 3, scale=(0.5, 1.9), scale_probability=1.0, translation=0.4, translation_probability=1.0,
                       outside=outside)  # fmt: skip
    composed, given, both = Composed(settings, PATCH, SPACING), batch(dtype), {}
    assert all(along_axes(composed.draw(seed, {"image": 2}).matrix) for seed in range(8))
    monkeypatch.setattr(_compose, "show", lambda *_, **__: False)  # both ways are torch's
    for way, chosen in (("lines", along_axes), ("space", lambda matrix: False)):
        monkeypatch.setattr(_compose, "along_axes", chosen)
        both[way] = [composed(given, [seed, seed + 1]) for seed in range(0, 8, 2)]
    for lines, space in zip(both["lines"], both["space"], strict=True):
        assert torch.equal(lines["mask"], space["mask"]) and lines["mask"].dtype == torch.uint8
        # grid_sample counts places in single precision, and half precision rounds once more
        torch.testing.assert_close(lines["image"], space["image"], rtol=0, atol=2e-3 if dtype == torch.float16 else 2e-5)
        assert not torch.equal(lines["image"], given["image"][:, :, :8, :, :6])


def test_what_turns_goes_through_space():
    turned = Augment(**STILL, rotation=(30.0,) * 3, rotation_probability=1.0, scale_probability=1.0)
    assert not along_axes(Composed(turned, PATCH, SPACING).draw(1, {"image": 1}).matrix)
    flat = Augment(**STILL, scale_probability=1.0)
    assert not along_axes(Composed(flat, PATCH[:2], SPACING[:2]).draw(1, {"image": 1}).matrix)  # a plane is as fast in one go
