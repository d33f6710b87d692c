"""What a run folder holds so far, read once: every other file of this room takes these facts and touches no disk."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json
from vesalius.data.dataset import Dataset

Rows = list[dict[str, Any]]
FILES = ("plan.json", "record.json", "dataset.json", "splits.json", "doctor.json", "fingerprint.json", "metrics.json")


@dataclass(frozen=True)
class Curve:
    """One `log.csv`; the lists are equally long. `validation` is None in steps without a quick validation."""

    name: str
    step: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    loss: list[float | None] = field(default_factory=list)
    learning_rate: list[float | None] = field(default_factory=list)
    validation: list[float | None] = field(default_factory=list)

    @property
    def best(self) -> float | None:
        """Highest quick validation so far."""
        return max((v for v in self.validation if v is not None), default=None)

    @property
    def done(self) -> float:
        """Fraction of the schedule behind us, 0 to 1."""
        return min(1.0, self.progress[-1]) if self.progress else 0.0

    @property
    def seconds_left(self) -> float | None:
        """What remains if the rest goes as fast as what is done; None before the first step."""
        return self.seconds[-1] * (1 - self.done) / self.done if self.done > 0 else None


@dataclass(frozen=True)
class Facts:
    """The files of a run folder as plain JSON; {} where a file is not there (yet), and None where the doctor has not been."""

    folder: Path
    live: bool
    plan: dict[str, Any]
    record: dict[str, Any]
    dataset: Dataset | None
    splits: dict[str, Any]
    doctor: Rows | None
    fingerprint: dict[str, Any]
    metrics: dict[str, Any]
    curves: tuple[Curve, ...]
    trained: bool
    calibration: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.folder.resolve().name

    @property
    def parts(self) -> dict[str, dict[str, Any]]:
        """Scores by part, the test part first."""
        parts = self.metrics.get("parts") or {}
        order = sorted(parts, key=lambda name: ("test", "val").index(name) if name in ("test", "val") else 2)
        return {name: parts[name] for name in order if (parts[name] or {}).get("model")}

    @property
    def part(self) -> str:
        """The part that the report is about: test where there is one; '' before any evaluation."""
        return next(iter(self.parts), "")

    @property
    def grain(self) -> str:
        """What there is to learn from: "voxel", "case" or "image"."""
        return self.dataset.grain if self.dataset else "voxel"

    @property
    def unit(self) -> str:
        return str(self.metrics.get("unit") or "mm")

    @property
    def ndim(self) -> int:
        """Axes of the scans: 2 or 3."""
        return len(next(iter(self.fingerprint.get("shapes") or []), (1, 1, 1)))

    @property
    def rows(self) -> Rows:
        """Scores of the model on `part`, one row for each case and label."""
        return self.scores("model").get("rows") or []

    def scores(self, who: str) -> dict[str, Any]:
        """Scores of "model" or "baseline" on `part`; {} where there are none."""
        return (self.parts.get(self.part) or {}).get(who) or {}

    @property
    def raters(self) -> dict[str, dict[str, Any]]:
        """Scores of further raters on `part`, by name."""
        return {name: scores for name, scores in ((self.parts.get(self.part) or {}).get("raters") or {}).items() if scores}


def gather(folder: Path, *, live: bool = False) -> Facts:
    """Everything that `folder` holds; a folder that is no run at all is an error."""
    folder = Path(folder)
    logs = tuple(_logs(folder))
    if not logs and not any((folder / name).is_file() for name in FILES):
        from vesalius.engine.answered import not_exported

        not_exported(folder)
        raise VesaliusError(f"{folder} is not a run folder: it holds none of {', '.join(FILES)}. Give the folder named by `train -o`.")
    dataset = _json(folder / "dataset.json", {})
    return Facts(
        folder=folder, live=live, plan=_json(folder / "plan.json", {}), record=_json(folder / "record.json", {}),
        dataset=Dataset.from_json(dataset) if dataset else None, splits=_json(folder / "splits.json", {}),
        doctor=_json(folder / "doctor.json", None), fingerprint=_json(folder / "fingerprint.json", {}),
        metrics=_json(folder / "metrics.json", {}), curves=tuple(read_log(path, name) for name, path in logs),
        calibration=_json(folder / "calibration.json", {}),
        trained=any(any(folder.glob(f"{place}weights.safetensors")) for place in ("", "fold_*/")),
    )  # fmt: skip


def _json(path: Path, empty: Any) -> Any:
    return read_json(path) if path.is_file() else empty


def _logs(folder: Path) -> Iterator[tuple[str, Path]]:
    places = [f"{fold}{seed}{second}log.csv" for fold in ("", "fold_*/") for seed in ("", "seed_*/") for second in ("", "corrected/")]
    found = [path for place in places for path in folder.glob(place) if path.is_file()]
    for path in sorted(found, key=lambda p: (len(str(p)), str(p))):
        words = path.parent.relative_to(folder).as_posix().replace("_", " ").replace("/", ", ")
        words = words.replace("corrected", "corrects the baseline")
        yield "" if words == "." else words, path


def read_log(path: Path, name: str = "") -> Curve:
    """`log.csv` as a curve. A line that is still being written is left out."""
    curve = Curve(name)
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            step, seconds, progress = (_number(row.get(key)) for key in ("step", "seconds", "progress"))
            if step is None or seconds is None or progress is None or None in row.values():
                continue
            curve.step.append(step)
            curve.seconds.append(seconds)
            curve.progress.append(progress)
            curve.loss.append(_number(row.get("loss")))
            curve.learning_rate.append(_number(row.get("learning_rate")))
            curve.validation.append(_number(row.get("validation")))
    return curve


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None
