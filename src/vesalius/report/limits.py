"""How far the figures can be trusted: sentences that follow from the facts, none of them decoration."""

from collections import Counter
from collections.abc import Iterator
from statistics import median

from vesalius.report.facts import Facts
from vesalius.report.glossary import measure
from vesalius.report.numbers import case_means, labels, listed, number, patients, plural
from vesalius.report.tables import leading
from vesalius.report.verdict import done, gain_over, overall, states

FEW_PATIENTS = 20
FEW_OBJECTS = 10
WIDE = 0.05  # an interval of Dice wider than this hides differences that people argue about
SITES = ("site", "scanner", "hospital", "centre", "center", "institution", "manufacturer", "vendor")
Limits = Iterator[tuple[str, str]]


def limits(facts: Facts) -> list[tuple[str, str]]:
    """(what, sentence) for everything that weakens the conclusions; always ends with what was not tested at all."""
    if not facts.rows:
        return [("Not evaluated", "No case has been scored yet: nothing can be said about how well this works."), *_data(facts), _always()]
    found = (rule(facts) for rule in RULES)
    return [*(limit for some in found for limit in some), _always()]


def _leaks(facts: Facts) -> Limits:
    if facts.splits.get("leaks"):
        yield "Leaky split", (
            f"{facts.splits['leaks']} The run was trained and tested on it all the same (--allow-leaks): its scores say how much is known "
            "by heart, not how good the model is. Train again with --fix-split."
        )


def _left_out(facts: Facts) -> Limits:
    how = facts.calibration
    faint = [f"{name} ({number(found['log_odds'])})" for name, found in (how.get("outlines") or {}).items()]
    single = list(how.get("single") or {})
    told = [f"outlines of {listed(faint)} that nowhere reach these log odds are left out"] if faint else []
    told += [f"of {listed(single)} the largest outline alone is kept"] if single else []
    said = " and ".join(told)
    if said:
        yield "Outlines left out", (
            f"{said[0].upper()}{said[1:]}, because that was better on validation cases (calibration.json, where "
            "it can be taken out). What is faint, or a second one, is lost by it."
        )


def _size(facts: Facts) -> Limits:
    count = patients(facts.rows)
    if count < 2:
        yield "One patient", "All scores come from one patient: there is no interval, and nothing can be said about other patients."
    elif count < FEW_PATIENTS:
        yield "Few patients", (
            f"The scores come from {plural(count, 'patient')}. With fewer than {FEW_PATIENTS} even the intervals are uncertain: "
            "take every figure as a first impression."
        )


def _width(facts: Facts) -> Limits:
    entry, how = overall(facts.scores("model"), leading(facts)), measure(leading(facts))
    if entry.get("low") is None or entry.get("high") is None or not how.share:
        return
    width = entry["high"] - entry["low"]
    if width > WIDE:
        yield "Wide interval", (
            f"The interval of the mean {how.title} is {number(width)} wide: an improvement of less than about {number(width / 2)} "
            "cannot be seen on this test set. Four times as many patients would halve it."
        )


def _comparison(facts: Facts) -> Limits:
    gain = gain_over(facts, "baseline", leading(facts))
    if gain is None:
        yield "No baseline", "No shallow baseline was scored: it is not known whether a simple method would do as well."
    elif not gain.clear and gain.width is not None:
        yield "Test set too small to tell", (
            "The interval of the difference to the shallow baseline includes zero: on these patients the two cannot be told apart."
        )
    if not facts.raters:
        what = "one outline per structure" if facts.grain == "voxel" else "one opinion on each case"
        yield "One rater", (
            f"There is {what}. How far two people would differ is not known, so neither is how much better than "
            "this a model could be."
        )


def _part(facts: Facts) -> Limits:
    if facts.part != "test" and len(facts.splits.get("folds") or []) > 1:
        yield "No test set", (
            "Each case was answered by networks that never learned from it, but choices that were made after looking at these figures fit "
            "them. Hold back some patients as a test set before the last word."
        )
    elif facts.part != "test":
        yield "No test set", (
            "These are validation cases, which were watched during training, so the figures may be a little too good. Hold back some "
            "patients as a test set to learn how good it really is."
        )


def _patients(facts: Facts) -> Limits:
    if facts.dataset is not None and all(case.patient == case.name for case in facts.dataset.cases):
        yield "One case, one patient", (
            "Every case counts as a patient of its own. Should some belong together after all, the intervals are too narrow and the "
            "split may leak; say who is who with --patient."
        )


def _labels(facts: Facts) -> Limits:
    there = Counter(str(row["label"]) for row in facts.rows if (row.get("state") or "scored") in ("scored", "missed", "right", "wrong"))
    rare = [f"{label} ({there[label]})" for label in labels(facts.rows) if there[label] < FEW_OBJECTS]
    if rare and facts.grain != "voxel":
        yield "Rare classes", f"Fewer than {FEW_OBJECTS} cases were there to be scored of {listed(rare)}. Their scores say little."
    elif rare:
        yield "Rare labels", f"Fewer than {FEW_OBJECTS} true structures were there to be scored of {listed(rare)}. Their means say little."


def _failures(facts: Facts) -> Limits:
    found = states(facts.rows)
    for state, title, words in (
        ("missed", "Missed", "nothing was marked where the rater outlined something"),
        ("hallucinated", "Hallucinated", "something was marked where the rater outlined nothing"),
    ):
        if found[state]:
            where = [f"{row['label']} in {row['case']}" for row in facts.rows if row.get("state") == state]
            yield title, f"For {plural(found[state], 'structure')} {words}: {listed(where)}."
    if found["both_empty"]:
        yield "Empty structures", _empty(facts, found["both_empty"])


def _empty(facts: Facts, count: int) -> str:
    metric = leading(facts)
    there = [row[metric] for row in facts.rows if row.get("state") in ("scored", "missed") and row.get(metric) is not None]
    words = f"{plural(count, 'time')} a structure is absent from truth and prediction alike, which counts as full agreement"
    if not there:
        return words + ": there is no structure to be measured on."
    return words + f". Of the {len(there)} that are there, the mean {measure(metric).title} is {number(sum(there) / len(there))}."


def _worst(facts: Facts) -> Limits:
    metric = leading(facts)
    means = case_means(facts.rows, metric)
    if len(means) < 5 or not measure(metric).share:
        return
    middle, (case, low) = median(means.values()), min(means.items(), key=lambda pair: pair[1])
    if middle - low > 0.1:
        yield "The mean hides bad cases", (
            f"Half of the cases lie above {number(middle)}, but {case} has {number(low)}. Look at the pictures of the worst case "
            "before you rely on the mean."
        )


def _training(facts: Facts) -> Limits:
    if facts.curves and done(facts) < 0.995:
        yield "Training cut short", f"It ended after {100 * done(facts):.0f} % of its schedule; the model could become better."


def _data(facts: Facts) -> Limits:
    counts = Counter(str(finding.get("severity")) for finding in facts.doctor or [])
    left = [plural(counts[word], word) for word in ("error", "warning") if counts[word]]
    if left:
        yield "Findings in the data", f"The data doctor left {listed(left)} standing; see there what that may do to the figures."
    if facts.dataset is not None and not {key.lower() for case in facts.dataset.cases for key in case.metadata} & set(SITES):
        yield "Where the scans come from", (
            "The data do not say which hospital or scanner a scan comes from: it was not tested whether the model also works elsewhere."
        )


def _always() -> tuple[str, str]:
    return "Not a medical device", (
        "The model can be trusted at most on cases like those it was tested on. Other scanners, protocols, age groups or diseases may "
        "give other results. It is for research, not for decisions about patients."
    )


RULES = (_leaks, _size, _width, _comparison, _part, _patients, _labels, _failures, _left_out, _worst, _training, _data)
