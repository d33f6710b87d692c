"""What shallow baselines reach on a classification data set, without any network: logistic regression beside boosted trees.

    python benchmarks/shallow.py DATA [--side 64] [--fix-split] [--seed 0] [--json]

Both are fitted on the training part as `train` would (pictures of `--side` pixels, smaller ones as they are), and measured on the test part
with intervals over patients; each says a class at its most probable, because no validation case is used here. `*` is the one that
held-back training cases chose as the baseline. `--fix-split` groups copies that lie on two sides first.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from vesalius.cli._options import interval
from vesalius.data.dataset import Dataset
from vesalius.data.doctor import examine, mended
from vesalius.data.fingerprint import fingerprint
from vesalius.data.split import split
from vesalius.data.whole import read_whole
from vesalius.engine.sets import summaries
from vesalius.engine.whole import Judged, truths
from vesalius.plan.whole import preparation_rule
from vesalius.tasks import TASKS

SHOWN = ("auc", "balanced_accuracy", "accuracy", "average_precision", "brier")


def parted(data, *, fix, seed):
    """The data set, its training cases and its test cases."""
    if fix:
        data, _ = mended(data, examine(data, controls=False))
    parts = split(data, seed=seed)
    return data, [[data.case(name) for name in names] for names in (parts.folds[0].train, parts.test)]


def measured(data, *, side, fix=False, seed=0):
    """(one row for each baseline, cases of both parts, processor seconds of fitting)."""
    data, (train, test) = parted(data, fix=fix, seed=seed)
    facts = fingerprint(data, train)
    size = tuple(int(min(side, shape)) for shape in np.median(facts["shapes"], 0))
    how = preparation_rule(facts, size)[0]
    task, labels = TASKS["classify"](), data.labels
    baseline, since = task.baseline(labels), time.process_time()
    pairs = ((read_whole(case, how, size), labels.coded(case.classes)) for case in train)
    baseline.fit(pairs, patients=[case.patient for case in train])
    took = time.process_time() - since
    each = [baseline.answers(read_whole(case, how, size)) for case in test]
    said = {who: np.stack([one[who] for one in each]) for who in each[0]}
    judged = Judged(task, labels, [case.patient for case in test], truths(test, labels), said, {who: {} for who in said})
    tables = {who: summaries([who], judged.patients, judged.measure, seed=seed)[0][who]["all"] for who in said}
    rows = [{"who": who, "chosen": who == baseline.stands, **{m: table[m] for m in SHOWN if m in table}} for who, table in tables.items()]
    return rows, (len(train), len(test)), took


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--fix-split", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    rows, cases, took = measured(Dataset.open(asked.data), side=asked.side, fix=asked.fix_split, seed=asked.seed)
    if asked.json:
        print(json.dumps({"rows": rows, "cases": cases, "seconds": took}))
        return
    print(f"{cases[0]} cases learned from, {cases[1]} tested; reading, features and fitting {took:.1f} processor seconds")
    for row in rows:
        print(f"{row['who']}{' *' if row['chosen'] else ''}: " + "; ".join(f"{m} {interval(row[m])}" for m in SHOWN if m in row))


if __name__ == "__main__":
    main()
