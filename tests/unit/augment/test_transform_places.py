"""Changes of place against flips, quarter turns, linear functions (which linear interpolation leaves exact) and matrix products."""

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from vesalius.augment import AUGMENT, Augment, Composed, Frame, stacked
from vesalius.augment.elastic import cubic_basis
from vesalius.data.batch import Batch, Kind
from vesalius.testing.check_transform import alone, build, example, quiet

IMAGE = {"image": Kind.IMAGE}


def fixed(composed, **parameters):
    """The transform of `composed` draws `parameters` every time."""
    alone(composed).parameters = lambda generator, frame: {name: torch.tensor(value) for name, value in parameters.items()}
    return composed


def ramp(composed, slope, extra):
    """A source `extra` voxels larger whose value is slope . place, in units of the finest voxel from the centre; and places."""
    frame, sides = composed.frame, [side + extra for side in composed.frame.shape]
    axes = [(torch.arange(n).double() - (n - 1) / 2) * step for n, step in zip(sides, frame.spacing, strict=True)]
    values = sum(s * place for s, place in zip(slope, torch.meshgrid(*axes, indexing="ij"), strict=True))
    inner = [(torch.arange(n).double() - (n - 1) / 2) * step for n, step in zip(frame.shape, frame.spacing, strict=True)]
    return Batch({"image": values[None, None]}, IMAGE), torch.stack(torch.meshgrid(*inner, indexing="ij"), -1)


@pytest.mark.parametrize("ndim", [2, 3])
def test_mirror_is_an_exact_flip_of_the_centre(ndim):
    composed, batch = build(AUGMENT.card("mirror"), ndim), example(ndim)
    seen = set()
    for seed in range(40):
        out, centre = composed(batch, [seed] * 4), composed.identity(batch)
        signs = composed.draw(seed, {"image": 2}).matrix.diagonal()[:-1]
        axes = [axis + 2 for axis, sign in enumerate(signs) if sign < 0]
        assert torch.equal(out["image"], centre["image"].flip(axes)) and torch.equal(out["mask"], centre["mask"].flip(axes))
        seen.add(tuple(axes))
    assert len(seen) == 2**ndim


def test_mirror_leaves_forbidden_axes_alone():
    composed = Composed(quiet(mirror=(False, True)), (24, 17), (1.0, 1.0))
    assert all(composed.draw(seed, {}).matrix[0, 0] == 1 for seed in range(20))


@pytest.mark.parametrize(("ndim", "axis"), [(2, 0), (3, 0), (3, 1), (3, 2)])
@pytest.mark.parametrize("extra", [0, 2])
def test_a_quarter_turn_is_rot90(ndim, axis, extra):
    angles = [0.0] * (1 if ndim == 2 else 3)
    angles[axis] = math.pi / 2
    composed = Composed(quiet(rotation=(90.0,) * len(angles), rotation_probability=1), (11,) * ndim, (1.0,) * ndim)
    batch = Batch({"image": torch.randn(2, 2, *(11 + extra,) * ndim, generator=torch.Generator().manual_seed(0))}, IMAGE)
    centre = composed.identity(batch)["image"]
    turned = fixed(composed, radians=angles)(batch, [0, 1])["image"]
    plane = {(2, 0): (0, 1), (3, 0): (1, 2), (3, 1): (2, 0), (3, 2): (0, 1)}[ndim, axis]
    expected = torch.rot90(centre, -1, [plane[0] + 2, plane[1] + 2])
    torch.testing.assert_close(turned, expected, rtol=0, atol=2e-5 * 11)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.7, 1.0)])
def test_rotation_happens_in_millimetres(spacing):
    composed = Composed(quiet(rotation=(30.0,) * 3, rotation_probability=1), (9, 14, 12), spacing)
    batch, places = ramp(composed, (0.3, -1.0, 0.5), 30)
    x, y, z = 0.2, -0.3, 0.25
    out = fixed(composed, radians=[x, y, z])(batch, [0])["image"][0, 0]
    about_0 = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    about_1 = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_2 = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    expected = (places.numpy() @ (about_0 @ about_1 @ about_2).T) @ np.array([0.3, -1.0, 0.5])
    np.testing.assert_allclose(out.numpy(), expected, atol=2e-4)


def test_angles_are_uniform_up_to_the_limit_of_each_axis():
    composed = Composed(quiet(rotation=(30.0, 0.0, 10.0), rotation_probability=1), (8, 8, 8), (1.0,) * 3)
    drawn = [alone(composed).parameters(torch.Generator().manual_seed(s), composed.frame)["radians"] for s in range(2000)]
    degrees = torch.stack(drawn).rad2deg()
    assert degrees[:, 0].abs().max() <= 30 and degrees[:, 2].abs().max() <= 10 and not degrees[:, 1].any()
    assert degrees[:, 0].std().item() == pytest.approx(60 / math.sqrt(12), rel=0.05)


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_scale_against_a_linear_field(factor):
    composed = Composed(quiet(scale=(0.7, 1.4), scale_probability=1), (16, 11), (1.0, 1.5))
    batch, places = ramp(composed, (1.0, -2.0), 16)
    out = fixed(composed, factor=factor)(batch, [0])["image"][0, 0]
    expected = factor * places @ torch.tensor([1.0, -2.0]).double()
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-4)


def test_translation_is_a_fraction_of_the_side():
    composed = Composed(quiet(translation=0.25, translation_probability=1), (16, 12), (1.0, 2.0))
    batch, places = ramp(composed, (1.0, 0.5), 16)
    out = fixed(composed, fractions=[0.25, -0.125])(batch, [0])["image"][0, 0]
    expected = (places + torch.tensor([0.25 * 16, -0.125 * 12 * 2.0])) @ torch.tensor([1.0, 0.5]).double()
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-4)


def test_elastic_moves_by_its_displacement():
    composed = Composed(quiet(elastic=3.0, elastic_probability=1), (16, 12, 10), (2.0, 1.0, 1.0))
    batch, places = ramp(composed, (1.0, 0.5, -0.7), 10)
    (parameters,) = composed.draw(5, {}).fields.values()
    field = alone(composed).displacement(stacked([parameters]), composed.frame)[0].movedim(0, -1)
    assert float(field.abs().max()) > 0.1
    expected = (places + field) @ torch.tensor([1.0, 0.5, -0.7]).double()
    torch.testing.assert_close(composed(batch, [5])["image"][0, 0], expected, rtol=0, atol=2e-4)


def test_spline_basis_is_scipys_and_a_partition_of_unity():
    basis = cubic_basis(37, 4).numpy()
    places = (np.arange(37) + 0.5) * 4 / 37
    np.testing.assert_allclose(basis, BSpline.design_matrix(places, np.arange(-3, 8), 3).toarray(), atol=1e-12)
    np.testing.assert_allclose(basis.sum(1), 1, atol=1e-12)


def everything(ndim=3, **changes):
    angles = (30.0,) * (3 if ndim == 3 else 1)
    chances = {f"{name}_probability": 1.0 for name in ("rotation", "scale", "translation")}
    return quiet(mirror=(True,) * ndim, rotation=angles, translation=0.1, **chances, **changes)


def test_all_matrices_are_composed_into_their_product_in_order():
    composed = Composed(everything(), (12, 10, 9), (1.0, 1.5, 1.0))
    assert [type(t).__name__ for t in composed.spatial] == ["Scale", "Rotation", "Translation", "Mirror"]
    generator = torch.Generator().manual_seed(7)
    product, _ = torch.eye(4, dtype=torch.float64), torch.rand(4, generator=generator)  # whether each of the four acts: all do
    for transform in composed.spatial:
        product = product @ transform.matrix(stacked([transform.parameters(generator, composed.frame)]), composed.frame)[0]
    torch.testing.assert_close(composed.draw(7, {"image": 1}).matrix, product, rtol=0, atol=1e-14)


def test_one_resampling_equals_one_after_another_up_to_interpolation():
    sides = (60, 60)
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(60.0), indexing="ij")
    image = torch.sin(y / 9) * torch.cos(x / 11)
    composed = Composed(everything(2), sides, (1.0, 1.0))
    generator = torch.Generator().manual_seed(3)
    torch.rand(len(composed.spatial), generator=generator)  # whether each acts: all do
    one_by_one = Batch({"image": image[None, None]}, IMAGE)
    for transform in composed.spatial:
        drawn = transform.parameters(generator, composed.frame)
        step = Composed(quiet(**type(transform).example(2)), sides, (1.0, 1.0))
        one_by_one = fixed(step, **{name: value.tolist() for name, value in drawn.items()})(one_by_one, [0])
    at_once = composed(Batch({"image": image[None, None]}, IMAGE), [3])["image"][0, 0]
    inner = (slice(22, 38), slice(22, 38))  # where no step looked outside
    torch.testing.assert_close(at_once[inner], one_by_one["image"][0, 0][inner], rtol=0, atol=0.02)


def test_outside_is_zero_or_the_border():
    for outside, expected in (("zeros", 0.0), ("border", 3.0)):
        composed = fixed(Composed(quiet(scale_probability=1, outside=outside), (20, 20), (1.0, 1.0)), factor=1.4)
        batch = Batch({"i": torch.full((1, 1, 20, 20), 3.0), "m": torch.full((1, 1, 20, 20), 5).byte()}, {"i": Kind.IMAGE, "m": Kind.MASK})
        out = composed(batch, [0])
        assert out["i"][0, 0, 0, 0] == expected and out["i"][0, 0, 10, 10] == 3 and out["m"][0, 0, 0, 0] == 0


def test_margin_holds_what_samples_look_at():
    assert Composed(quiet(mirror=(True, True)), (32, 48), (1.0, 1.0)).margin() == (0, 0)
    scaled = Composed(quiet(scale=(1.25, 1.25), scale_probability=1), (32, 48), (1.0, 1.0))
    assert scaled.margin() == (8, 12)
    shifted = Composed(quiet(translation=0.1, translation_probability=1), (40, 40), (1.0, 1.0))
    assert all(6 <= extra <= 8 and extra % 2 == 0 for extra in shifted.margin())
    wild = Composed(quiet(scale=(3.0, 4.0), scale_probability=1), (32, 47), (1.0, 1.0))
    assert wild.margin() == (16, 24)
    usual = Composed(Augment(rotation=(30.0, 30.0, 30.0)), (40, 56, 40), (1.0, 1.0, 1.0))
    batch = Batch({"image": torch.ones(1, 1, *(a + b for a, b in zip((40, 56, 40), usual.margin(), strict=True)))}, IMAGE)
    usual.intensity = []
    full = [bool((usual(batch, [seed])["image"] > 0.999).all()) for seed in range(240)]
    assert sum(full) >= 0.8 * 240  # the margin is at most half of the patch


def test_several_images_of_a_batch_move_alike():
    composed = Composed(everything(2), (16, 16), (1.0, 1.0))
    image = torch.randn(2, 1, 22, 22, generator=torch.Generator().manual_seed(0))
    kinds = {"a": Kind.IMAGE, "b": Kind.IMAGE}
    out = composed(Batch({"a": image, "b": image}, kinds), [1, 2])
    assert torch.equal(out["a"], out["b"])


def test_frame_knows_its_coarse_axes():
    assert Frame(1, (8, 8, 8), (5.0, 1.0, 1.0)).fine == (False, True, True)
    assert Frame(1, (8, 8, 8), (3.0, 1.0, 1.0)).fine == (True, True, True)
