"""The table of scores on the command line: columns that say something."""

from vesalius.cli._options import scores_table


def metrics(measures):
    cells = {"all": {name: {"mean": value, "low": None, "high": None} for name, value in measures.items()}}
    return {"unit": "mm", "leading": ["neighbours", "explained"], "parts": {"test": {"model": {"summary": cells}, "raters": {}}}}


def test_of_measures_that_lead_those_are_shown_that_could_be_asked_for(capsys):
    scores_table(metrics({"explained": 0.25, "error": 0.5}))
    told = capsys.readouterr().out
    assert "Explained variance" in told and "0.250" in told and "neighbours" not in told and "Error" not in told


def test_where_none_leads_what_there_is_is_shown(capsys):
    scores_table(metrics({"strange": 0.375}))
    told = capsys.readouterr().out
    assert "Loss on unseen images" in told and "0.375" in told and "–" not in told
