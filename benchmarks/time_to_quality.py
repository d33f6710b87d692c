"""The test Dice that a time buys, and the time that a Dice costs: vesalius, nnU-Net v2 and MONAI train on the same cases for the same
minutes on as many threads, and one scorer compares their answers to the test cases on the scans' own grid.

    python benchmarks/time_to_quality.py --data FOLDER/seg3d_hippocampus_mr [--minutes 10 20 40] [--rivals vesalius nnunet monai-segresnet]
                                         [--threads 1] [--target 0.86] [-o runs]

Every rival starts from the files on disk in a fresh process: starting, preprocessing and planning are in its time, and its schedule ends
with its time. Ours has its testing, its baseline and its report in the time too; what the others take to predict the test cases is not
counted, nor is the warm-up in which nnU-Net's iterations are timed. Each (rival, minutes) leaves a JSON file in the output folder, and one
that is there is only read: the command can be interrupted and repeated, and minutes added. The rows are of all files that are there; time
to the target is that of the shortest run which reaches it.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from _rivals import NAMES, RIVALS, Job
from _side_by_side import OURS, Turn, alone, environment, keep, machine, versions

DRAWS = 2000
TITLE = "Time to quality: hippocampus in MRI, given split"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, nargs="+", default=[10, 20, 40])
    parser.add_argument("--rivals", nargs="+", choices=list(RIVALS), default=["vesalius", "nnunet", "monai-segresnet"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--target", type=float, default=0.86)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs"))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options)
        return
    for minutes in sorted(options.minutes):
        for rival in options.rivals:
            one(rival, minutes, options)
    there = [json.loads(file.read_text()) for file in options.output.glob(f"*_{options.threads}t.json")]
    keep("time_to_quality", rows({(run["rival"], run["minutes"]): run for run in there}, options.target), title=TITLE)


def one(rival, minutes, options):
    """Leave what (rival, minutes) comes to as a file, unless it is there."""
    name = f"{rival}_{minutes:g}m_{options.threads}t"
    file = options.output / f"{name}.json"
    if file.exists():
        return
    folder = (options.output / name).absolute()
    shutil.rmtree(folder, ignore_errors=True)  # of a sitting that was interrupted, whose clock is lost
    folder.mkdir(parents=True)
    words = ["--data", options.data.absolute(), "--threads", options.threads, "--child", rival, minutes, folder]
    since = time.monotonic()
    with (folder / "said.txt").open("w") as said:
        done = subprocess.run([sys.executable, __file__, *map(str, words)], stdout=said, stderr=subprocess.STDOUT,
                              env=environment() | {"OMP_NUM_THREADS": str(options.threads)})  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}:\n{(folder / 'said.txt').read_text()[-3000:]}")
    told = json.loads((folder / "told.json").read_text())
    made = {"rival": rival, "minutes": minutes, "threads": options.threads, "process_seconds": round(time.monotonic() - since, 1), **told,
            **scored_test(options.data, folder / "answers"), "machine": machine(), "versions": versions()}  # fmt: skip
    file.write_text(json.dumps(made, indent=1) + "\n")
    for rest in ("home", "preprocessed", "raw"):
        shutil.rmtree(folder / rest, ignore_errors=True)
    sys.stderr.write(f"{name}: Dice {made['dice']:.3f} after {told['seconds']['whole']:.0f} s; {told['about']}\n")


def child(options):
    """One rival in this process, which began a moment ago."""
    started = time.monotonic() - time.process_time()  # imports so far are in its time
    rival, minutes, folder = options.child
    job = Job(options.data, Path(folder), float(minutes), options.threads, started)
    about = RIVALS[rival](job)
    (job.folder / "told.json").write_text(json.dumps({"about": about, "seconds": job.spent}))


def scored_test(data, answers):
    """The scores of the test part of the set at `data`."""
    from vesalius import Dataset

    dataset = Dataset.open(data)
    return scored(dataset, [case for case in dataset.cases if case.split == "test"], answers)


def scored(dataset, chosen, answers):
    """Dice of each of the `chosen` cases and each label against the given mask, on the mask's grid; a case's mean is over its labels."""
    import nibabel
    import numpy as np

    cases = {}
    for case in chosen:
        truth, answer = (np.asarray(nibabel.load(path).dataobj) for path in (case.mask, answers / f"{case.name}.nii.gz"))
        if truth.shape != answer.shape:
            raise SystemExit(f"{case.name}: the answer has shape {answer.shape}, the mask {truth.shape}.")
        cases[case.name] = {"patient": case.patient}
        for name, values in zip(dataset.labels.names, dataset.labels.values, strict=True):
            a, b = np.isin(truth, values), np.isin(answer, values)
            cases[case.name][name] = 2 * float((a & b).sum()) / max(1, int(a.sum() + b.sum()))
        cases[case.name]["mean"] = float(np.mean([cases[case.name][name] for name in dataset.labels.names]))
    return {"cases": cases, "dice": float(np.mean([case["mean"] for case in cases.values()])),
            "labels": {name: float(np.mean([case[name] for case in cases.values()])) for name in dataset.labels.names}}  # fmt: skip


def rows(found, target):
    """Dice at each time, rival by rival, and the time of each rival to the target."""
    made, times = [], sorted({minutes for _, minutes in found})
    others = [rival for rival in dict.fromkeys(rival for rival, _ in found) if rival != OURS]
    for minutes in times:
        mine = found.get((OURS, minutes))
        if mine and not any((rival, minutes) in found for rival in others):
            made.append(dice_row(minutes, mine, None))
        made += [dice_row(minutes, mine, found[rival, minutes]) for rival in others if mine and (rival, minutes) in found]
    soonest = {rival: reached([found[key] for key in sorted(found) if key[0] == rival], target) for rival in (OURS, *others)}
    return made + [time_row(rival, soonest, times[-1], target) for rival in others if soonest[OURS]]


def dice_row(minutes, mine, theirs):
    """Dice of both after the same minutes; the check has the labels, the paired difference and what each did."""
    check = f"{split(mine)}; ours: {mine['about']}"
    row = alone(f"test Dice after {minutes:g} min", [Turn(0, mine["dice"])], check=check) | {"unit": "Dice"}
    if theirs is None:
        return row
    low, high = difference(mine["cases"], theirs["cases"])
    return row | {
        "opponent": NAMES[theirs["rival"]], "theirs": {"cpu": theirs["dice"]},
        "check": f"{split(mine)} beside {split(theirs)}; difference {mine['dice'] - theirs['dice']:+.3f} [{low:+.3f}, {high:+.3f}]; ours: "
                 f"{mine['about']}; theirs: {theirs['about']}",
    }  # fmt: skip


def split(of):
    return ", ".join(f"{name} {value:.3f}" for name, value in of["labels"].items())


def difference(mine, theirs):
    """The 95 % interval of the mean difference, drawn by patient."""
    import numpy as np

    patients = {}
    for name, case in mine.items():
        patients.setdefault(case["patient"], []).append(case["mean"] - theirs[name]["mean"])
    groups, random = list(patients.values()), np.random.default_rng(0)
    means = [np.mean(np.concatenate([groups[k] for k in random.integers(0, len(groups), len(groups))])) for _ in range(DRAWS)]
    return np.percentile(means, [2.5, 97.5])


def reached(runs, target):
    """The shortest run that reaches the target, or None."""
    good = [run for run in runs if run["dice"] >= target]
    return min(good, key=lambda run: run["minutes"]) if good else None


def time_row(rival, soonest, longest, target):
    """Seconds to the target; where the rival never reaches it, its longest run, and the ratio is a lower bound."""
    mine, theirs = soonest[OURS]["seconds"]["whole"], soonest[rival]
    seconds = theirs["seconds"]["whole"] if theirs else 60 * longest
    check = f"Dice {soonest[OURS]['dice']:.3f} beside {theirs['dice']:.3f}" if theirs else f"not reached in {longest:g} min: a lower bound"
    row = alone(f"time to test Dice {target:g}", [Turn(mine)], check=check)
    return row | {"opponent": NAMES[rival], "theirs": {"wall": seconds}, "wall_ratio": [seconds / mine] * 3, "goal": 5}


if __name__ == "__main__":
    main()
