"""What a leak is worth: one data set trained twice, its split mended and its split as given, scores side by side.

    python benchmarks/leak.py [--data FOLDER] [--budget 5m] [--seed 0] [--set NAME=VALUE ...] [--output FOLDER] [--json]

`--budget none --set train.steps=400` takes so many steps in both, however busy the machine is.

The clean run puts copies that lie on two sides together (--fix-split); the leaky one is let (--allow-leaks), and marked. Balanced
accuracy and area under the curve of the test parts with intervals over patients, the shallow baseline beside them. The test parts
differ by the cases that were moved; so those of the leaky test that have a copy on another side are counted apart. Without --data:
cls_brain_tumour_4class under $VESALIUS_DATA or ../shared/data.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from vesalius.cli._options import interval
from vesalius.core.files import read_json
from vesalius.engine.workflow import train
from vesalius.plan import Request
from vesalius.trust.operating import Rate

SHOWN = ("balanced_accuracy", "accuracy", "auc")
DATA = Path(os.environ.get("VESALIUS_DATA") or Path(__file__).parents[2] / "shared" / "data") / "cls_brain_tumour_4class"
RUNS = {"clean (--fix-split)": {"fix_split": True}, "leaky (--allow-leaks)": {"allow_leaks": True}}


def rows(folder: Path, name: str) -> list[dict]:
    """One row for the model, one for the baseline."""
    test, splits = read_json(folder / "metrics.json")["parts"]["test"], read_json(folder / "splits.json")
    steps = (folder / "log.csv").read_text().strip().rpartition("\n")[2].partition(",")[0]
    return [{"split": name, "who": who, "training": len(splits["folds"][0]["train"]), "test": len(splits["test"]), "steps": int(steps),
             **{m: test[who]["summary"]["all"][m] for m in SHOWN}} for who in ("model", "baseline")]  # fmt: skip


def copies(folder: Path) -> dict[str, dict]:
    """How many of the test cases that have a copy on another side, and of the others, the leaky run named rightly."""
    pairs = {name for f in read_json(folder / "doctor.json") if f["check"] == "leak" for name in f["cases"]}
    rows = read_json(folder / "metrics.json")["parts"]["test"]["model"]["rows"]
    parts = {"with a copy": [r for r in rows if r["case"] in pairs], "without": [r for r in rows if r["case"] not in pairs]}
    return {name: Rate.of(sum(r["state"] == "right" for r in part), len(part)).to_json() for name, part in parts.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--budget", default="5m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    place = asked.output or Path(tempfile.mkdtemp())
    found = []
    for k, (name, words) in enumerate(RUNS.items()):
        wish = Request(budget=asked.budget, seed=asked.seed, settings=tuple(asked.set), controls=False, **words)
        run = train(asked.data, place / f"{k}", wish=wish, overwrite=True)
        found += rows(run.path, name)
    torn = copies(place / "1")
    if asked.json:
        about = {"data": asked.data.name, "budget": asked.budget, "settings": asked.set, "seed": asked.seed}
        sys.stdout.write(json.dumps({**about, "rows": found, "copies": torn}, indent=1) + "\n")
        return 0
    for row in found:
        told = ", ".join(f"{m.replace('_', ' ')} {interval(row[m])}" for m in SHOWN)
        sides = f"{row['training']} to learn, {row['test']} to test, {row['steps']} steps"
        sys.stdout.write(f"{row['split']:<22} {row['who']:<9} {sides}: {told}\n")
    for name, one in torn.items():
        ends = "" if one["share"] is None else f", {one['share']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        sys.stdout.write(f"leaky, test cases {name}: {one['part']} of {one['whole']} right{ends}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
