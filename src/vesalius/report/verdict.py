"""What the reader should take home, in plain words, made from the facts alone."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vesalius.report.facts import Curve, Facts
from vesalius.report.glossary import Measure, measure
from vesalius.report.numbers import Interval, case_means, difference, duration, interval, labels, number, patients, plural
from vesalius.report.tables import leading, of_sets


@dataclass(frozen=True)
class Verdict:
    """`tone` is good, unsure, bad or neutral; `figures` are (name, number, small print) for the row of large numbers."""

    tone: str
    headline: str
    sentences: list[str]
    figures: list[tuple[str, str, str]] = field(default_factory=list)
    progress: float | None = None


def verdict(facts: Facts) -> Verdict:
    """The box on top of the report, for a run in any state."""
    if facts.rows:
        return _evaluated(facts)
    if facts.live and facts.curves:
        return _training(facts)
    if facts.trained:
        return Verdict("neutral", "The model is trained, but not evaluated yet.",
                       [f"To learn how well it works: vesalius evaluate {facts.name}.", _so_far(facts.curves)])  # fmt: skip
    if facts.curves:
        words = [f"It stands at {100 * done(facts):.0f} % of its schedule.", _so_far(facts.curves), "The same command takes it up again."]
        return Verdict("neutral", "Training has begun, but is not done.", words)
    return Verdict("neutral", "Nothing has been trained yet.", ["This report shows what is known so far: the data, and what was decided."])


def done(facts: Facts) -> float:
    """Fraction of the whole training behind us, over all folds and members."""
    members = int((facts.plan.get("members") or {}).get("value") or 1)
    turns = max(members * len(facts.splits.get("folds") or []), len(facts.curves), 1)
    return min(1.0, sum(curve.done for curve in facts.curves) / turns)


def seconds_left(facts: Facts) -> float | None:
    """What remains of all folds at the speed so far; None before the first step."""
    share, spent = done(facts), sum(curve.seconds[-1] for curve in facts.curves if curve.seconds)
    return spent * (1 - share) / share if share > 0 else None


def _training(facts: Facts) -> Verdict:
    share, left = done(facts), seconds_left(facts)
    steps = int(sum(curve.step[-1] for curve in facts.curves if curve.step))
    words = [f"{plural(steps, 'step')} so far. {_so_far(facts.curves)}".strip(), "This page refreshes itself until the training ends."]
    figures = [("done", f"{100 * share:.0f} %", ""), ("time left", duration(left), "at the speed so far")]
    best = best_validation(facts.curves)
    if best is not None:
        figures.append(("best quick validation", number(best), "quick, on few cases"))
    return Verdict("neutral", "Training is in progress.", words, figures, share)


def best_validation(curves: Sequence[Curve]) -> float | None:
    """Highest quick validation of any fold."""
    return max((c.best for c in curves if c.best is not None), default=None)


def _so_far(curves: Sequence[Curve]) -> str:
    best = best_validation(curves)
    return "" if best is None else f"The best quick validation was {number(best)}."


def _evaluated(facts: Facts) -> Verdict:
    metric = leading(facts)
    gain = gain_over(facts, "baseline", metric)
    tone, headline = _headline(gain, measure(metric))
    if facts.splits.get("leaks"):
        tone, headline = "bad", "The split leaks: these scores are too good."
    if facts.grain == "image" and not overall(facts.scores("model"), metric):
        headline = "The model has learned; what it says could not be tested."
    sentences = [_reach(facts, metric), _gain(facts, gain, metric), *_raters(facts, metric), _weakest(facts, metric), _lost(facts)]
    if tone == "bad" and facts.curves and not facts.splits.get("leaks"):
        sentences.append(f"It learned for {_effort(facts.curves)}: more time is the first thing to try.")
    return Verdict(tone, headline, [s for s in sentences if s], _figures(facts, gain, metric))


def gain_over(facts: Facts, who: str, metric: str) -> Interval | None:
    """Model minus baseline (or minus the rater called `who`) with its interval; None where there is nothing to compare."""
    sets = (facts.parts.get(facts.part) or {}).get("difference")
    if sets and who == "baseline":
        return of_sets((sets.get("all") or {}).get(metric), len(facts.rows), patients(facts.rows))
    other = facts.scores("baseline") if who == "baseline" else facts.raters.get(who) or {}
    return difference(facts.rows, other.get("rows") or [], metric)


def _effort(curves: Sequence[Curve]) -> str:
    steps = int(sum(curve.step[-1] for curve in curves if curve.step))
    return f"{duration(sum(curve.seconds[-1] for curve in curves if curve.seconds))} ({plural(steps, 'step')})"


def _headline(gain: Interval | None, how: Measure) -> tuple[str, str]:
    if gain is None:
        return "neutral", "The model is evaluated; there is no baseline to hold it against."
    if not gain.clear:
        return "unsure", "This test cannot tell the model from the shallow baseline."
    if gain.mean * (how.better or 1) > 0:
        return "good", "The model is clearly better than the shallow baseline."
    return "bad", "The shallow baseline is better than the model."


def overall(scores: dict[str, Any], metric: str) -> dict[str, Any]:
    """The summary of `metric` over all labels (or of the only label)."""
    summary = scores.get("summary") or {}
    entry = (summary.get("all") or (next(iter(summary.values())) if len(summary) == 1 else {})).get(metric)
    return entry if isinstance(entry, dict) and entry.get("mean") is not None else {}


def _reach(facts: Facts, metric: str) -> str:
    how, entry = measure(metric), overall(facts.scores("model"), metric)
    if not entry and facts.grain == "image":
        return f"{how.title} cannot be told: nothing says of these images what they are."
    if not entry:
        return f"{how.title} is defined for no case of this part: the structures are empty, or were missed."
    seen = f"{plural(len({row['case'] for row in facts.rows}), 'case')} of {plural(patients(facts.rows), 'patient')}"
    where = {"test": f"On {seen} that it never saw while learning",
             "val": f"On {seen} held back from learning but watched meanwhile (so this may be a little too good)"}.get(
                 facts.part, f"On {seen}")  # fmt: skip
    range_ = interval(entry.get("low"), entry.get("high"), how.digits)
    best = " 1 is perfect." if how.share else ""
    spread = f" (95 % interval {range_})" if range_ else ""
    article = "a mean" if facts.grain == "voxel" else "an" if how.title[0] in "AEIO" else "a"
    return f"{where}, the model reaches {article} {how.title} of {number(entry['mean'], how.digits)}{spread}.{best}"


def _gain(facts: Facts, gain: Interval | None, metric: str) -> str:
    entry, how = overall(facts.scores("baseline"), metric), measure(metric)
    if gain is None or not entry:
        return ""
    range_ = interval(gain.low, gain.high, how.digits, sign=gain.mean < 0 or not gain.clear)
    spread = f" (95 % interval {range_})" if range_ else ""
    does = "deep learning adds" if gain.mean * (how.better or 1) > 0 else "with deep learning that changes by"
    shallow, more = number(entry["mean"], how.digits), number(gain.mean, how.digits)
    method = facts.scores("baseline").get("method")
    return f"The shallow baseline{f' ({method})' if method else ''} reaches {shallow}; {does} {more}{spread}."


def _raters(facts: Facts, metric: str) -> list[str]:
    how, sentences = measure(metric), []
    for name, scores in facts.raters.items():
        gain, entry = gain_over(facts, name, metric), overall(scores, metric)
        if gain is None or not entry:
            continue
        side = "no different from" if not gain.clear else "above" if gain.mean * (how.better or 1) > 0 else "below"
        sentences.append(f"A second person ({name}) reaches {number(entry['mean'], how.digits)} against the same reference; the model is "
                         f"{side} that ({number(gain.mean, how.digits, sign=True)}{_bracket(gain, how)}).")  # fmt: skip
    return sentences


def _bracket(gain: Interval, how: Measure) -> str:
    range_ = interval(gain.low, gain.high, how.digits, sign=True)
    return f", {range_}" if range_ else ""


def _weakest(facts: Facts, metric: str) -> str:
    summary, how = facts.scores("model").get("summary") or {}, measure(metric)
    means = {label: summary[label][metric]["mean"] for label in labels(facts.rows)
             if ((summary.get(label) or {}).get(metric) or {}).get("mean") is not None}  # fmt: skip
    if len(set(means.values())) < 2:
        return ""
    label = min(means, key=lambda name: means[name] * (how.better or 1))
    return f"The hardest label is {label} with {number(means[label], how.digits)}."


def states(rows: list[dict[str, Any]]) -> Counter[str]:
    """How many rows were scored, both_empty, missed and hallucinated."""
    return Counter(str(row.get("state") or "scored") for row in rows)


def _lost(facts: Facts) -> str:
    found = states(facts.rows)
    if found["right"] + found["wrong"]:
        were = "was" if found["wrong"] == 1 else "were"
        return f"{found['wrong']} of {plural(found['right'] + found['wrong'], 'case')} {were} named wrongly."
    if facts.grain == "image":
        return ""
    there = found["scored"] + found["missed"]
    words = "No structure was missed entirely"
    if found["missed"]:
        words = f"Of {plural(there, 'structure')}, {found['missed']} {'was' if found['missed'] == 1 else 'were'} missed entirely"
    return words + (f"; {plural(found['hallucinated'], 'structure')} marked where there is none." if found["hallucinated"] else ".")


def _figures(facts: Facts, gain: Interval | None, metric: str) -> list[tuple[str, str, str]]:
    how, figures = measure(metric), []
    for name, who in (("model", facts.scores("model")), ("baseline", facts.scores("baseline"))):
        entry = overall(who, metric)
        if entry:
            small = interval(entry.get("low"), entry.get("high"), how.digits)
            figures.append((f"{how.title}, {name}", number(entry["mean"], how.digits), small))
    if gain is not None:
        small = interval(gain.low, gain.high, how.digits, sign=True)
        figures.append(("deep learning adds", number(gain.mean, how.digits, sign=True), small))
    distance = overall(facts.scores("model"), "hd95")
    if distance:
        figures.append(("HD95, median", f"{number(distance.get('median'), 2)} {facts.unit}", f"mean {number(distance['mean'], 2)}"))
    found = states(facts.rows)
    if found["missed"]:
        figures.append(("missed", str(found["missed"]), f"of {found['scored'] + found['missed']} structures"))
    worst = min(case_means(facts.rows, metric).items(), key=lambda pair: pair[1], default=None)
    if worst and how.share and facts.grain != "image":
        figures.append(("worst case", number(worst[1], how.digits), worst[0]))
    return figures
