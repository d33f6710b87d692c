"""What testing will take: what is timed is counted as often as testing does it, and the report by how busy the machine is."""

import time

import numpy as np
import pytest

from tests.unit.engine.test_whole import cohort, plan_of
from tests.unit.engine.tiny import write_run
from vesalius.engine import forecast, workflow
from vesalius.engine.forecast import SPARE
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.sets import DRAWS
from vesalius.engine.workflow import Session, _with_deadline
from vesalius.plan import Request


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """A run of 10 validation and 8 test cases whose every timed piece of work takes `each` seconds, and whose files take none."""

    def make(*, each=0.01, folds=1, patients=None):
        data = cohort(tmp_path / "pictures", patients=patients)
        names = [c.name for c in data.cases]
        plan = plan_of().model_copy(update={"folds": folds})
        promise = plan.expected.model_copy(update={"budget_seconds": 100.0, "tile_seconds": 0.5})
        plan = plan.model_copy(update={"expected": promise, "train": plan.train.model_copy(update={"seconds": 85.0})})
        parts = [(names[10:32], names[:10])] * folds
        run = write_run(tmp_path / "run", data, plan, folds=parts, test=names[32:])
        done = []
        monkeypatch.setattr(forecast, "_timed", lambda work, times=4: (done.append(work()), each)[1])
        monkeypatch.setattr(forecast, "in_parts", lambda cases, plan: iter(()))
        return run, done

    return make


def test_intervals_take_a_thousand_draws_for_each_part(make_run):
    run, done = make_run()
    each = 18 * 1.2 * 0.5
    intervals = forecast.PEOPLE * sum(DRAWS + people + forecast.EXAMINED for people in (10, 8)) * 0.01
    assert forecast.testing_cases(run, None, busy=1.0) == pytest.approx(SPARE * (forecast.REPORT_CPU + each + intervals), abs=0.05)
    assert forecast.testing_cases(run, None, busy=3.0) == pytest.approx(SPARE * (3 * forecast.REPORT_CPU + each + intervals), abs=0.05)
    assert set(done[0]) == {"dark", "bright", "all"}, "what was timed are the measures"


def test_test_cases_are_answered_by_every_fold_and_patients_with_several_cases_are_drawn_twice(make_run):
    run, _ = make_run(each=0.0, folds=3)
    seconds = (10 + 3 * 8) * 1.2 * 0.5 + 2 * forecast.EXPLAINED * 0.5
    assert forecast.testing_cases(run, None, busy=1.0) == pytest.approx(SPARE * (forecast.REPORT_CPU + seconds), abs=0.05)


def test_patients_with_several_cases_are_drawn_once_more(make_run):
    run, _ = make_run(patients=[f"p{k // 2}" for k in range(40)])
    intervals = forecast.PEOPLE * sum(DRAWS + people + forecast.EXAMINED for people in (5, 4)) * 0.01 * 1.5
    assert forecast.testing_cases(run, None, busy=1.0) == pytest.approx(SPARE * (forecast.REPORT_CPU + 18 * 0.6 + intervals), abs=0.05)


def test_the_budget_is_what_the_user_waits_and_a_budget_that_is_gone_is_said(make_run, tmp_path):
    run, _ = make_run(each=0.0)
    told = []

    class Console(Listener):
        started = time.monotonic() - 40

        def say(self, text):
            told.append(text)

    session = Session(tmp_path, None, Console(), Request())
    expected = 100 - 40 - SPARE * (forecast.REPORT_CPU + 18 * 0.6)
    assert _with_deadline(session, run, left=1).train.seconds == pytest.approx(expected, abs=1.0) and not told
    session.started -= 60
    assert _with_deadline(session, run, left=1).train.seconds == workflow.LEAST_SECONDS and "--budget" in told[0]


def test_a_machine_that_does_something_else_is_busy(monkeypatch, tmp_path):
    session = Session(tmp_path, None, Listener(), Request())
    session.sat, session.processor = time.monotonic() - 60, time.process_time() - 20
    assert session.busy == pytest.approx(3.0, abs=0.1)
    session.processor -= 100
    assert session.busy == 1.0, "two processors at work are not busy with anything else"


def test_work_is_timed_after_a_first_time_that_does_not_count(monkeypatch):
    now, called = iter(np.arange(0, 100, 2.0)), []
    monkeypatch.setattr(forecast.time, "perf_counter", lambda: next(now))
    assert forecast._timed(lambda: called.append(1)) == 0.5 and len(called) == 5


def test_the_question_whether_it_was_worth_it_is_counted(make_run):
    run, _ = make_run()
    train, val, test = 22, 10, 8
    plain = run.plan.model_copy(update={"train": run.plan.train.model_copy(update={"method": "vae"})})
    machine = run.plan.model_copy(update={"train": run.plan.train.model_copy(update={"method": "rbm"})})
    answers = (2 * (train + val + test) + test) * 0.5
    for plan, more in ((plain, 0.0), (machine, forecast.LIKELY * run.plan.expected.parameters)):
        plan.save(run.path / "plan.json")
        asked = Run(run.path)
        processor = forecast.WORTH_CPU + 40 * forecast.PROBED + more
        assert forecast.asking_worth(asked, busy=1.0) == pytest.approx(answers + processor)
        assert forecast.asking_worth(asked, busy=4.0) == pytest.approx(answers + 4 * processor)
