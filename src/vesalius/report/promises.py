"""What the report shows of promises that were made on validation cases: whether they hold on the cases of the test."""

from typing import Any

from markupsafe import Markup

from vesalius.report.curves import SQUARE
from vesalius.report.facts import Facts
from vesalius.report.figures import Frame, Line, chart
from vesalius.report.numbers import DASH, interval, number


def promises(facts: Facts) -> dict[str, Any] | None:
    """Values of the section on trust; None where the scores hold none (a run of before)."""
    found = facts.scores("model").get("trust")
    if not found:
        return None
    return {"areas": areas(facts), "rows": rows(found), "charts": charts(found), "operating": operating(found), "remarks": found["remarks"],
            "fitted_here": facts.part == "val" and not left_out(facts)}  # fmt: skip


def left_out(facts: Facts) -> bool:
    """Whether the cases shown were judged by rules that were fitted without their fold."""
    return facts.part == "val" and len(facts.splits.get("folds") or []) > 1


def areas(facts: Facts) -> list[tuple[str, str, str]]:
    """(class, AUC of the model, AUC of the baseline), each with the interval of DeLong."""
    model, baseline = ((facts.scores(who).get("trust") or {}).get("areas") or {} for who in ("model", "baseline"))
    return [("all classes" if name == "all" else name, _area(one), _area(baseline.get(name))) for name, one in model.items()]


def _area(one: dict[str, Any] | None) -> str:
    if not one or one["auc"] is None:
        return DASH
    ends = interval(one["low"], one["high"])
    return f"{number(one['auc'])} ({ends})" if ends else number(one["auc"])


def rows(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(what, promised, found here)."""
    before, after = found["reliability"]["before"]["ece"], found["reliability"]["after"]["ece"]
    told = [("calibration error", f"{number(before)} before the temperature", number(after))]
    if "coverage" not in found:
        return told
    sets, answered, strange = found["coverage"], found["abstention"], found["strange"]
    whole = [("truth in the set of possible classes", sets["all"])] if "all" in sets else []
    told += [(name, f"{100 * sets['promised']:.0f} %", share(one)) for name, one in whole]
    told += [(f"… of {name}", f"{100 * sets['promised']:.0f} % on the whole", share(one)) for name, one in sets["by_class"].items()]
    told += [("sets that name one class", "", f"{100 * sets['single']:.0f} %; none in {100 * sets['empty']:.0f} %")]
    told += [("answers that are given", "", f"{100 * answered['answered']:.0f} % of the cases")]
    told += [("wrong among them", f"at most {100 * answered['risk']:.0f} %", share(answered["wrong"]))]
    return [*told, ("called strange", f"at most {100 * strange['alarms']:.0f} % of ordinary ones", share(strange))]


def operating(found: dict[str, Any]) -> list[list[str]]:
    """(class, wished on validation, threshold, then sensitivity, specificity and predictive values found here)."""
    rates = ("sensitivity", "specificity", "ppv", "npv")
    return [[str(one["class"]), f"{one['wish']} of at least {100 * one['least']:g} %", spread(one.get("thresholds") or [one["threshold"]]),
             *(share(one[name]) for name in rates)] for one in found.get("operating", ())]  # fmt: skip


def spread(thresholds: list[float]) -> str:
    """One threshold, or the least and greatest of several."""
    ends = list(dict.fromkeys((number(min(thresholds)), number(max(thresholds)))))
    return " to ".join(ends)


def share(one: dict[str, Any]) -> str:
    """A rate with its interval, in per cent."""
    if one["share"] is None:
        return DASH
    if one["low"] is None:
        return f"{100 * one['share']:.1f} %, {one['part']} of {one['whole']}"
    return f"{100 * one['share']:.1f} % ({100 * one['low']:.1f} to {100 * one['high']:.1f}), {one['part']} of {one['whole']}"


def charts(found: dict[str, Any]) -> list[tuple[str, Markup]]:
    """Reliability before and after the temperature, and wrong answers over how many are given."""
    lines = [Line([b[0] for b in found["reliability"][when]["bins"]], [b[1] for b in found["reliability"][when]["bins"]], kind, dots=True,
                  name=f"{when} the temperature") for when, kind in (("before", "baseline"), ("after", "model"))]  # fmt: skip
    honest = [Line((0.0, 1.0), (0.0, 1.0), "rater", faint=True, name="honest")]
    points = found["risk_coverage"]
    risk = [Line([p[0] for p in points], [p[1] for p in points], "model", name="wrong among those answered"),
            Line((0.0, 1.0), (0.0, 0.0), "rater", faint=True)]  # fmt: skip
    made = []
    for title, x_title, drawn in (
        ("Reliability before (in the colour of the baseline) and after the temperature", "stated probability", [*honest, *lines]),
        ("Wrong answers over the share of cases that is answered, the surest first", "share answered", risk),
    ):
        made.append((title, chart(drawn, Frame(title, x_title=x_title, marks=(), **SQUARE))))  # type: ignore[arg-type]
    return made
