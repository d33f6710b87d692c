"""What mixing cases, and ensembles of seeds, bring where few cases are labelled: paired by labelled cases and seed, as one table.

    OMP_NUM_THREADS=1 python benchmarks/mixing.py [-o mixing] [--data SET ...] [--labelled 100 500] [--seeds 3] [--steps 400]
        [--only plain mixup ...] [--set NAME=VALUE ...]

Each SET is a classified data set with a given split (default: pneumoniamnist.npz of cls_pneumoniamnist under $VESALIUS_DATA or
../shared/data); copies that its split tears apart are put together. Of its training part so many cases are drawn by the seed, of each
class its share, and a quarter as many of its validation part; the test part is whole. Every recipe then learns from the same cases for
the same number of steps: `plain`, `mixup` (augment.mixup=0.2), `cutmix` (augment.cutmix=1), `members` (three networks, each for all the
steps: three times the time), and `thirds` (three networks, each for a third of the steps: the same time). Differences to `plain` are
taken seed by seed; their intervals are Student's over seeds, for this test part. Runs are kept: what is finished is only read.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.workflow import train
from vesalius.plan import Request

SHARED = Path(os.environ.get("VESALIUS_DATA") or Path(__file__).parents[2] / "shared" / "data")
DATA = SHARED / "cls_pneumoniamnist" / "pneumoniamnist.npz"
MEMBERS = 3
RECIPES: dict[str, tuple[tuple[str, ...], int, int]] = {  # settings, members, by which the steps of each are divided
    "plain": ((), 1, 1), "mixup": (("augment.mixup=0.2",), 1, 1), "cutmix": (("augment.cutmix=1",), 1, 1),
    "members": ((), MEMBERS, 1), "thirds": ((), MEMBERS, MEMBERS),
}  # fmt: skip
APART = 100  # between the seeds of two runs, so that no member of one is a member of the other
SHOWN = ("auc", "balanced_accuracy")


def few(data: Dataset, number: int, seed: int) -> Dataset:
    """`data` with `number` cases to learn from and a quarter as many to validate on, whole patients, and all of its test part."""
    draw = np.random.default_rng((seed, number))
    return data.with_cases((*drawn(data, "train", number, draw=draw), *drawn(data, "val", number // 4, draw=draw), *of(data, "test")))


def of(data: Dataset, part: str) -> list[Case]:
    """The cases of one part of the given split."""
    return [case for case in data.cases if case.split == part]


def drawn(data: Dataset, part: str, number: int, *, draw: np.random.Generator) -> list[Case]:
    """About `number` cases of a part: of each class its share, two at the least."""
    cases = of(data, part)
    kinds: dict[tuple[str, ...], list[Case]] = {}
    for case in cases:
        kinds.setdefault(tuple(sorted(name for name, there in (case.classes or {}).items() if there)), []).append(case)
    shares = {kind: max(2, round(number * len(some) / len(cases))) for kind, some in kinds.items()}
    return [some[int(k)] for kind, some in sorted(kinds.items()) for k in draw.permutation(len(some))[: shares[kind]]]


def learned(data: Dataset, recipe: str, folder: Path, *, seed: int, said: argparse.Namespace) -> Run:
    """The run of one recipe on one draw of labelled cases."""
    settings, members, parts = RECIPES[recipe]
    wish = Request(budget=None, deterministic=True, controls=False, fix_split=True, seed=APART * seed, members=members,
                   settings=(f"train.steps={said.steps // parts}", *settings, *said.set))  # fmt: skip
    return train(data, folder, wish=wish, listener=Told())


class Told(Listener):
    """Says on standard error what a run says."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def scores(run: Run) -> dict[str, float]:
    """The test scores over all classes."""
    found = (run.metrics or {})["parts"]["test"]["model"]["summary"]["all"]
    return {name: float(found[name]["mean"]) for name in SHOWN}


def gain(values: list[float], plain: list[float]) -> dict[str, Any]:
    """Mean of the paired differences with Student's interval of 95 %; without one of a single pair."""
    gaps = np.array(values) - np.array(plain)
    half = float(t.ppf(0.975, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else None
    mean = float(gaps.mean())
    return {"mean": mean, "low": None if half is None else mean - half, "high": None if half is None else mean + half}


def cell(one: dict[str, Any]) -> str:
    """A difference and its interval."""
    return f"{one['mean']:+.3f}" + ("" if one["low"] is None else f" [{one['low']:+.3f}, {one['high']:+.3f}]")


def rows(path: Path, number: int, said: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each recipe, of `number` labelled cases of the data set at `path`."""
    data, found = Dataset.open(path), {name: list[dict[str, float]]() for name in said.only}
    for seed in range(said.seeds):
        some = few(data, number, seed)
        for name in said.only:
            run = learned(some, name, said.output / f"{path.stem}_{number}_{seed}_{name}", seed=seed, said=said)
            found[name].append(scores(run))
    plain = found.get("plain", [])
    made = []
    for name, values in found.items():
        row = {"data": path.stem, "labelled": number, "recipe": name, "seeds": said.seeds, "steps": said.steps // RECIPES[name][2]}
        for measure in SHOWN:
            each = [one[measure] for one in values]
            row[measure] = float(np.mean(each))
            row[f"{measure}_each"] = each
            row[f"{measure}_gain"] = gain(each, [one[measure] for one in plain]) if plain and name != "plain" else None
        made.append(row)
    return made


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("-o", "--output", type=Path, default=Path("mixing"))
    words.add_argument("--data", nargs="*", type=Path, default=[DATA])
    words.add_argument("--labelled", nargs="*", type=int, default=[100, 500])
    words.add_argument("--seeds", type=int, default=3)
    words.add_argument("--steps", type=int, default=400)
    words.add_argument("--only", nargs="*", choices=list(RECIPES), default=list(RECIPES))
    words.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    said = words.parse_args()
    titles = ("data", "labelled", "recipe", "networks x steps", "AUC", "more than plain", "balanced accuracy", "more than plain")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    every = []
    for path in said.data:
        for number in said.labelled:
            for row in rows(path, number, said):
                every.append(row)
                gains = ["" if row[f"{m}_gain"] is None else cell(row[f"{m}_gain"]) for m in SHOWN]
                numbers = f"{row['auc']:.3f} | {gains[0]} | {row['balanced_accuracy']:.3f} | {gains[1]}"
                took = f"{RECIPES[row['recipe']][1]} x {row['steps']}"
                print(f"| {row['data']} | {row['labelled']} | {row['recipe']} | {took} | {numbers} |", flush=True)
    (said.output / "mixing.json").write_text(json.dumps(every, indent=1) + "\n")


if __name__ == "__main__":
    main()
