"""The page of measured figures holds what was measured and nothing else, and the harness counts as it says."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def bench(monkeypatch):
    """`bench("report")` imports benchmarks/report.py."""
    monkeypatch.syspath_prepend(FOLDER)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (FOLDER / f"{name}.py").exists():
            del sys.modules[name]


def test_the_page_is_what_the_rows_say(bench):
    report = bench("report")
    kept = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "results").glob("*.json"))}
    assert set(kept) <= set(report.COMPARISONS) and all((FOLDER / f"{name}.py").is_file() for name in report.COMPARISONS)
    page = report.page([kept[name] for name in report.COMPARISONS if name in kept])
    assert (FOLDER / "results.md").read_text() == page, "write it again: python benchmarks/report.py"


def test_a_row_in_which_we_lose_is_said_so(bench):
    report, side = bench("report"), bench("_side_by_side")
    turns = {side.OURS: [side.Turn(2, 4), side.Turn(2, 2)], "slow": [side.Turn(6, 8), side.Turn(2, 6)], "quick": [side.Turn(1, 2)] * 2}
    slow, quick = side.rows("work", turns, check="equal", goal=5)
    assert slow["cpu_ratio"] == [2.5, 2, 3] and slow["wall_ratio"] == [2, 1, 3] and quick["cpu_ratio"] == [0.75, 0.5, 1]
    assert slow["ours"] == {"wall": 2, "cpu": 3} and slow["peak_ratio"] is None
    told = report.losses([{"rows": [slow, quick]}])
    assert "work: quick, time: 0.75 (0.50 … 1.00)" in told and "work: slow: 2.50, the goal was 5" in told


def test_rows_of_other_work_stay_and_the_same_work_is_replaced(bench, tmp_path, monkeypatch):
    side = bench("_side_by_side")
    monkeypatch.setattr(side, "RESULTS", tmp_path)
    for work, seconds in (("a", 1), ("b", 2), ("a", 3)):
        side.keep("made", [side.alone(work, [side.Turn(seconds)], check="")], title="Made up")
    rows = json.loads((tmp_path / "made.json").read_text())["rows"]
    assert [(row["work"], row["ours"]["wall"]) for row in rows] == [("a", 3), ("b", 2)]


def test_a_process_is_measured_and_one_that_fails_is_told(bench):
    side = bench("_side_by_side")
    turn = side.process("sum", [sys.executable, "-c", "x = bytearray(50_000_000); sum(range(10**6))"])
    assert turn.cpu > 0 and turn.wall > 0 and turn.peak > 50_000_000
    own = side.process("own", [sys.executable, "-c", """print('{"wall": 7, "cpu": 5, "labels": 3}')"""])
    assert (own.wall, own.cpu, own.more) == (7, 5, {"labels": 3})
    with pytest.raises(SystemExit, match="no luck"):
        side.process("bad", [sys.executable, "-c", "raise ValueError('no luck')"])


def test_uv_looks_where_pip_does(bench, tmp_path, monkeypatch):
    (tmp_path / "uv").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name, said in {"EXTRA_INDEX_URL": "file:///near file:///far", "FIND_LINKS": "/wheels", "INDEX_URL": "file:///all"}.items():
        monkeypatch.setenv(f"PIP_{name}", said)
    monkeypatch.setenv("SSL_CERT_FILE", "")  # which it sets: put back afterwards
    words = bench("startup").by_uv(tmp_path / "python")
    assert words[0] == str(tmp_path / "uv") and words[-2:] == ["--python", str(tmp_path / "python")]
    told = {f"--extra-index-url=file:///{place}" for place in ("near", "far")} | {"--find-links=/wheels", "--index-url=file:///all"}
    assert told <= {*words} and "--no-cache" in words


def test_a_first_result_is_one_volume_as_large_as_the_scan(bench, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    for name, sides in (("scan", (4, 5, 6)), ("good/scan", (4, 5, 6)), ("bad/scan", (4, 5, 7))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.zeros(sides, np.uint8), np.eye(4)), tmp_path / f"{name}.nii.gz")
    startup, scan = bench("startup"), tmp_path / "scan.nii.gz"
    startup.checked(scan, {"good": tmp_path / "good"})
    for wrong in ("bad", "none"):
        with pytest.raises(SystemExit, match=f"{wrong} did not answer"):
            startup.checked(scan, {wrong: tmp_path / wrong})


def test_the_scripts_of_others_are_of_networks_as_large_as_they_say(bench):
    pytest.importorskip("monai")
    first = bench("_first")
    said = {"monai": 1.18, "torchio": 1.40}
    assert {name: round(sum(p.numel() for p in make().parameters()) / 1e6, 2) for name, make in first.NETWORKS.items()} == said
    assert all(f"{millions:.2f} million" in first.__doc__ for millions in said.values())


def test_shallow_baselines_are_measured_without_a_network(bench, tmp_path, monkeypatch):
    from tests.unit.engine.test_whole import cohort

    monkeypatch.setattr("vesalius.engine.sets.DRAWS", 40)
    rows, cases, _ = bench("shallow").measured(cohort(tmp_path / "pictures", 60), side=8)
    assert cases == (38, 12) and [row["who"] for row in rows] == ["logistic regression", "gradient boosting"]
    assert sum(row["chosen"] for row in rows) == 1
    assert all(row["auc"]["low"] <= row["auc"]["mean"] <= row["auc"]["high"] for row in rows)
