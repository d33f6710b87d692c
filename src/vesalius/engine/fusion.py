"""Several channels put together in four ways, each trained on the same data, the same split and the same share of the time.

Input, feature, decision and attention fusion as Dai, Gao & Liu 2021 (TransMed, Diagnostics 11(8):1384) compare them. No winner is
assumed: intervals stand beside each score, and where they overlap that is said.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vesalius.core.errors import UsageError, suggest
from vesalius.core.files import read_json, write_json
from vesalius.data.dataset import Dataset
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.workflow import train
from vesalius.plan import Request
from vesalius.plan.begin import named
from vesalius.plan.budget import seconds
from vesalius.plan.classifiers import Own
from vesalius.tasks import TASKS

ALL = "all"
EPOCHS = 30  # passes over the training cases below which a comparison is one of speed
SHOWN = ("auc", "balanced_accuracy")


def fused(dataset: Dataset, wish: Request, name: str) -> Request:
    """`wish` with the network of the fusion `name`; an error in words where there is nothing to fuse, or no way to."""
    ways = TASKS[dataset.task]().fusions
    if not ways:
        able = [task for task in TASKS if TASKS[task]().fusions]
        raise UsageError(f"--fusion is for {', '.join(able)}; {dataset.root} is labelled for another task ({dataset.task}), whose networks "
                         "take all channels together. Leave --fusion out.")  # fmt: skip
    if len(dataset.channels) < 2:
        raise UsageError(f"--fusion puts several channels together; {dataset.root} has one ({', '.join(dataset.channels)}). "
                         "Leave --fusion out, or give several images of a case.")  # fmt: skip
    if name not in ways:
        raise UsageError(suggest(name, [*ways, ALL], "fusion"))
    if "net.name" in map(named, wish.settings):
        raise UsageError("--fusion chooses the network: leave --set net.name out, or --fusion.")
    net, arguments = ways[name]
    mine = Own.of(wish.settings).arguments
    others = tuple(text for text in wish.settings if named(text) != "net.arguments")
    return wish.model_copy(update={"settings": (*others, f"net.name={net}", f"net.arguments={json.dumps({**arguments, **mine})}")})


def train_all(dataset: Dataset, output: Path, *, wish: Request, listener: Listener | None = None, **how: Any) -> dict[str, Any]:
    """Every fusion in `output`/fusion_<name>, each with an equal share of the budget; what `output`/fusion.json holds. A run that is
    there is continued. `how` is passed to `train`."""
    ways = tuple(TASKS[dataset.task]().fusions)
    wishes = {name: fused(dataset, wish, name) for name in ways or (ALL,)}
    share = None if wish.budget is None else seconds(wish.budget) / len(ways)
    heard = listener or Listener()
    runs = {}
    for number, (name, one) in enumerate(wishes.items(), 1):
        heard.say(f"Fusion {number} of {len(wishes)}: {name}.")
        since = time.monotonic()
        heard.started = since if number > 1 else heard.started  # each has a share of its own, which begins when it does
        one = one.model_copy(update={"budget": share})
        runs[name] = train(dataset, output / f"fusion_{name}", wish=one, listener=heard, **how)
        heard.say(f"Fusion {name}: {time.monotonic() - since:.0f} s.")
        write_json(output / "fusion.json", compared(runs, share))
        if heard.stop():
            heard.say(f"Stopped: {len(wishes) - number} fusions were not begun. The same command continues.")
            break
    return compared(runs, share)


def compared(runs: dict[str, Run], share: float | None) -> dict[str, Any]:
    """{"budget_seconds": of each, "part", "rows": one for each fusion, "words": what the intervals allow to say}."""
    rows = [row(name, run) for name, run in runs.items()]
    said = [*(words(rows, measure) for measure in SHOWN), short(rows)]
    return {"budget_seconds": share, "part": rows[0]["part"] if rows else "", "rows": rows, "words": said}


def row(name: str, run: Run) -> dict[str, Any]:
    """One fusion: its scores with intervals, what it is, and what it took."""
    parts = (run.metrics or {"parts": {}})["parts"]
    part = next((name for name in ("test", *parts) if name in parts), "")
    summary = parts[part]["model"]["summary"]["all"] if part else {}
    file = run.path / "record.json"
    record = read_json(file) if file.exists() else {}
    weights = sum(p.numel() for p in run.networks()[0].parameters())
    scores = {measure: {key: (summary.get(measure) or {}).get(key) for key in ("mean", "low", "high")} for measure in SHOWN}
    return {"fusion": name, "run": run.path.name, "net": run.plan.net.name, "arguments": run.plan.net.arguments, "part": part,
            "cases": len(parts[part]["model"]["rows"]) if part else 0, **scores, "parameters": weights, "steps": steps_of(run),
            "epochs": steps_of(run) * run.plan.patch.batch / max(1, seen_once(run)),
            "seconds": (record.get("seconds") or {}).get("whole"), "learned_seconds": (record.get("seconds") or {}).get("learn"),
            "baseline_auc": _baseline(parts.get(part) or {})}  # fmt: skip


def _baseline(part: dict[str, Any]) -> dict[str, Any] | None:
    """The shallow baseline's area under the curve with its interval; None where there is no baseline."""
    summary = (part.get("baseline") or {}).get("summary") or {}
    return (summary.get("all") or {}).get("auc")


def seen_once(run: Run) -> int:
    """Cases that all networks together learn from once."""
    return run.plan.members * sum(len(fold["train"]) for fold in run.splits["folds"])


def steps_of(run: Run) -> int:
    """Steps that were taken, of all networks together."""
    from vesalius.engine.state import load_weights

    return sum(int(load_weights(voice / "weights.safetensors")[1].get("step", 0)) for voice in run.trained())


def short(rows: Sequence[dict[str, Any]]) -> str:
    """Which fusions saw the cases so few times that they are judged by how fast they learn; "" where none did."""
    few = [f"{row['fusion']} ({row['epochs']:.0f})" for row in rows if row["epochs"] < EPOCHS]
    if not few:
        return ""
    return (f"In this time fewer than {EPOCHS} passes over the training cases were made by {', '.join(few)}: the table says how fast these "
            "learn rather than how good they can be. Allow more with --budget.")  # fmt: skip


def words(rows: Sequence[dict[str, Any]], measure: str) -> str:
    """Whether the intervals of the best and of the others overlap, in a sentence."""
    known = sorted((row for row in rows if row[measure]["mean"] is not None), key=lambda row: -float(row[measure]["mean"]))
    if len(known) < 2:
        return ""
    best, *others = known
    low = best[measure]["low"]
    close = [row["fusion"] for row in others if low is None or row[measure]["high"] is None or row[measure]["high"] >= low]
    what = measure.replace("auc", "AUC").replace("_", " ")
    if not close:
        return (f"In {what}, {best['fusion']} fusion is highest, and its interval lies above those of all others "
                "(on this split, with one seed).")  # fmt: skip
    return (f"In {what}, {best['fusion']} fusion is highest, but its interval overlaps with that of {', '.join(close)}: "
            "this does not show that one is better than the other.")  # fmt: skip
