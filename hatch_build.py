"""Compiles the kernels where vesalius is installed from its sources; without a compiler there are none, and nothing is missing."""

import os
import runpy
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = "src/vesalius/core/kernels"


class Kernels(BuildHookInterface):
    """Called by the builder of wheels, editable ones too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say for which machines the wheel then is."""
        folder = Path(self.root) / FOLDER
        made = runpy.run_path(str(folder / "build.py"))["build"](folder, compiler=os.environ.get("CC", ""))
        if made:
            build_data["artifacts"] += [f"{FOLDER}/{path.name}" for path in made]
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
