"""The command `vesalius transfer`: its words become what is asked, and what was found becomes a table and a page."""

import json

import pytest

from tests.unit.audit.test_transfer import Jobs, begun, stripes
from tests.unit.engine.test_whole import plan_of
from vesalius.cli.main import main
from vesalius.engine.state import save_weights
from vesalius.plan import build


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table of 40 pictures to label and 24 to test on, and jobs that learn nothing."""
    data = stripes(tmp_path / "pictures", 64)
    rows = ["image,label,patient,split"]
    for k, case in enumerate(data.cases):
        rows.append(f"{case.images['image']},{next(iter(case.classes))},{case.patient},{'train' if k < 40 else 'test'}")
    (tmp_path / "table.csv").write_text("\n".join(rows), encoding="utf-8")
    Jobs(monkeypatch, gains={"scratch": 0, "simclr": 0.1, "general": -0.1})
    return tmp_path / "table.csv"


def test_the_command_answers_with_a_table_and_a_page(table, tmp_path, capsys):
    folder = begun(tmp_path / "audit", plan_of())
    weights = tmp_path / "general.safetensors"
    save_weights(weights, build(plan_of().net, 1, 2, seed=0).state_dict(), {})
    words = ["transfer", str(table), "-o", str(folder), "--labels", "10,20", "--seeds", "2", "--methods", "scratch,simclr", "--init",
             f"general={weights}", "--budget-per-run", "none"]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "Better than from scratch: simclr (at 10 and 20 labels)." in said and "Worse than from scratch: general" in said
    assert "10 labels, 24 test cases" in said and "+0.100" in said and (folder / "transfer.html").exists()
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["done"] == found["of"] == 12 and set(found["rivals"]) == {"scratch", "simclr", "general"}


@pytest.mark.parametrize(("more", "said"), [
    (["--labels", "few"], "numbers of labels"), (["--init", "general"], "NAME=PATH"), (["--methods", "simcrl"], "Did you mean simclr"),
    (["--labels", "10,1000"], "40 cases beside the test part"),
])  # fmt: skip
def test_words_that_cannot_be_are_refused(table, tmp_path, capsys, more, said):
    assert main(["transfer", str(table), "-o", str(tmp_path / "audit"), "--budget-per-run", "none", *more]) == 2
    assert said in capsys.readouterr().err
