"""What the report shows of shortcuts, and of a split that was let leak."""

from tests.unit.report.fake_run import make
from vesalius.core.files import read_json, write_json
from vesalius.report import write
from vesalius.report.facts import gather
from vesalius.report.shortcuts import shortcuts

ROW = {"what": "its margin alone", "tells": "the class", "auc": 0.913, "low": 0.87, "high": 0.95, "shuffled": 0.501,
       "shuffled_low": 0.42, "shuffled_high": 0.57}  # fmt: skip
SITE = {**ROW, "what": "the whole picture", "tells": "scanner", "v": 0.42, "p": 0.001}


def finding(check, severity, message, **details):
    return {"check": check, "severity": severity, "message": message, "cases": [], "remedy": "", "details": details}


def test_the_section_holds_the_table_and_what_was_found(tmp_path):
    folder = make(tmp_path / "run", tests=3, drawn=0)
    assert shortcuts(gather(folder)) is None, "outlines have no such section"
    doctor = [finding("controls", "note", "A look.", rows=[ROW, SITE]), finding("margin", "warning", "Read from the <margin>.")]
    write_json(folder / "doctor.json", [*read_json(folder / "doctor.json"), *doctor])
    found = shortcuts(gather(folder))
    assert found["rows"][0][:4] == ("its margin alone", "the class", 0.913, "0.870 to 0.950") and "0.42" in found["rows"][1][1]
    assert found["findings"] == [("warning", "Read from the <margin>.")] and found["notes"] == []
    page = write(folder).read_text(encoding="utf-8")
    assert 'id="shortcuts"' in page and 'href="#shortcuts"' in page and "its margin alone" in page and "&lt;margin&gt;" in page


def test_a_leaky_split_is_said_first_and_among_the_limits(tmp_path):
    folder = make(tmp_path / "run", tests=3, drawn=0)
    write_json(folder / "splits.json", {**read_json(folder / "splits.json"), "leaks": "12 images lie on two sides."})
    page = write(folder).read_text(encoding="utf-8")
    assert page.index("The split leaks: these scores are too good.") < page.index('id="results"')
    assert "Leaky split" in page and "12 images lie on two sides." in page
