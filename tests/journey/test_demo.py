"""`vesalius demo`: what a newcomer sees first."""

from functools import partial

import pytest

from vesalius.phantoms import brain_tumour


@pytest.mark.slow
def test_the_demonstration_goes_the_whole_way_and_is_not_repeated(run_command, tmp_path, monkeypatch):
    monkeypatch.setattr(brain_tumour, "write_cohort", partial(brain_tumour.write_cohort, shape=(32, 36, 30)))
    words = ("demo", "-o", tmp_path / "demo", "--cases", "8", "--budget", "20s")
    made = run_command(*words)
    assert (tmp_path / "demo" / "run" / "report.html").stat().st_size > 10_000
    assert set(made["metrics"]["parts"]) == {"val", "test"}
    assert {"necrotic", "oedema", "enhancing"} <= set(made["metrics"]["parts"]["test"]["model"]["summary"])
    again = run_command(*words)
    assert again["metrics"] == made["metrics"] and again["seconds"] < made["seconds"]
