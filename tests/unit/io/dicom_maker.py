"""DICOM objects for tests, written by pydicom element by element."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, generate_uid

AXIAL = (1, 0, 0, 0, 1, 0)


def plain(array, *, series="1.2.3", syntax=ExplicitVRLittleEndian, **elements):
    """A CT-like object of stored numbers (rows, columns), (frames, rows, columns) or (rows, columns, 3); `elements` replace or, as
    None, remove."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.SeriesInstanceUID, data.StudyInstanceUID, data.Modality, data.PatientID = series, "1.2", "CT", "p1"
    colour = array.shape[-1] == 3 and array.ndim == 3 and elements.get("PhotometricInterpretation", "").startswith(("RGB", "YBR"))
    data.Rows, data.Columns = array.shape[:2] if colour else array.shape[-2:]
    if array.ndim == 3 and not colour:
        data.NumberOfFrames = len(array)
    data.SamplesPerPixel, data.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    data.BitsAllocated = data.BitsStored = 8 * array.itemsize
    data.HighBit = data.BitsStored - 1
    data.PixelRepresentation = int(array.dtype.kind == "i")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data.PixelData = array.astype(array.dtype.newbyteorder(order)).tobytes()
    data["PixelData"].VR = "OW" if array.itemsize > 1 else "OB"
    for name, value in elements.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    return data


def save(data, path):
    """Write with the preamble and group 2."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def slices(count=5, *, shape=(6, 8), orientation=AXIAL, spacing=(0.5, 0.75), step=None, first=(10.0, 20.0, 30.0), **elements):
    """(objects in order along the normal, stored (count, rows, columns), vector from slice to slice)."""
    across, down = np.array(orientation[:3], float), np.array(orientation[3:], float)
    step = np.cross(across, down) * 2.5 if step is None else np.asarray(step, float)
    array = np.random.default_rng(3).integers(0, 4000, (count, *shape)).astype(np.uint16)
    made = [
        plain(
            array[k], ImagePositionPatient=[float(v) for v in np.asarray(first) + k * step],
            ImageOrientationPatient=list(map(float, orientation)), PixelSpacing=list(spacing),
            InstanceNumber=count - k, RescaleSlope=1, RescaleIntercept=-1024, SliceThickness=2.5, **elements,
        )
        for k in range(count)
    ]  # fmt: skip
    return made, array, step


def write_series(folder, made, *, seed=0):
    """The objects under names that say nothing about their order."""
    names = np.random.default_rng(seed).permutation(len(made))
    for number, data in zip(names, made, strict=True):
        save(data, folder / f"IM{number:03d}.dcm")
    return folder


def enhanced(array, positions, *, orientation=AXIAL, spacing=(0.5, 0.75), slopes=None, **elements):
    """An enhanced MR object: (frames, rows, columns), each frame at its own position, with its own slope."""
    data = plain(array, SOPClassUID=EnhancedMRImageStorage, Modality="MR", **elements)
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, plane.ImageOrientationPatient = list(spacing), list(map(float, orientation))
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([plane])
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for k, position in enumerate(positions):
        group, place, value, content = Dataset(), Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [float(v) for v in position]
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = (1 if slopes is None else slopes[k]), 0, "US"
        content.TemporalPositionIndex = 1 + sum(np.allclose(position, p) for p in positions[:k])
        group.PlanePositionSequence, group.PixelValueTransformationSequence = Sequence([place]), Sequence([value])
        group.FrameContentSequence = Sequence([content])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return data


def segmentation(masks, *, kind="BINARY", positions=((0, 0, 0), (0, 0, 2.5), (0, 0, 5)), **elements):
    """A segmentation of `masks` (segments, slices, rows, columns); empty frames are left out, as vendors do."""
    frames = [(s, k) for s in range(len(masks)) for k in range(masks.shape[1]) if masks[s, k].any()]
    array = np.stack([masks[s, k] for s, k in frames]).astype(np.uint8)
    data = enhanced(array, [positions[k] for _, k in frames], **elements)
    data.Modality, data.SegmentationType, data.SOPClassUID = "SEG", kind, "1.2.840.10008.5.1.4.1.1.66.4"
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = 2.5
    data.SegmentSequence = Sequence()
    for s in range(len(masks)):
        item = Dataset()
        item.SegmentNumber, item.SegmentLabel = s + 1, f"organ {s + 1}"
        data.SegmentSequence.append(item)
    for (s, _), group in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        item = Dataset()
        item.ReferencedSegmentNumber = s + 1
        group.SegmentIdentificationSequence = Sequence([item])
    if kind == "BINARY":
        data.BitsAllocated = data.BitsStored = 1
        data.HighBit = 0
        body = np.packbits(array.reshape(-1), bitorder="little").tobytes()
        data.PixelData = body + b"\0" * (len(body) % 2)
    return data


def structures(made, contours):
    """A structure set on the series `made`: name -> list of (n, 3) points in LPS millimetres."""
    data = plain(np.zeros((2, 2), np.uint8), series="1.2.77", Modality="RTSTRUCT", PixelData=None, Rows=None, Columns=None)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = made[0].SeriesInstanceUID
    study.RTReferencedSeriesSequence = Sequence([series])
    frame.RTReferencedStudySequence = Sequence([study])
    data.ReferencedFrameOfReferenceSequence = Sequence([frame])
    data.StructureSetROISequence, data.ROIContourSequence = Sequence(), Sequence()
    for number, (name, polygons) in enumerate(contours.items(), 1):
        item, drawn = Dataset(), Dataset()
        item.ROINumber, item.ROIName = number, name
        drawn.ReferencedROINumber, drawn.ContourSequence = number, Sequence()
        for points in polygons:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{v:.6f}" for v in np.asarray(points).ravel()]
            drawn.ContourSequence.append(contour)
        data.StructureSetROISequence.append(item)
        data.ROIContourSequence.append(drawn)
    return data
