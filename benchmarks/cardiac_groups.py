"""Two phases of the heart, five groups of patients: every fusion beside what can be measured on the chambers, by cross-validation.

    OMP_NUM_THREADS=1 python benchmarks/cardiac_groups.py --data FOLDER [-o runs] [--budget 8m] [--around] [--masks RUN/predictions/val]
        [--only input feature decision attention] [--steps N] [--folds 5]

FOLDER is the set `cardiac_cine_mr` (default: under $VESALIUS_DATA): patients.csv, and for each patient scans and masks of end diastole (ED)
and end systole (ES). Every patient is answered by networks that never saw him. Beside them stand three shallow classifiers on the numbers
of `vesalius.quantify.cardiac`, measured on the reference masks and, with --masks, on those of a segmentation run (p001_ED.nii.gz ...);
their strength of regularisation is chosen within the training patients. Accuracy, balanced accuracy and area under the curve have
intervals found by drawing patients, and differences to the best shallow classifier are paired. With --around networks see 96 x 96 pixels
about the middle of the heart, which is taken from the reference masks: a help that a new patient's scan would need a segmentation for.
With --steps every fold takes so many steps instead of a share of the budget. Runs are kept: what is finished is only read.
"""

import argparse
import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from vesalius.audit.compare import bootstrap_differences
from vesalius.data.dataset import Dataset
from vesalius.data.split import split
from vesalius.engine.fusion import fused, steps_of
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.workflow import train
from vesalius.io import load, save
from vesalius.io.image import Image
from vesalius.metrics import METRICS
from vesalius.metrics._answers import Answers
from vesalius.metrics._bootstrap import with_intervals
from vesalius.plan import Request
from vesalius.quantify.cardiac import DEFINITIONS, cardiac

PHASES = ("ED", "ES")
FUSIONS = ("input", "feature", "decision", "attention")
SIDE = 96  # pixels about the middle of the heart, 144 mm
SLICES = 10  # the median scan has as many
DRAWS = 1000  # of patients, for each interval
SHOWN = ("accuracy", "balanced_accuracy", "auc")


def patients(data: Path) -> dict[str, str]:
    """Patient -> group."""
    with open(data / "patients.csv", encoding="utf-8", newline="") as file:
        return {line["patient"]: line["group"] for line in csv.DictReader(file)}


def about_the_heart(data: Path, patient: str, folder: Path) -> dict[str, Path]:
    """The scans of one patient cut to SIDE x SIDE pixels about the middle of the heart at end diastole, by phase."""
    middle = np.argwhere(load(data / f"{patient}_ED_seg.nii.gz").array[0] > 0)[:, :2].mean(0)
    made = {phase: folder / f"{patient}_{phase}.nii.gz" for phase in PHASES}
    for phase, path in made.items():
        if path.exists():
            continue
        image = load(data / f"{patient}_{phase}.nii.gz")
        start = [int(np.clip(round(m - SIDE / 2), 0, max(0, n - SIDE))) for m, n in zip(middle, image.space.shape, strict=False)]
        cut = tuple(slice(s, s + SIDE) for s in start)
        part = image.array[(slice(None), *cut)]
        affine = image.space.affine.copy()
        affine[:3, 3] = image.space.world(np.array([*start, 0]))
        path.parent.mkdir(parents=True, exist_ok=True)
        save(Image(part, type(image.space)(part.shape[1:], affine, image.space.physical)), path)
    return made


def table(data: Path, output: Path, *, around: bool) -> Dataset:
    """The layout that is learned from: one line per patient, a column per phase; everyone takes part in the folds."""
    lines = ["case,patient,class,split," + ",".join(f"image_{phase}" for phase in PHASES)]
    for patient, group in patients(data).items():
        whole = {phase: (data / f"{patient}_{phase}.nii.gz").resolve() for phase in PHASES}
        seen = about_the_heart(data, patient, output.resolve() / "around") if around else whole
        lines.append(",".join([patient, patient, group, "train", *(str(seen[phase]) for phase in PHASES)]))
    path = output / "patients.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Dataset.open(path)


def measured(data: Path, masks: Path | None, names: list[str]) -> np.ndarray:
    """(N, number of DEFINITIONS) of each patient, from the reference masks or from those in `masks`."""
    rows = []
    for name in names:
        files = [masks / f"{name}_{phase}.nii.gz" if masks else data / f"{name}_{phase}_seg.nii.gz" for phase in PHASES]
        begun, ended = (load(file) for file in files)
        found = cardiac(begun.array[0], ended.array[0], begun.space)
        rows.append([found[key] for key in DEFINITIONS])
    return np.array(rows)


def shallow_models(seed: int) -> dict[str, Any]:
    """Three classifiers; what has to be chosen is chosen by cross-validation within the patients that they are fitted to."""
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def tuned(model: Any, choices: dict[str, list[Any]]) -> Any:
        steps = make_pipeline(SimpleImputer(strategy="median"), StandardScaler(), model)
        inner = StratifiedKFold(4, shuffle=True, random_state=seed)
        return GridSearchCV(steps, {f"{steps.steps[-1][0]}__{k}": v for k, v in choices.items()}, cv=inner, scoring="neg_log_loss")

    return {
        "logistic regression": tuned(LogisticRegression(max_iter=2000), {"C": [0.03, 0.1, 0.3, 1.0, 3.0]}),
        "random forest": tuned(RandomForestClassifier(100, random_state=seed), {"max_features": [0.2, 0.5]}),
        "gradient boosting": tuned(GradientBoostingClassifier(n_estimators=40, subsample=0.7, random_state=seed), {"max_depth": [1, 2]}),
    }


def shallow(features: np.ndarray, truth: np.ndarray, names: list[str], *, folds: list[tuple[list[str], list[str]]],
            seed: int) -> dict[str, np.ndarray]:  # fmt: skip
    """Probabilities (N, K) of each patient by models that never saw him, by the name of the model."""
    place = {name: k for k, name in enumerate(names)}
    found = {}
    for title, model in shallow_models(seed).items():
        said = np.zeros((len(names), int(truth.max()) + 1))
        for learned, asked in folds:
            rows, others = [place[name] for name in learned], [place[name] for name in asked]
            said[others] = model.fit(features[rows], truth[rows]).predict_proba(features[others])
        found[title] = said
    return found


def out_of_fold(run: Run, names: list[str], *, who: str = "model") -> np.ndarray:
    """Probabilities (N, K) of each patient by the fold that never saw him."""
    rows = {row["case"]: row["probabilities"] for row in (run.metrics or {})["parts"]["val"][who]["rows"]}
    return np.array([[rows[name][label] for label in run.plan.labels.names] for name in names])


def numbers(answers: Answers) -> dict[str, float]:
    """What the table shows."""
    found = {**METRICS["decisions"](answers), **METRICS["discrimination"](answers)}
    return {name: found[name] for name in SHOWN}


class Told(Listener):
    """Says on standard error what a run says."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def compared(said: dict[str, np.ndarray], truth: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    """A row for each: numbers with intervals, and differences to the best shallow one (names that begin with "shallow")."""
    answers = {who: Answers.of(p / p.sum(1, keepdims=True), truth, patients=names) for who, p in said.items()}
    best = max((who for who in answers if who.startswith("shallow")), key=lambda who: numbers(answers[who])["balanced_accuracy"])
    rows = []
    for who, one in answers.items():
        less = [] if who == best else bootstrap_differences(one, answers[best], score=numbers, draws=DRAWS)
        rows.append({"who": who, **with_intervals(numbers, one, draws=DRAWS), "best_shallow": who == best,
                     "less_best": {d.metric: [d.difference, d.low, d.high] for d in less}})  # fmt: skip
    return rows


def lines(rows: list[dict[str, Any]], took: dict[str, str]) -> list[str]:
    """The table as Markdown."""
    made = ["| who | accuracy | balanced accuracy | AUC | balanced accuracy less the best shallow | steps |", "|---|---|---|---|---|---|"]
    for row in rows:
        shown = " | ".join(f"{row[m]['value']:.3f} [{row[m]['low']:.3f}, {row[m]['high']:.3f}]" for m in SHOWN)
        less = row["less_best"].get("balanced_accuracy")
        gap = "the best shallow" if row["best_shallow"] else f"{less[0]:+.3f} [{less[1]:+.3f}, {less[2]:+.3f}]"
        made.append(f"| {row['who']} | {shown} | {gap} | {took.get(row['who'], '')} |")
    return made


def sentence(people: int, groups: int) -> str:
    """What so few patients can show."""
    half = 1.96 * 0.5 / people**0.5
    return (f"{people} patients, {people // groups} in each of {groups} groups: one patient is {100 / people:.1f} points, an accuracy near "
            f"one half is known to within {100 * half:.0f} points, and of two methods that disagree on some patients one is shown to be "
            "better (exact McNemar, 5 %) only where it alone is right on all of six, or on eight of nine. Chance is "
            f"{1 / groups:.2f}. This ranks nothing that is close, and says nothing of other scanners.")  # fmt: skip


def wish(said: argparse.Namespace, name: str) -> Request:
    """What a run is asked for: a budget, or with --steps a recipe that does not depend on how fast the machine is."""
    if not said.steps:
        return Request(budget=said.budget, folds=said.folds, seed=said.seed)
    grid = [SLICES, said.side, said.side] if name == "attention" else [said.side, said.side, SLICES]
    recipe = {"train.steps": said.steps, "patch.size": grid, "patch.batch": 8, "net.arguments": {"scale": 0.25, "stem": "published"}}
    return Request(budget=None, deterministic=True, folds=said.folds, seed=said.seed,
                   settings=tuple(f"{key}={json.dumps(value)}" for key, value in recipe.items()))  # fmt: skip


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--data", type=Path, default=Path(os.environ.get("VESALIUS_DATA", "../shared/data")) / "cardiac_cine_mr")
    words.add_argument("-o", "--output", type=Path, default=Path("cardiac_groups"))
    words.add_argument("--budget", default="8m", help="of each cross-validated run")
    words.add_argument("--steps", type=int, help="of each fold, in place of --budget")
    words.add_argument("--side", type=int, default=48, help="pixels along a side of what networks see, with --steps")
    words.add_argument("--folds", type=int, default=5)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--around", action="store_true")
    words.add_argument("--masks", type=Path)
    words.add_argument("--only", nargs="*", choices=FUSIONS, default=list(FUSIONS))
    said = words.parse_args()
    data = table(said.data, said.output, around=said.around)
    names, labels = [case.name for case in data.cases], list(data.labels.names)
    truth = np.array([labels.index(next(name for name, there in (case.classes or {}).items() if there)) for case in data.cases])
    parted = [(list(fold.train), list(fold.val)) for fold in split(data, folds=said.folds, seed=said.seed).folds]
    answers, took = {}, {}
    for what, masks in (("reference masks", None), *([("predicted masks", said.masks)] if said.masks else [])):
        features = measured(said.data, masks, names)
        found = shallow(features, truth, names, folds=parted, seed=said.seed)
        answers |= {f"shallow: {title}, {what}": p for title, p in found.items()}
    for name in said.only:
        run = train(data, said.output / f"fusion_{name}", wish=fused(data, wish(said, name), name), listener=Told())
        title = f"{name} fusion ({run.plan.net.name}, {' x '.join(map(str, run.plan.patch.size))})"
        answers[title], took[title] = out_of_fold(run, names), f"{steps_of(run)} of {run.plan.patch.batch}, all folds"
        answers.setdefault("coarse pixels: the shallow baseline", out_of_fold(run, names, who="baseline"))
    rows = compared(answers, truth, names)
    text = "\n".join([*lines(rows, took), "", sentence(len(names), len(labels))])
    (said.output / "cardiac_groups.md").write_text(text + "\n", encoding="utf-8")
    (said.output / "cardiac_groups.json").write_text(json.dumps({"rows": rows, "steps": took, "patients": len(names)}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
