"""What the report shows of images that a model makes."""

from typing import Any

from vesalius.report import tables
from vesalius.report.facts import Facts


def results(facts: Facts) -> dict[str, Any]:
    """Values of the sections that need scores."""
    summary = facts.scores("model")["summary"]
    columns = list(dict.fromkeys(name for row in summary.values() for name in row if name != "counts"))
    return {
        "template": "_generate.html.j2", "columns": columns, "metric": tables.leading(facts),
        "parts": [(name, tables.results(part, columns)) for name, part in facts.parts.items()],
        "groups": tables.groups(facts.scores("model"), columns),
    }
