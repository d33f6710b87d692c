"""A small cohort that any model can learn, and the command line called as a user calls it."""

import json
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vesalius.cli.main import main


def write_head(folder: Path, name: str, seed: int) -> None:
    """A bright ball in noise on an oblique grid: `images/<name>.nii.gz` and `masks/<name>.nii.gz`."""
    draw = np.random.default_rng(seed)
    shape, spacing = (22 + seed % 3, 26, 20), np.array([1.0, 1.1, 1.6])
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", draw.uniform(-20, 20, 3), degrees=True).as_matrix() * spacing
    affine[:3, 3] = draw.uniform(-50, 50, 3)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * spacing
    centre = np.array(shape) * spacing / 2 + draw.uniform(-4, 4, 3)
    mask = np.linalg.norm(places - centre, axis=-1) < draw.uniform(4.5, 7)
    image = draw.normal(100, 10, shape) + 80 * mask
    for kind, values in (("images", image.astype(np.float32)), ("masks", mask.astype(np.uint8))):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(values, affine), folder / kind / f"{name}.nii.gz")


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """Twelve patients in paired folders."""
    folder = tmp_path_factory.mktemp("scans")
    for k in range(12):
        write_head(folder, f"patient{k:02d}", k)
    return folder


@pytest.fixture
def run_command(capsys, monkeypatch, tmp_path):
    """`run_command("plan", ...)` gives what `--json` answered; a code other than 0 fails the test."""
    monkeypatch.setenv("VESALIUS_HOME", str(tmp_path / "home"))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(*words):
        code = main([*map(str, words), "--json"])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return json.loads(captured.out)

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
