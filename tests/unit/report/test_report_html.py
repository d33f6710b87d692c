import re
import shutil
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.unit.report.fake_run import log, make
from vesalius.core.errors import VesaliusError
from vesalius.core.files import read_json, write_json
from vesalius.report import write

EVIL = "<script>alert(1)<script>"
VOID = {"meta", "input", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Tags, their attributes and whether they are balanced."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make(tmp_path_factory.mktemp("report") / "run", rater="observer 2")
    write(folder)
    return folder


def test_the_page_holds_every_part_of_the_report(run: Path):
    found = page(run / "report.html")
    ids = {attrs["id"] for _, attrs in found.tags if "id" in attrs}
    sections = {"results", "cases", "table", "training", "data", "doctor", "plan", "limits", "repeat", "glossary"}
    assert sections <= ids
    assert {attrs["href"].removeprefix("#") for tag, attrs in found.tags if tag == "a" and attrs["href"]} == sections
    for words in ("The model is clearly better", "observer 2", "95 % interval", "2 training scans are nearly the same",
                  "Multiples of 16 run fastest", "A processor", "vesalius train 'hippo campus/' -o run --budget 20m",
                  "Half of the cases lie above", "best", "median", "worst", "2 |A and B|",
                  "axial, slice", "subject=(id+1)//2"):  # fmt: skip
        assert words in found.text, words


def test_the_page_asks_nothing_of_the_network(run: Path):
    text = (run / "report.html").read_text(encoding="utf-8")
    for tag, attrs in Page(text).tags:
        for key in ("src", "href", "xlink:href", "action", "data", "srcset"):
            assert (attrs.get(key) or "#").startswith(("#", "data:image/")), f"<{tag} {key}={attrs.get(key)}>"
    assert "url(" not in text and "@import" not in text and not re.search(r"https?://", text)
    assert len(text.encode()) < 3e6


def test_only_the_one_script_may_run(run: Path):
    text = (run / "report.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" in text
    assert "default-src 'none'" in text


def test_pictures_show_truth_and_prediction_in_three_planes(run: Path):
    text = (run / "report.html").read_text(encoding="utf-8")
    shown = text[text.index('<section id="cases">') : text.index('<section id="table">')]
    assert shown.count("<svg") == 9 and shown.count("data:image/png;base64,") == 9
    assert shown.count('class="outline truth"') >= 9 and shown.count('class="outline prediction"') >= 9


def test_the_table_can_be_sorted_by_plain_numbers(run: Path):
    rows = read_json(run / "metrics.json")["parts"]["test"]["model"]["rows"]
    text = (run / "report.html").read_text(encoding="utf-8")
    body = text[text.index('<table id="every">') :]
    cells = re.findall(r'data-v="([^"]*)"', body[: body.index("</table>")])
    assert float(cells[0]) == rows[0]["dice"] and len(cells) % len(rows) == 0


@pytest.mark.parametrize("live", [False, True])
def test_names_from_the_data_never_become_code(tmp_path: Path, live: bool):
    folder = make(tmp_path / "run", tests=4, labels=(EVIL, '"><img src=x onerror=alert(2)>'), rater="<svg onload=alert(3)>", name=EVIL)
    for name in ("plan", "record", "doctor", "splits"):
        poison(folder / f"{name}.json")
    tree = read_json(folder / "dataset.json")
    tree |= {"name": EVIL, "modality": EVIL, "notes": [EVIL], "layout": EVIL}
    tree["cases"][0]["metadata"] = {EVIL: EVIL}
    write_json(folder / "dataset.json", tree)
    scores = read_json(folder / "metrics.json")
    scores["definitions"]["dice"], scores["unit"] = EVIL, EVIL
    scores["parts"]["test"]["model"]["groups"] = {EVIL: {EVIL: scores["parts"]["test"]["model"]["summary"]}}
    write_json(folder / "metrics.json", scores)
    found = page(write(folder, live=live))
    tags = [tag for tag, _ in found.tags]
    assert tags.count("script") == 1 and "img" not in tags
    assert not [(tag, key) for tag, attrs in found.tags for key in attrs if key.startswith("on")]
    assert EVIL in found.text


def poison(path: Path) -> None:
    """Put code after every string of a JSON file, and keep its structure."""

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: v if k == "severity" else changed(v) for k, v in value.items()}
        return [changed(v) for v in value] if isinstance(value, list) else value + EVIL if isinstance(value, str) else value

    kept = changed(read_json(path))
    if path.name == "splits.json":
        kept = {**read_json(path), "reason": EVIL}
    write_json(path, kept)


def test_the_report_works_with_whatever_is_there(run: Path, tmp_path: Path):
    files = [path for path in sorted(run.iterdir()) if path.suffix in (".json", ".csv")]
    for missing in files:
        some = tmp_path / missing.stem
        shutil.copytree(run, some, ignore=shutil.ignore_patterns(missing.name, "predictions", "report.html"))
        page(write(some))
    for alone in files:
        one = tmp_path / f"only_{alone.stem}"
        one.mkdir()
        shutil.copy(alone, one)
        page(write(one))


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(VesaliusError, match="is not a run folder"):
        write(tmp_path)
    (tmp_path / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(VesaliusError, match="not valid JSON"):
        write(tmp_path)


def test_scans_that_are_gone_are_said_to_be_gone(tmp_path: Path):
    folder = make(tmp_path / "run", tests=4)
    shutil.rmtree(tmp_path / "scans")
    text = page(write(folder)).text
    assert text.count("It cannot be drawn.") == 6 and "does not exist" in text and "reaches a mean Dice" in text
    shutil.rmtree(folder / "predictions")
    assert "No prediction of this case in predictions/test." in page(write(folder)).text


def test_a_run_in_training_refreshes_itself_and_tells_the_time_left(tmp_path: Path):
    folder = make(tmp_path / "run", tests=3, drawn=0)
    (folder / "metrics.json").unlink()
    log(folder / "log.csv", reach=0.4)
    path = write(folder, live=True)
    text = path.read_text(encoding="utf-8")
    assert '<meta http-equiv="refresh"' in text and "<progress" in text and "data:image" not in text
    assert "Training is in progress." in page(path).text and "12 min" in page(path).text
    assert '<meta http-equiv="refresh"' not in write(folder).read_text(encoding="utf-8")
    assert [p.name for p in folder.iterdir() if p.name.endswith(".html")] == ["report.html"]


def test_flat_pictures_and_folds(tmp_path: Path):
    folder = make(tmp_path / "run", tests=5, ndim=2, labels=("lesion",), folds=3)
    write_json(folder / "fingerprint.json", {"shapes": [[180, 220]], "spacings": [[1.0, 1.0]], "physical": False})
    path = write(folder)
    text, words = path.read_text(encoding="utf-8"), page(path).text
    shown = text[text.index('<section id="cases">') : text.index('<section id="table">')]
    assert shown.count("<svg") == 6 and shown.count("outline truth") == 3
    assert "axial" not in words and "Fold 2: 1400 steps in 20 min." in words and "180 × 220 pixels" in words
    assert text.count('class="line fold2"') == 3
