"""Every file of the zoos, read and judged against a second reading: right, clear error, or wrong.

    python benchmarks/zoo.py [--json] [--all] [--data FOLDER]

The second reading shares no code with ours: nibabel (pixels and affine), pynrrd, pydicom's decoders with pixels and places computed
from the elements here, and highdicom for segmentations and whole slides. A file is *right* where shape, pixels (to float32) and
affine (1e-4 mm) agree; *error* where vesalius refuses it with a VesaliusError naming the file; *refused* where it does
so and the second reader gives pixels; *wrong* is everything else: another exception, other pixels, another place.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from vesalius import io
from vesalius.core.errors import VesaliusError

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def by_nibabel(path):
    import nibabel

    picture = nibabel.load(path.with_suffix(".PAR") if path.suffix == ".REC" else path)
    stored = picture.dataobj
    array = np.asarray(stored)
    if array.dtype.fields:
        return np.stack([array[name] for name in array.dtype.names]), picture.affine
    array = picture.get_fdata()
    array = np.squeeze(array, tuple(range(3, array.ndim))) if array.size == np.prod(array.shape[:3]) else array
    if array.ndim == 4:
        array = np.moveaxis(array, 0 if path.suffix == ".mnc" else 3, 0)
    return (array if array.ndim == 4 else array[None]), picture.affine


def by_pynrrd(path):
    import nrrd

    array, header = nrrd.read(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(header["space directions"])[-3:].T
    affine[:3, 3] = header["space origin"]
    return (array if array.ndim == 4 else array[None]), (LPS @ affine if header["space"].startswith("left-posterior") else affine)


def by_pydicom(path):
    """(pixels, affine or None): pixels in our order of axes from pydicom's, everything else from the elements."""
    import pydicom
    from pydicom.pixels import apply_color_lut, apply_modality_lut

    data = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in data.file_meta:
        data.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    if data.get("Modality") == "SEG" or "TotalPixelMatrixRows" in data:
        return by_highdicom(path, data)
    frames, colour = int(data.get("NumberOfFrames") or 1), int(data.get("SamplesPerPixel", 1)) > 1
    array = data.pixel_array
    array = array if frames > 1 else array[None]
    if data.PhotometricInterpretation == "PALETTE COLOR":
        array, colour = np.stack([apply_color_lut(frame, data) for frame in array]), True
    if data.PhotometricInterpretation == "MONOCHROME1":
        array = 2**data.BitsStored - 1 - array.astype(np.int64) if data.PixelRepresentation == 0 else -1 - array.astype(np.int64)
    if "DoseGridScaling" in data:
        array = array * float(data.DoseGridScaling)
    elif not colour and "PerFrameFunctionalGroupsSequence" not in data:
        array = apply_modality_lut(array, data)
    array = np.moveaxis(array, -1, 1) if colour else array[:, None]
    places = positions(data, frames)
    if places is None or frames == 1:
        return array.reshape(-1, *array.shape[2:]), flat_affine(data)
    return volume(data, array[:, 0].astype(float), places)


def group(data, frame, sequence):
    own = data.get("PerFrameFunctionalGroupsSequence", [None] * (frame + 1))[frame]
    for holder in (own, *data.get("SharedFunctionalGroupsSequence", [])):
        if holder is not None and sequence in holder:
            return holder[sequence][0]
    return None


def positions(data, frames):
    if "GridFrameOffsetVector" in data and frames > 1:
        first, offsets = np.array(data.ImagePositionPatient, float), np.array(data.GridFrameOffsetVector, float)
        return [first + np.array([0, 0, offset - offsets[0]]) for offset in offsets]
    found = [group(data, k, "PlanePositionSequence") for k in range(frames)] if "SharedFunctionalGroupsSequence" in data else []
    if not found or any(item is None or "ImagePositionPatient" not in item for item in found):
        return None
    return [np.array(item.ImagePositionPatient, float) for item in found]


def volume(data, array, places):
    """Frames in order along the normal of the plane; slope and intercept of each frame applied."""
    plane = group(data, 0, "PlaneOrientationSequence") or data
    across, down = np.array(plane.ImageOrientationPatient, float).reshape(2, 3)
    between = np.array((group(data, 0, "PixelMeasuresSequence") or data).PixelSpacing, float)
    for k in range(len(array)):
        value = group(data, k, "PixelValueTransformationSequence")
        if value is not None:
            array[k] = array[k] * float(value.RescaleSlope) + float(value.RescaleIntercept)
    order = np.argsort([place @ np.cross(across, down) for place in places])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * between[1], down * between[0]
    affine[:3, 2] = (places[order[-1]] - places[order[0]]) / (len(order) - 1)
    affine[:3, 3] = places[order[0]]
    return array[order].transpose(2, 1, 0)[None], LPS @ affine


def flat_affine(data):
    """2D: the spacing that any element states, or None where there is none that we know."""
    shared = group(data, 0, "PixelMeasuresSequence") if "SharedFunctionalGroupsSequence" in data else None
    spots = [(shared or data, "PixelSpacing"), (data, "PixelSpacing"), (data, "ImagerPixelSpacing"), (data, "NominalScannedPixelSpacing")]
    for holder, keyword in spots:
        if keyword in holder and holder[keyword].value:
            return np.diag([*map(float, holder[keyword].value), 1.0])
    regions = data.get("SequenceOfUltrasoundRegions", [])
    if len(regions) == 1 and regions[0].PhysicalUnitsXDirection == 3:
        return np.diag([regions[0].PhysicalDeltaY * 10, regions[0].PhysicalDeltaX * 10, 1.0])
    return np.eye(3)


def by_highdicom(path, data):
    import highdicom

    if "TotalPixelMatrixRows" in data:
        picture = highdicom.seg.segread(path) if data.Modality == "SEG" else highdicom.imread(path)
        options = {"combine_segments": data.SegmentationType == "LABELMAP"} if data.Modality == "SEG" else {}
        array = np.asarray(picture.get_total_pixel_matrix(**options))
        spacing = data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
        return (array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)), np.diag([*map(float, spacing), 1.0])
    if not data.original_encoding[1]:  # big endian, which highdicom does not read: one segment, every slice stored
        frames = int(data.get("NumberOfFrames") or 1)
        return one_segment(data, np.atleast_3d(data.pixel_array) if frames > 1 else data.pixel_array[None], positions(data, frames))
    picture = highdicom.seg.segread(path)
    labels = data.SegmentationType == "LABELMAP"
    if positions(data, int(data.get("NumberOfFrames") or 1)) is None:
        return data.pixel_array.reshape(-1, data.Rows, data.Columns), np.eye(3)
    found = picture.get_volume(combine_segments=labels)
    array = found.array[..., None] if labels else found.array  # (slices, rows, columns, segments), slices in whatever direction
    array, affine = array.transpose(3, 2, 1, 0), LPS @ found.affine[:, [2, 1, 0, 3]]
    if np.linalg.det(affine[:3, :3]) < 0:  # ours has slices along the normal
        affine[:3, 3] += affine[:3, 2] * (array.shape[3] - 1)
        affine[:3, 2] *= -1
        array = array[..., ::-1]
    return array, affine


def one_segment(data, array, places):
    assert len(data.SegmentSequence) == 1
    if len(places) > 1:
        return volume(data, array, places)
    measures = group(data, 0, "PixelMeasuresSequence")
    across, down = np.array(group(data, 0, "PlaneOrientationSequence").ImageOrientationPatient, float).reshape(2, 3)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = across * float(measures.PixelSpacing[1]), down * float(measures.PixelSpacing[0])
    affine[:3, 2], affine[:3, 3] = np.cross(across, down) * float(measures.get("SpacingBetweenSlices", measures.SliceThickness)), places[0]
    return array.transpose(2, 1, 0)[None], LPS @ affine


def second(path):
    if path.suffix == ".nrrd":
        return by_pynrrd(path)
    by = by_nibabel if path.parent.name == "nifti_zoo" else by_pydicom
    return by(path)


def judge(path):
    """(verdict, what is told)."""
    try:
        ours, header = io.load(path), io.header(path)
    except VesaliusError as problem:
        return ("refused" if has_pixels(path) else "error"), str(problem).replace(str(path), path.name)
    except Exception as problem:
        return "wrong", f"{type(problem).__name__}: {problem}"
    try:
        array, affine = second(path)
    except Exception as problem:
        return "wrong", f"read, but the second reader fails: {type(problem).__name__}: {problem}"
    if ours.array.shape != array.shape or header.space.shape != ours.space.shape or header.channels != ours.channels:
        return "wrong", f"shape {ours.array.shape}, expected {array.shape}"
    if header.dtype != ours.array.dtype.name:
        return "wrong", f"header says {header.dtype}, pixels are {ours.array.dtype}"
    if not np.allclose(ours.array, array, rtol=1e-6, atol=1e-6, equal_nan=True):
        return "wrong", f"pixels differ by up to {np.nanmax(np.abs(ours.array.astype(float) - array)):g}"
    if ours.space.affine.shape != affine.shape or not np.allclose(ours.space.affine, affine, atol=1e-4):
        return "wrong", f"affine {ours.space.affine.round(4).tolist()}, expected {np.round(affine, 4).tolist()}"
    sides = " x ".join(map(str, ours.array.shape))
    return "right", f"{sides} {ours.array.dtype}"


def has_pixels(path):
    try:
        return second(path)[0].size > 0
    except Exception:
        return False


def files(data):
    """(kind, path) of every file; DICOM is unpacked into a temporary folder that lives as long as the generator."""
    for path in sorted((data / "nifti_zoo").glob("*")):
        if path.name != "dataset.json":
            yield kind(path), path
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(data / "dicom_zoo" / "zoo.zip") as box:
        box.extractall(folder)
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                yield kind(path), path


def kind(path):
    name = path.name.lower()
    endings = {".nrrd": "NRRD", ".mnc": "MINC", ".mgz": "MGH", ".par": "PAR/REC", ".rec": "PAR/REC"}
    if path.parent.name == "nifti_zoo":
        return endings.get(path.suffix.lower(), "NIfTI, Analyze" if not name.endswith(".dconn.nii") else "CIFTI")
    return endings.get(path.suffix.lower(), "DICOM")


def run(data, *, every=1):
    """One row per file, for each `every`th file."""
    warnings.simplefilter("ignore")
    rows = []
    for number, (what, path) in enumerate(files(data)):
        if number % every == 0:
            verdict, told = judge(path)
            rows.append({"kind": what, "file": path.name, "verdict": verdict, "told": told})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("VESALIUS_DATA") or Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of nifti_zoo and dicom_zoo")
    parser.add_argument("--all", action="store_true", help="a line for every file, not only those that are not right")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.data / "dicom_zoo" / "zoo.zip").is_file():
        sys.stderr.write(f"zoo: needs nifti_zoo and dicom_zoo in {options.data} (set $VESALIUS_DATA); skipped\n")
        return
    rows = run(options.data)
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        if options.all or row["verdict"] != "right":
            print(f"{row['verdict']:<8} {row['kind']:<15} {row['file']:<48} {row['told'].splitlines()[0][:150]}")
    count = Counter((row["kind"], row["verdict"]) for row in rows)
    columns = ("right", "error", "refused", "wrong")
    print(f"\n{'kind':<16}" + "".join(f"{c:>9}" for c in columns))
    for what in sorted({row["kind"] for row in rows}):
        print(f"{what:<16}" + "".join(f"{count[what, c]:>9}" for c in columns))
    print(f"{'all':<16}" + "".join(f"{sum(row['verdict'] == c for row in rows):>9}" for c in columns))


if __name__ == "__main__":
    main()
