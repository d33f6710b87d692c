"""Nothing is ever half written: by an error, by a full disk, by kill -9."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vesalius.core.errors import VesaliusError
from vesalius.core.files import plain, read_json, write_beside, write_json, write_text


def test_text_and_json_there_and_back(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "Žluť\n")
    assert (tmp_path / "deep" / "a.txt").read_text(encoding="utf-8") == "Žluť\n"
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None, "c"]})
    assert read_json(tmp_path / "a.json") == {"b": [1, 2.5, None, "c"]}


def test_the_temporary_file_has_the_suffix_of_the_real_one(tmp_path):
    """Because many writers choose the format by it."""
    seen = []
    write_beside(tmp_path / "a.nii.gz", lambda beside: seen.append(beside.name) or beside.write_bytes(b"x"))
    assert seen[0].endswith(".a.nii.gz") and seen[0] != "a.nii.gz"


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")

    def fail(beside: Path) -> None:
        beside.write_text("half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        write_beside(tmp_path / "a.txt", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_that_says_so(tmp_path):
    write_text(tmp_path / "a.txt", "old")

    def fill(beside: Path) -> None:
        with open("/dev/full", "w") as full:
            full.write("x" * 100_000)

    with pytest.raises(VesaliusError, match=r"a\.txt.*No space left.*Free some space"):
        write_beside(tmp_path / "a.txt", fill)
    assert (tmp_path / "a.txt").read_text() == "old"


def test_kill_in_the_middle_leaves_the_old_file(tmp_path):
    """The child writes half, says so and waits; it is killed there, as by kill -9 or a power cut."""
    write_text(tmp_path / "a.txt", "old")
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from vesalius.core.files import write_beside\n"
            "def half(beside): beside.write_text('half'); print('written', flush=True); time.sleep(60)\n"
            "write_beside(Path(sys.argv[1]), half)",
            str(tmp_path / "a.txt"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None and child.stdout.readline() == "written\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert (tmp_path / "a.txt").read_text() == "old"
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_what_json_does_not_have_becomes_null(tmp_path):
    value = {"a": np.float32(1.5), "b": np.array([1, 2]), "c": float("nan"), "d": (float("inf"), Path("x")), 3: np.bool_(True)}
    assert plain(value) == {"a": 1.5, "b": [1, 2], "c": None, "d": [None, "x"], "3": True}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text())["c"] is None


@pytest.mark.parametrize(("content", "says"), [(None, "does not exist"), (b"{", "not valid JSON"), (b"\xff\xfe", "not valid JSON")])
def test_a_missing_or_broken_file_is_named(tmp_path, content, says):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(VesaliusError, match=rf"a\.json.*{says}"):
        read_json(tmp_path / "a.json")
