"""Reading scans to a float32 tensor: .nii.gz (a head of 240 x 240 x 155 and a crop of 36 x 50 x 36, int16) and a DICOM series (60 slices of
512 x 512, uncompressed), beside nibabel, SimpleITK, MONAI's LoadImage and TorchIO.

    python benchmarks/reading.py [--rounds 7] [--data FOLDER]

Files are written here (smooth shapes in noise, so that gzip has its usual work) and read warm, all readers in turns in one process on
one thread. nibabel reads no DICOM series. Every tensor is compared with ours: equal to the last bit after the axes are put in the
same order. With `--data FOLDER/ct_lung_dicom` present, its real CT series is read too.
"""

import argparse
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from _side_by_side import OURS, in_turns, keep, rows

SHAPES = {"head": (240, 240, 155), "crop": (36, 50, 36)}
SLICES, SIDE = 60, 512


def pixels(shape):
    """Int16: blobs on air, with noise where there is something, as a scan has it."""
    random = np.random.default_rng(0)
    grids = np.meshgrid(*[np.linspace(-1, 1, side, dtype=np.float32) for side in shape], indexing="ij", sparse=True)
    radius = sum(grid**2 for grid in grids)
    body = radius < 0.8
    values = 600 * np.cos(4 * grids[0]) * np.cos(5 * grids[1]) * np.cos(3 * grids[2]) + 900
    return np.where(body, values + random.normal(0, 25, shape), 0).astype(np.int16)


def write_nifti(folder, name):
    import nibabel

    affine = np.diag([1.0, 1.0, 1.2, 1.0])
    path = folder / f"{name}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(pixels(SHAPES[name]), affine), path)
    return path


def write_series(folder):
    """A classic CT series: one file per slice, little endian, rescale intercept -1024."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir()
    volume = pixels((SIDE, SIDE, SLICES)).astype(np.uint16)
    for number in range(SLICES):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.8.498.1.{number + 1}"
        data = Dataset()
        data.file_meta = meta
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        data.SeriesInstanceUID, data.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.2", "1.2.826.0.1.3680043.8.498.3"
        data.Modality, data.PatientID, data.InstanceNumber = "CT", "bench", number + 1
        data.ImagePositionPatient, data.ImageOrientationPatient = [-150.0, -150.0, 2.5 * number], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [0.6, 0.6], 2.5
        data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = SIDE, SIDE, 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.RescaleSlope, data.RescaleIntercept = 1, -1024
        data.PixelData = np.ascontiguousarray(volume[:, :, number].T).tobytes()
        pydicom.dcmwrite(folder / f"{number:04d}.dcm", data, enforce_file_format=True)
    return folder


def real_series(data, folder):
    """The slices of the real CT (its structure set left aside); None where it is not there."""
    import pydicom

    archive = data / "ct_lung_dicom" / "LUNG1-001.zip" if data else None
    if archive is None or not archive.is_file():
        return None
    with zipfile.ZipFile(archive) as box:
        box.extractall(folder)
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        if pydicom.dcmread(path, stop_before_pixels=True, force=True).get("Modality") != "CT":
            path.unlink()
    return next(p.parent for p in folder.rglob("*") if p.is_file())


def ours(path):
    import torch

    from vesalius import io

    return torch.from_numpy(np.asarray(io.load(path).array[0], np.float32))


def nibabel(path):
    import nibabel as package
    import torch

    return torch.from_numpy(package.load(path).get_fdata(dtype=np.float32, caching="unchanged"))


def simpleitk(path):
    import SimpleITK as package
    import torch

    if path.is_dir():
        reader = package.ImageSeriesReader()
        reader.SetFileNames(package.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)))
        reader.SetOutputPixelType(package.sitkFloat32)
        image = reader.Execute()
    else:
        image = package.ReadImage(str(path), package.sitkFloat32)
    return torch.from_numpy(package.GetArrayFromImage(image)).permute(2, 1, 0)


def monai(path):
    from monai.transforms import LoadImage

    return LoadImage(image_only=True)(str(path)).as_tensor()


def torchio(path):
    import torchio as package

    return package.ScalarImage(path).data[0].float()


READERS = {OURS: ours, "nibabel": nibabel, "SimpleITK": simpleitk, "MONAI": monai, "TorchIO": torchio}


def compare(work, path, *, rounds, calls=1):
    """The rows of one file or series."""
    readers = {name: (lambda read=read: read(path)) for name, read in READERS.items() if not (path.is_dir() and name == "nibabel")}
    turns, tensors = in_turns(readers, rounds=rounds, calls=calls)
    check = {name: judged(tensors[OURS], tensor) for name, tensor in tensors.items() if name != OURS}
    return rows(work, turns, check=check, goal=1.0)


def judged(ours, theirs):
    """Whether two tensors hold the same scan, and if a reader turned axes round, which."""
    import itertools

    import torch

    for axes in itertools.product((False, True), repeat=ours.ndim):
        turned = theirs.flip([axis for axis, flip in enumerate(axes) if flip])
        if turned.shape == ours.shape and torch.equal(turned.contiguous(), ours.contiguous()):
            return "equal" if not any(axes) else f"equal, {sum(axes)} axes turned"
    return f"DIFFERENT: {tuple(theirs.shape)} beside {tuple(ours.shape)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--data", type=Path, help="folder that holds ct_lung_dicom")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = compare("head MR 240 x 240 x 155, .nii.gz", write_nifti(folder, "head"), rounds=options.rounds)
        found += compare("crop 36 x 50 x 36, .nii.gz", write_nifti(folder, "crop"), rounds=options.rounds, calls=10)
        found += compare("CT series, 60 slices of 512 x 512, DICOM", write_series(folder / "series"), rounds=options.rounds)
        real = real_series(options.data, folder / "real")
        if real:
            found += compare("real chest CT, 26 slices of 512 x 512, DICOM", real, rounds=options.rounds)
    keep("reading", found, title="Reading a scan to a float32 tensor")
    return int(any("DIFFERENT" in row["check"] for row in found))


if __name__ == "__main__":
    sys.exit(main())
