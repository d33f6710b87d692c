import re
from base64 import b64decode
from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Picture

from vesalius.data.labels import IGNORE, Labels
from vesalius.report.cases import chosen
from vesalius.report.pictures import (
    HEIGHT,
    Scene,
    View,
    as_bytes,
    clearest_channel,
    contours,
    cropped,
    draw,
    embedded,
    is_thin,
    luminance,
    slice_with_most,
    views,
)


def box(shape: tuple[int, ...], *sides: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*s) for s in sides)] = True
    return mask


def points(d: str) -> list[np.ndarray]:
    return [np.array([p.split() for p in part.strip("MZ").split("L")], float) for part in d.split("Z") if part]


def area(line: np.ndarray) -> float:
    x, y = line.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def test_a_contour_encloses_its_mask():
    """Marching squares cut the four corners of a rectangle by half a half-voxel each: area = w h - 4 / 8."""
    (line,) = points(contours(box((20, 30), (5, 12), (4, 10)), (1, 1)))
    assert len(line) == 8 and area(line) == pytest.approx(7 * 6 - 0.5)
    assert (line.min(0), line.max(0)) == (pytest.approx([4, 5]), pytest.approx([10, 12]))  # x is the column, voxel edges are whole
    (wide,) = points(contours(box((20, 30), (5, 12), (4, 10)), (2, 10)))
    assert wide.max(0) == pytest.approx([100, 24])


def test_a_contour_at_the_border_is_closed_and_holes_have_their_own():
    ring = box((10, 10), (0, 10), (0, 10)) & ~box((10, 10), (4, 6), (4, 6))
    assert sorted(area(line) for line in points(contours(ring, (1, 1)))) == pytest.approx([4 + 0.5, 100 - 0.5], abs=1.1)
    assert contours(np.zeros((4, 4), bool), (1, 1)) == ""


def test_the_slice_with_most_is_found():
    mask = box((8, 8, 8), (2, 5), (3, 4), (1, 7))
    mask[3, 2:7, 4] = True
    assert [slice_with_most(mask, axis) for axis in range(3)] == [3, 3, 4]
    assert slice_with_most(np.zeros((9, 4, 4), bool), 0) == 4


def test_planes_are_shown_as_radiologists_read_them():
    """A mark at the patient's right, front and head (RAS+: the high ends) lies at the left and top of each picture."""
    image = np.zeros((1, 10, 12, 14), np.float32)
    image[0, 9, 11, 13] = 1
    truth = box((1, 10, 12, 14), (0, 1), (9, 10), (11, 12), (13, 14)).astype(np.uint8)
    truth[0, 0, 0, 0] = IGNORE
    axial, coronal, sagittal = views(Scene(image, truth, None, (1.0, 1.0, 1.0), Labels(names=("x",), values=((1,),))))
    for view in (axial, coronal, sagittal):
        row, column = np.unravel_index(view.image.argmax(), view.image.shape)
        assert (row, column) == (0, 0)
        assert view.truth is not None and view.truth[0, 0, 0]
    assert [(v.left, v.top) for v in (axial, coronal, sagittal)] == [("R", "A"), ("R", "S"), ("A", "S")]
    assert axial.title == "axial, slice 14 of 14"


def test_the_picture_is_cropped_around_what_is_marked_but_keeps_surroundings():
    truth = box((1, 90, 120), (0, 1), (40, 50), (30, 60))
    view = cropped(View("", np.zeros((90, 120), np.float32), truth, None, (1.0, 1.0)))
    assert view.truth is not None and view.truth.sum() == 300
    assert view.image.shape == (58, 58)
    nothing = View("", np.zeros((90, 120), np.float32), np.zeros((1, 90, 120), bool), None, (1.0, 1.0))
    assert cropped(nothing).image.shape == (90, 120)


def test_an_anisotropic_picture_has_the_proportions_of_the_body():
    truth = box((1, 10, 40), (0, 1), (2, 8), (5, 30))
    drawing = draw(View("t", np.random.default_rng(0).random((10, 40)), truth, truth, (10.0, 2.5)), ["heart"])
    assert drawing.aspect == pytest.approx(1.0, abs=0.01)
    assert drawing.markup.count("<path") == 2 and "<title>heart, truth</title>" in drawing.markup
    uri = re.search(r'href="data:image/png;base64,([^"]+)"', drawing.markup)
    assert uri is not None and Picture.open(BytesIO(b64decode(uri[1]))).size == (HEIGHT, HEIGHT)


def test_labels_that_are_not_in_the_slice_are_not_drawn():
    masks = np.stack([box((9, 9), (2, 5), (2, 5)), np.zeros((9, 9), bool)])
    assert draw(View("t", np.zeros((9, 9)), masks, None, (1.0, 1.0)), ["a", "b"]).markup.count("<path") == 1
    assert 'class="outline hue0"' in draw(View("t", np.zeros((9, 9)), masks, None, (1.0, 1.0)), ["a", "b"], by_label=True).markup


def test_vessels_get_thin_lines_and_organs_do_not():
    assert is_thin(box((100, 100), (10, 90), (50, 53)), (3.0, 3.0))
    assert not is_thin(box((100, 100), (10, 90), (20, 70)), (3.0, 3.0))


def test_the_clearest_channel_is_the_one_with_contrast():
    rng, inside = np.random.default_rng(1), box((20, 20, 20), (6, 12), (6, 12), (6, 12))
    image = rng.normal(0, 1, (3, 20, 20, 20)).astype(np.float32)
    image[1][inside] += 4
    assert clearest_channel(image, inside) == 1
    assert clearest_channel(image, np.zeros_like(inside)) == 0


def test_grey_is_stretched_and_colour_stays():
    ramp = np.linspace(-1000, 2000, 10000, dtype=np.float32).reshape(100, 100)
    made = as_bytes(ramp)
    assert made.dtype == np.uint8 and (made.min(), made.max()) == (0, 255)
    colour = np.full((4, 4, 3), (250.0, 100.0, 10.0), np.float32)
    assert (as_bytes(colour) == (250, 100, 10)).all()
    assert luminance(colour)[0, 0] == pytest.approx(0.299 * 250 + 0.587 * 100 + 0.114 * 10)
    assert as_bytes(np.full((4, 4), np.nan)).max() == 0
    assert embedded(as_bytes(colour), (8, 8)).startswith("data:image/jpeg;base64,")


def test_predictions_are_read_as_they_were_written():
    labels = Labels(names=("whole", "core"), values=((1, 2), (2,)), kind="regions")
    coded = np.array([[[1, 1, 0]], [[0, 1, 0]]], np.uint8)
    assert (labels.encode(labels.decode(coded)[None]) == coded).all()
    exclusive = Labels(names=("a", "b"), values=((5,), (7,)))
    indices = np.array([[[0, 1, 2]]], np.uint8)
    assert (exclusive.encode(exclusive.decode(indices)[None]) == indices).all()



def test_best_median_and_worst_are_chosen():
    rows = [{"case": f"c{k}", "label": "x", "dice": k / 10, "state": "scored"} for k in range(5)]
    assert [(role, case) for role, case, _ in chosen(rows, "dice")] == [("best", "c4"), ("median", "c2"), ("worst", "c0")]
    assert [(role, case) for role, case, _ in chosen(rows[:2], "dice")] == [("best", "c1"), ("worst", "c0")]
    assert [role for role, _, _ in chosen(rows[:1], "dice")] == ["only"]
    empty = {"case": "healthy", "label": "x", "dice": 1.0, "state": "both_empty"}
    assert chosen([*rows, empty], "dice")[0][1] == "c4" and chosen([empty], "dice") == []
