"""How to do it again: the commands, the machine and the versions, from the record of the run."""

import shlex
from pathlib import Path
from typing import Any

from vesalius.report.facts import Facts
from vesalius.report.tables import in_words

SHOWN = ("date", "command", "machine", "versions")


def commands(facts: Facts) -> list[tuple[str, str]]:
    """(what it does, command line)."""
    folder = shlex.quote(facts.name)
    version = (facts.record.get("versions") or {}).get("vesalius")
    lines = [("Install the same version", f"pip install 'vesalius[train]=={version}'")] if version else []
    started = command_line(facts.record.get("command") or [])
    if started:
        lines.append(("What was run", started))
    return [*lines, ("Use the model on other scans", f"vesalius predict {folder} SCANS -o ANSWERS"),
            ("Score it again", f"vesalius evaluate {folder}"), ("Make this page again", f"vesalius report {folder}")]  # fmt: skip


def command_line(words: list[str]) -> str:
    """The recorded command as one would type it; the program goes by its name, not by its place on that machine."""
    if not words:
        return ""
    program = Path(str(words[0])).name
    start = ["python", "-m", "vesalius"] if program == "__main__.py" else [program]
    return shlex.join([*start, *map(str, words[1:])])


def environment(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, value) of the date, the machine, and whatever else was recorded."""
    machine = dict(record.get("machine") or {})
    memory = machine.pop("memory_bytes", None)
    lines = [("date", str(record["date"]))] if record.get("date") else []
    lines += [(key, in_words(value)) for key, value in machine.items()]
    if memory:
        lines.append(("memory", f"{memory / 2**30:.1f} GiB"))
    return lines + [(key.replace("_", " "), in_words(value)) for key, value in record.items() if key not in SHOWN]
