"""What two sequences tell only together: every fusion, and either sequence alone, on the interaction phantom, as one table.

    OMP_NUM_THREADS=1 python benchmarks/interaction.py [-o runs] [--cases 1000] [--steps 240] [--budget 60s] [--only feature attention]

The class of a phantom is whether its two marks are alike, so that either sequence alone can do no better than chance, and neither can any
sum of what each says alone: decision fusion stays at chance by construction. Without --budget every run takes the same number of steps of
a recipe that is written here, on the same cases: the table is the same on a busy machine. With --budget each run is planned as
`vesalius train --budget` plans it. Runs are kept: what is finished is only read.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from vesalius.data.dataset import Dataset
from vesalius.engine.fusion import fused, row
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.workflow import train
from vesalius.phantoms import PHANTOMS
from vesalius.phantoms._cohort import write_cohort
from vesalius.plan import Request

SHAPE = (24, 32, 32)  # of `vesalius phantom interaction` by default
ALONE = {"first alone": "first", "second alone": "second"}
FUSIONS = ("input", "feature", "decision", "attention")
WIDTHS = {"scale": 0.25, "stem": "published"}  # what planning gives these networks where a run has a minute on one core


def dataset(folder: Path, *, cases: int, seed: int) -> Dataset:
    """The cohort in `folder`, made where it is not there."""
    if not folder.exists():
        write_cohort(PHANTOMS["interaction"](), folder, cases=cases, shape=SHAPE, seed=seed)
    return Dataset.open(folder / "cases.csv")


def wish(said: argparse.Namespace) -> Request:
    """What every run is asked for."""
    if said.budget:
        return Request(budget=said.budget, seed=said.seed)
    recipe = [f"train.steps={said.steps}", f"patch.batch={said.batch}", f"net.arguments={json.dumps(WIDTHS)}"]
    return Request(budget=None, deterministic=True, seed=said.seed, settings=tuple(recipe))


def learned(name: str, data: Dataset, said: argparse.Namespace) -> Run:
    """The run of one row of the table."""
    asked = wish(said)
    if name in ALONE:
        data = data.with_channels([ALONE[name]])
        settings = (*(text for text in asked.settings if not text.startswith("net.")), "net.name=resnet")
        own = () if said.budget else (f"net.arguments={json.dumps({'depth': 18, **WIDTHS})}",)
        asked = asked.model_copy(update={"settings": (*settings, *own)})
    else:
        asked = fused(data, asked, name)
    return train(data, said.output / name.replace(" ", "_"), wish=asked, listener=Told())


class Told(Listener):
    """Says on standard error what a run says."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def cell(of: dict[str, Any]) -> str:
    """Value and 95 % interval."""
    return "–" if of["mean"] is None else f"{of['mean']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("-o", "--output", type=Path, default=Path("interaction"))
    words.add_argument("--cases", type=int, default=1000)
    words.add_argument("--steps", type=int, default=240)
    words.add_argument("--batch", type=int, default=16)
    words.add_argument("--budget", default="", help="of each run, in place of --steps")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--only", nargs="*", choices=[*FUSIONS, *ALONE], default=[*FUSIONS, *ALONE])
    said = words.parse_args()
    data = dataset(said.output / "phantom", cases=said.cases, seed=said.seed)
    rows = []
    titles = ("what", "network", "AUC", "balanced accuracy", "cases", "steps", "passes", "seconds of learning")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    for name in said.only:
        one = row(name, learned(name, data, said))
        rows.append(one)
        took = [str(one["cases"]), str(one["steps"]), f"{one['epochs']:.0f}", f"{one['learned_seconds'] or 0:.0f}"]
        print(f"| {name} | {one['net']} | {cell(one['auc'])} | {cell(one['balanced_accuracy'])} | {' | '.join(took)} |", flush=True)
    (said.output / "interaction.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
