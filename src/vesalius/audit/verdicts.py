"""Plain sentences out of differences and their intervals: better, not better, worse; never more than the numbers bear."""

from collections.abc import Mapping, Sequence
from typing import Any

Cell = Mapping[str, float | None]
NAMES = {"drawn": "the network before it learned", "pixels": "raw pixels", "pca": "principal components", "kmeans": "k-means"}


ORDER = ("pixels", "pca", "kmeans", "drawn")


def standing(gap: Cell) -> str:
    """"better", "worse" or "not told apart" from {"low", "high"} of a difference whose larger values are better."""
    low, high = gap["low"], gap["high"]
    if low is None or high is None:
        return "not told apart"
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"


def signed(gap: Cell) -> str:
    """'+0.052 [+0.011, +0.094]'."""
    if gap["difference"] is None:
        return "not defined"
    ends = f" [{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap["low"] is not None and gap["high"] is not None else ""
    return minus(f"{gap['difference']:+.3f}{ends}")


def minus(numbers: str) -> str:
    """Numbers with the sign that is as wide as a plus."""
    return numbers.replace("-", "−")


def worth_verdict(found: Mapping[str, Any]) -> dict[str, Any]:
    """{"tone": good, bad or unsure, "headline", "sentences"} of what `audit.worth` found; the linear probe against raw pixels decides."""
    gaps = found["differences"].get("linear_probe")
    if not gaps:
        headline = "Whether its features are of use is not known: that takes labels."
        return {"tone": "unsure", "headline": headline, "sentences": _without(found)}
    areas, against = found["measures"]["linear_probe"], {who: standing(gap) for who, gap in gaps.items()}
    headline, tone = _headline(against)
    values = ", ".join(f"{NAMES[who]} {areas[who]['value']:.3f} (difference {signed(gaps[who])})" for who in gaps)
    sentences = [f"A linear probe on test images has an AUC of {areas['run']['value']:.3f}; on {values}."]
    sentences += [_others(found)] if _others(found) else []
    return {"tone": tone, "headline": headline, "sentences": sentences + _without(found)}


def _headline(against: Mapping[str, str]) -> tuple[str, str]:
    if against["pixels"] == "worse":
        return "Features of the run are worse than raw pixels on this data.", "bad"
    if against["pixels"] != "better":
        return "Features of the run are not better than raw pixels on this data.", "bad"
    lost = [NAMES[who] for who in ("drawn", "pca", "kmeans") if against.get(who, "better") != "better"]
    if lost:
        return f"Features of the run are better than raw pixels on this data, but not better than {listed(lost)}.", "unsure"
    return f"Features of the run are better than {listed([NAMES[who] for who in ORDER if who in against])} on this data.", "good"


def listed(words: Sequence[str]) -> str:
    """'one, two and three'."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _others(found: Mapping[str, Any]) -> str:
    """Where other measures disagree with raw pixels' standing in the first."""
    first = standing(found["differences"]["linear_probe"]["pixels"])
    unlike = {name: standing(gaps["pixels"]) for name, gaps in found["differences"].items()}
    words = {"neighbour_probe": "votes of neighbours", "precision_at_10": "retrieval", "nmi": "groups"}
    told = [f"{words[name]}: {state}" for name, state in unlike.items() if name in words and state != first]
    return f"Other measures against raw pixels: {'; '.join(told)}." if told else ""


def _without(found: Mapping[str, Any]) -> list[str]:
    """What needs no labels: reconstruction beside principal components, likelihood beside independent pixels."""
    told = []
    if made := found.get("reconstruction"):
        share = [1 - made[who]["value"] / made["mean"]["value"] if made["mean"]["value"] else 0.0 for who in ("run", "pca")]
        gap = made["differences"]["pca"]
        than = "less error than" if gap["high"] < 0 else "more error than" if gap["low"] > 0 else "about the error of"
        held = minus(f"{share[0]:.0%} and {share[1]:.0%}")
        told.append(f"Test images come back with {than} as many principal components ({held} of the variance).")
    if rows := found.get("likelihood"):
        told.append(_probable(rows))
    return told


def _probable(rows: list[dict[str, Any]]) -> str:
    own = [row for row in rows if row["who"] == "run"]
    careful = next((row for row in own if "conservative" in row["how"] or "too bad" in row["how"]), own[0])
    best = max((row for row in rows if row["who"] != "run"), key=lambda row: float(row["value"]))
    than = "more" if careful["low"] > best["high"] else "less" if careful["high"] < best["low"] else "about as"
    joint = "as" if than.startswith("about") else "than"
    nats = minus(f"{careful['value']:.1f} and {best['value']:.1f}")
    return f"Test images are {than} probable to it {joint} to {best['who']} ({nats} nats; its own by {careful['how']})."
