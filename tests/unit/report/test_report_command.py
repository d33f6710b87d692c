import json
from pathlib import Path

import pytest

from tests.unit.report.fake_run import make
from vesalius.cli.main import main


def test_the_command_prints_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = make(tmp_path / "run", tests=3, drawn=0)
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    assert main(["report", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"report": str(folder / "report.html"), "bytes": (folder / "report.html").stat().st_size}


def test_a_wrong_folder_is_the_users_to_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(tmp_path)]) == 1
    assert "is not a run folder" in capsys.readouterr().err
    assert main(["report"]) == 2
