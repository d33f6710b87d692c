"""The same command on every real set: Dice with its interval on the given test part, the shallow baseline beside it.

    python benchmarks/real_scans.py --data FOLDER --budget 20m [--only seg3d_hippocampus_mr] [-o runs]

FOLDER holds the sets by name (default: $VESALIUS_DATA). A set that is absent is reported as absent. Runs are kept, so
that the command can be repeated: what is finished is only read.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

SETS = ("seg3d_hippocampus_mr", "cardiac_cine_mr", "tumour_sts_ct_pet_mr", "vessels_chase_db1", "cxr_lungs_lesions_seg", "us_breast_seg")


def main() -> None:
    """Train where needed, then print one table as Markdown."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--data", type=Path, required=True)
    words.add_argument("--budget", default="20m")
    words.add_argument("--only", action="append", choices=SETS)
    words.add_argument("-o", "--output", type=Path, default=Path("runs"))
    said = words.parse_args()
    print("| set | budget | wall | label | Dice model | Dice baseline |\n|---|---|---|---|---|---|", flush=True)
    for name in said.only or SETS:
        if not (said.data / name).is_dir():
            print(f"| {name} | | | absent | | |")
            continue
        run, start = said.output / f"{name}_{said.budget}", time.monotonic()
        subprocess.run([sys.executable, "-m", "vesalius", "train", said.data / name, "-o", run, "--budget", said.budget],
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        show(name, run, said.budget, seconds=time.monotonic() - start)


def show(name: str, run: Path, budget: str, *, seconds: float) -> None:
    """The rows of one run; the wall time is that of the sitting that trained it."""
    test = json.loads((run / "metrics.json").read_text())["parts"]["test"]
    wall = json.loads((run / "record.json").read_text())["seconds"]["whole"]
    for label, summary in test["model"]["summary"].items():
        beside = test["baseline"]["summary"][label]["dice"]
        print(f"| {name} | {budget} | {max(wall, 0):.0f} s | {label} | {cell(summary['dice'])} | {cell(beside)} |", flush=True)


def cell(of: dict[str, float]) -> str:
    """Mean and 95 % interval."""
    return f"{of['mean']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"


if __name__ == "__main__":
    main()
