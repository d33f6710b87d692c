"""Where real scans for tests lie: `$VESALIUS_DATA`, or `../shared/data` beside the repository; absent is a skip."""

import os
from pathlib import Path

import pytest


def data_folder(name: str) -> Path:
    """The folder of the data set `name`; skips the test where it is absent."""
    root = Path(os.environ.get("VESALIUS_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (root / name).is_dir():
        pytest.skip(f"needs the data set {name!r} under $VESALIUS_DATA (looked in {root})")
    return root / name
