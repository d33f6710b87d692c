"""The quick reader of plain DICOM headers against pydicom, which must say the same of sound, odd and broken files alike."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.data import data_folder
from tests.unit.io.dicom_maker import plain
from vesalius.io.formats.dicom import elements, files, heads
from vesalius.io.formats.dicom.tags import TAGS

PICTURE = np.arange(12, dtype=np.uint16).reshape(3, 4)
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


def content(data):
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def said(body):
    """All that is asked of a header, or the error that tells why there is none; and whether pydicom was left out."""
    part = files.Part("x.dcm", lambda: io.BytesIO(body), len(body), lambda: body[:132])
    try:
        head = heads.read_head(Path("folder"), part)
        known = {keyword: _asked(head, keyword) for keyword in TAGS}
        return (head.pixels, head.offset, head.length, head.syntax, heads.words(head), known), isinstance(head.data, elements.Elements)
    except Exception as problem:  # pydicom's own, too, which `guarded` puts into words
        return str(problem), False


def _asked(head, keyword):
    """Whether it is there; as text (or the texts, or the kinds of items); and as numbers, if it is any."""
    told = [keyword in head.data]
    for ask in (lambda: _plainly(head.get(keyword)), lambda: head.numbers(keyword)):
        try:
            told.append(ask())
        except Exception as problem:
            told.append(str(problem))
    return told


def _plainly(value):
    if hasattr(value, "__iter__") and not isinstance(value, str | bytes | Dataset):
        return [_plainly(one) for one in value]
    if isinstance(value, Dataset):
        return "item"
    return value if isinstance(value, str | bytes) or value is None else float(value)


def test_tags_are_those_of_the_dictionary():
    assert {keyword: (tag_for_keyword(keyword), dictionary_VR(tag_for_keyword(keyword)).encode()) for keyword in TAGS} == TAGS
    assert {*heads.WORDS, "Rows", "PixelSpacing", "SegmentSequence"} <= set(TAGS)


def by_pydicom(body, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(elements, "read", lambda *_: None)
        return said(body)[0]


def loaded(seed, syntax):
    """An object with whatever may stand in a header: private elements, sequences in sequences, empty and padded values, lists, accents."""
    random = np.random.default_rng(seed)
    data = plain(PICTURE, syntax=syntax, RescaleSlope="1.50", RescaleIntercept=" -1024 ", WindowCenter=["40", "-600"], ProtocolName="")
    choices = {
        "SpecificCharacterSet": ["ISO_IR 100", "ISO_IR 192", "ISO_IR 144", ["", "ISO 2022 IR 87"]],
        "SeriesDescription": ["head ", " neck", "K\u00f6pfe", "a\\b ", "~", ""],
        "ImageType": [["ORIGINAL", "PRIMARY", "AXIAL "], "DERIVED"],
        "AcquisitionTime": ["113906.162021", "", "noon"],
        "SliceThickness": ["2.5", "", "2,5", "1e-1"], "InstanceNumber": ["7", "", "-3"],
        "ImagePositionPatient": [["-1.5", "2", "3e1"], ["1", "2"]],
        "DiffusionBValue": [1000.0, [0.5, 2.0]], "PatientAge": ["083Y"], "SeriesDate": ["20080918"], "PixelPaddingValue": [0, 1],
    }  # fmt: skip
    for keyword, values in choices.items():
        if random.random() < 0.7:
            value = values[random.integers(len(values))]
            _raw(data, keyword, value) if value in ("2,5", "noon") else setattr(data, keyword, value)
    group = data.private_block(0x0019, "MAKER", create=True)
    group.add_new(1, "OB", bytes(random.integers(0, 256, 2 * int(random.integers(20)), dtype=np.uint8)))
    group.add_new(2, "SQ", nested(random))
    data.ReferencedImageSequence, data.ModalityLUTSequence = nested(random), nested(random)
    return data


def _raw(data, keyword, value):
    """What a broken writer writes, past pydicom's checks."""
    element = DataElement(keyword, "LO", value)
    element.VR = dictionary_VR(keyword)
    data.add(element)


def nested(random, depth=0):
    """Items of defined or undefined length, in a sequence of either."""
    found = Sequence()
    for _ in range(random.integers(3)):
        item = Dataset()
        item.ReferencedSOPInstanceUID, item.Rows = "1.2.3", 77
        if depth < 3:
            item.ReferencedSeriesSequence = nested(random, depth + 1)
        item.is_undefined_length_sequence_item = bool(random.integers(2))
        found.append(item)
    found.is_undefined_length = bool(random.integers(2))
    return found


def _alike(found, expected):
    if isinstance(found, tuple) and isinstance(expected, tuple):
        assert found[:-1] == expected[:-1]
        assert {key: (value, expected[-1][key]) for key, value in found[-1].items() if value != expected[-1][key]} == {}
    assert found == expected


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_pydicom_says(syntax, monkeypatch):
    quick = 0
    for seed in range(40):
        body = content(loaded(seed, syntax))
        found, without_pydicom = said(body)
        _alike(found, by_pydicom(body, monkeypatch))
        quick += without_pydicom
    assert quick == 40


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_files_cut_anywhere_are_told_as_before(syntax, monkeypatch):
    body = content(loaded(5, syntax))
    end = body.index(struct.pack("<HH", 0x7FE0, 0x0010)) + 12
    for cut in range(0, end, 3):
        _alike(said(body[:cut])[0], by_pydicom(body[:cut], monkeypatch))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_damaged_bytes_are_told_as_before(syntax, monkeypatch):
    random = np.random.default_rng(2)
    for seed in range(300):
        body = np.frombuffer(content(loaded(seed % 7, syntax)), np.uint8).copy()
        spots = random.integers(128, len(body), int(random.integers(1, 4)))
        body[spots] = random.integers(0, 256, len(spots))
        _alike(said(body.tobytes())[0], by_pydicom(body.tobytes(), monkeypatch))


def test_real_headers(monkeypatch):
    """Every seventh object of the zoo."""
    with zipfile.ZipFile(data_folder("dicom_zoo") / "zoo.zip") as box:
        bodies = [box.read(info) for info in box.infolist()[::7] if not info.is_dir()]
    pairs = [said(body) for body in bodies]
    assert sum(quick for _, quick in pairs) > len(bodies) / 4
    for body, (found, _) in zip(bodies, pairs, strict=True):
        _alike(found, by_pydicom(body, monkeypatch))


def test_items_in_items_without_end_are_left_to_pydicom():
    body = content(plain(PICTURE))
    at = body.index(struct.pack("<HH2s", 0x0028, 0x0002, b"US"))
    opened = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, elements.UNDEFINED) + struct.pack("<HHL", 0xFFFE, 0xE000, elements.UNDEFINED)
    assert elements.read(io.BytesIO(body[:at] + 100_000 * opened), {}, dict) is None


def test_a_header_longer_than_one_look_is_read(monkeypatch):
    data = plain(PICTURE)
    data.private_block(0x0009, "MAKER", create=True).add_new(1, "OB", bytes(100_000))
    found, quick = said(content(data))
    assert quick
    _alike(found, by_pydicom(content(data), monkeypatch))
