"""What a DICOM object says of itself: read without its pixels, judged, and put into words."""

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, Literal

from vesalius.core.errors import FormatError
from vesalius.io.formats.dicom import elements
from vesalius.io.formats.dicom.files import Part
from vesalius.io.formats.dicom.tags import TAGS
from vesalius.io.guard import REMEDY

# Storage classes that hold no pixels of an image, and what a user can do with them.
_NO_IMAGE = {
    "SR": "a structured report: text and measurements",
    "PR": "a presentation state: how another image is to be shown",
    "KO": "a key object selection: references to other images",
    "RTPLAN": "a radiotherapy plan",
    "RTRECORD": "a radiotherapy treatment record",
    "RTSTRUCT": "a radiotherapy structure set: contours on another image",
    "REG": "a registration: a transform between other images",
    "FID": "spatial fiducials",
    "RWV": "a real-world value mapping for another image",
    "ANN": "microscopy annotations on another image",
    "ECG": "a waveform",
    "DOC": "an encapsulated document",
    "M3D": "an encapsulated 3D model",
}
_NATIVE = (elements.IMPLICIT, elements.EXPLICIT, "1.2.840.10008.1.2.2")

# DICOM keyword -> our word, for what a data set, a planner or a reader may ask.
WORDS = {
    "Modality": "modality", "PatientID": "patient", "PatientSex": "sex", "PatientAge": "age", "PatientWeight": "weight",
    "StudyInstanceUID": "study", "SeriesInstanceUID": "series", "SeriesNumber": "series_number",
    "SeriesDescription": "description", "StudyDescription": "study_description", "ProtocolName": "protocol",
    "BodyPartExamined": "body_part", "ViewPosition": "view", "Manufacturer": "manufacturer",
    "ManufacturerModelName": "scanner", "InstitutionName": "site", "MagneticFieldStrength": "field_strength",
    "RepetitionTime": "repetition_time", "EchoTime": "echo_time", "InversionTime": "inversion_time", "FlipAngle": "flip_angle",
    "KVP": "tube_voltage", "ConvolutionKernel": "kernel", "ContrastBolusAgent": "contrast", "SliceThickness": "slice_thickness",
    "Units": "units", "RescaleType": "rescale_type", "WindowCenter": "window_centre", "WindowWidth": "window_width",
    "PixelPaddingValue": "padding", "BurnedInAnnotation": "burned_in",
}  # fmt: skip

_WANTED: elements.Tags = {tag: (keyword, vr) for keyword, (tag, vr) in TAGS.items()}


@dataclass(frozen=True)
class Head:
    """One object: what it says without its pixels (`get` and `in`, as of pydicom's dataset), where it came from, and where its
    pixels begin."""

    part: Part
    data: Any
    pixels: str  # keyword of the pixel element, "" where there is none
    offset: int  # first byte of native pixels in the file, -1 where they are compressed or absent
    length: int  # bytes of them
    known: dict[str, tuple[float, ...] | None] = field(default_factory=dict, repr=False)  # numbers asked for before: pydicom is slow

    def get(self, keyword: str, default: Any = None) -> Any:
        """The value of an element; `default` where it is absent or empty."""
        value = self.data.get(keyword)
        return default if value is None or value == "" or (hasattr(value, "__len__") and len(value) == 0) else value

    def numbers(self, keyword: str) -> tuple[float, ...] | None:
        """A multi-valued number; None where it is absent or empty."""
        if keyword not in self.known:
            self.known[keyword] = numbers(self.data, keyword)
        return self.known[keyword]

    def whole(self, keyword: str, default: int) -> int:
        """One whole number; `default` where it is absent or empty."""
        found = self.numbers(keyword)
        return int(found[0]) if found else default

    @property
    def modality(self) -> str:
        return str(self.get("Modality", ""))

    @property
    def series(self) -> str:
        return str(self.get("SeriesInstanceUID", ""))

    @property
    def frames(self) -> int:
        return max(1, self.whole("NumberOfFrames", 1))

    @property
    def samples(self) -> int:
        return self.whole("SamplesPerPixel", 1)

    @cached_property
    def photometric(self) -> str:
        return str(self.get("PhotometricInterpretation", "MONOCHROME2"))

    @property
    def dataset(self) -> Any:
        """pydicom's dataset without pixels."""
        return self.data.dataset if isinstance(self.data, elements.Elements) else self.data

    @cached_property
    def syntax(self) -> str:
        return self.data.syntax if isinstance(self.data, elements.Elements) else str(self.data.file_meta.TransferSyntaxUID)

    @property
    def native(self) -> bool:
        return self.syntax in _NATIVE


def numbers(data: Any, keyword: str) -> tuple[float, ...] | None:
    """`keyword` of any dataset as finite floats; None where it is absent or empty, an error where it is no number."""
    try:
        value = data.get(keyword)
        if value is None or value == "":
            return None
        several = value if hasattr(value, "__iter__") and not isinstance(value, str | bytes) else [value]
        found = tuple(float(v) for v in several)
    except (TypeError, ValueError, OverflowError) as problem:
        raise FormatError(f"the element {keyword} is not a number ({problem}). Export the object again.") from None
    if not all(map(isfinite, found)):
        raise FormatError(f"the element {keyword} is {found}, which is not finite. Export the object again.")
    return found or None


def spot(place: Path, part: Part) -> Path:
    """Where `part` lies, for messages."""
    return place if part.name == place.name else place / part.name


def read_head(place: Path, part: Part) -> Head:
    """The object of `part` up to its pixels."""
    where = spot(place, part)

    def again() -> Any:
        with part.open() as file:
            return _parsed(where, file)[0]

    with part.open() as file:
        plain = elements.read(file, _WANTED, again)
        if plain is not None:
            return Head(part, plain, *plain.pixels)
        file.seek(0)
        return Head(part, *_parsed(where, file))


def _parsed(where: Path, file: BinaryIO) -> tuple[Any, str, int, int]:
    """pydicom's dataset up to the pixels; keyword of those, their first byte and their number of bytes, as a Head has them."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(TAGS))
        if not data.file_meta and not len(data):
            raise FormatError(f"{where} holds no DICOM elements. {REMEDY}")
        _name_syntax(data)
        return data, *_find_pixels(file, data)
    except (InvalidDicomError, EOFError, OSError, ValueError, KeyError, AttributeError, NotImplementedError, TypeError) as problem:
        raise FormatError(f"{where} cannot be read as DICOM: {str(problem).splitlines()[0]}. {REMEDY}") from problem


def _name_syntax(data: Any) -> None:
    """Files from before part 10 do not name their transfer syntax; pydicom has found out the encoding."""
    meta = data.file_meta
    if "TransferSyntaxUID" not in meta:
        implicit, little = data.original_encoding
        meta.TransferSyntaxUID = _NATIVE[0] if implicit else _NATIVE[1] if little else _NATIVE[2]


def _find_pixels(file: BinaryIO, data: Any) -> tuple[str, int, int]:
    """(keyword, offset, length) of the pixel element at which reading stopped."""
    implicit, little = data.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    if str(data.file_meta.TransferSyntaxUID) == "1.2.840.10008.1.2.1.99":  # deflated: the place in the file says nothing
        return ("PixelData", -1, -1) if "Rows" in data else ("", -1, -1)
    head = file.read(12)
    if len(head) < 8:
        return "", -1, -1
    tag = int.from_bytes(head[0:2], order) << 16 | int.from_bytes(head[2:4], order)
    if tag not in elements.PIXELS:
        return "", -1, -1
    size = 8 if implicit else 12
    length = int.from_bytes(head[size - 4 : size], order)
    known = length != elements.UNDEFINED
    return elements.PIXELS[tag], file.tell() - len(head) + size if known else -1, length if known else -1


def what_else(head: Head) -> str:
    """In words, what an object without image pixels is; "" for an image."""
    if "Rows" in head.data and "Columns" in head.data and head.pixels and "DirectoryRecordSequence" not in head.data:
        return ""
    sop = head.dataset.get("SOPClassUID")
    name = str(getattr(sop, "name", "")) or "an object without a storage class"
    kind = str(head.dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    if kind == "1.2.840.10008.1.3.10" or "DirectoryRecordSequence" in head.data:
        return "a DICOMDIR, the index of a folder, which holds no pixels itself"
    if head.modality in _NO_IMAGE and not head.pixels:
        told = _NO_IMAGE[head.modality]
        return f"{told} ({name}), which holds no pixels"
    if not head.pixels:
        return f"{name}, which holds no pixels"
    return f"{name} without rows and columns"


def words(head: Head) -> dict[str, Any]:
    """Our words for what the object says, as plain Python values."""
    found: dict[str, Any] = {}
    for keyword, word in WORDS.items():
        with suppress(ValueError, TypeError, OverflowError, LookupError):  # one broken element costs its own word only
            value = head.get(keyword)
            if value is not None:
                found[word] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return str(value).strip()
    if hasattr(value, "__iter__"):
        return [_plain(v) for v in value]
    return int(value) if float(value).is_integer() else float(value)
