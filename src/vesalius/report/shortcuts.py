"""What the report shows of the controls: whether margin, centre, shuffled labels or the site tell the class, and what else does."""

from typing import Any

from vesalius.report.facts import Facts
from vesalius.report.numbers import interval, number

CHECKS = ("margin", "site", "shuffle", "shortcut")


def shortcuts(facts: Facts) -> dict[str, Any] | None:
    """{"rows": (looked at, tells, area, its interval, area of shuffled labels), "findings": sentences, "note"}; None where the doctor
    did not look for shortcuts."""
    findings = facts.doctor or []
    looked = [finding for finding in findings if finding.get("check") == "controls"]
    said = [finding for finding in findings if finding.get("check") in CHECKS]
    if not looked and not said:
        return None
    rows = [row(one) for finding in looked for one in (finding.get("details") or {}).get("rows", ())]
    notes = [str(finding["message"]) for finding in looked if not (finding.get("details") or {}).get("rows")]
    return {"rows": rows, "findings": [(str(one["severity"]), str(one["message"])) for one in said], "notes": notes}


def row(one: dict[str, Any]) -> tuple[str, str, float, str, str]:
    """One line of the table."""
    bound = f", which goes with the class (Cramér's V {number(one['v'], 2)})" if "v" in one else ""
    chance = f"{number(one['shuffled'])} ({interval(one['shuffled_low'], one['shuffled_high'])})"
    return str(one["what"]), f"{one['tells']}{bound}", float(one["auc"]), interval(one["low"], one["high"]), chance
