"""Which of the objects at a place are read together: one series, chosen or the only one."""

from collections import Counter
from pathlib import Path

from vesalius.core.errors import FormatError
from vesalius.io.formats.dicom.heads import Head, what_else

ANNOTATIONS = ("SEG", "RTSTRUCT")  # are read when they are asked for; beside an image they stand back


def choose(place: Path, heads: list[Head], uid: str) -> tuple[list[Head], list[str]]:
    """(objects of one series, notes). `uid` is a SeriesInstanceUID, or its end or a modality (CT) where that is unique."""
    aside = {id(head): what_else(head) for head in heads}
    images = [head for head in heads if not aside[id(head)]]
    if not images:
        told = "; ".join(sorted(set(aside.values())))
        drawn = [head.series for head in heads if head.modality == "RTSTRUCT"]
        remedy = f"Give a folder or zip with its image, and choose it: FOLDER#{drawn[0]}" if drawn else "Give the image itself"
        raise FormatError(f"{place} is {told}. {remedy}.")
    groups: dict[str, list[Head]] = {}
    for head in images:
        groups.setdefault(head.series, []).append(head)
    if uid:
        found = [key for key in groups if key == uid]
        found = found or [key for key, group in groups.items() if key.endswith(uid) or group[0].modality == uid.upper()]
        if len(found) != 1:
            raise FormatError(f"{place} has {'no' if not found else 'more than one'} series {uid}. It holds:\n{_table(groups)}")
        return groups[found[0]], []
    acquired = {key: group for key, group in groups.items() if group[0].modality not in ANNOTATIONS} or groups
    if len(acquired) > 1:
        name = f"{place.name}#{next(iter(acquired))}"
        raise FormatError(f"{place} holds {len(acquired)} series. Choose one by its UID, for instance {name}:\n{_table(acquired)}")
    chosen = next(iter(acquired.values()))
    rest = Counter(head.modality or "other" for head in heads if not any(head is one for one in chosen))
    notes = [f"Left aside beside the series: {', '.join(f'{count} {kind}' for kind, count in sorted(rest.items()))}."] if rest else []
    notes += [f"{head.modality} is read as {place.name}#{head.get('SOPInstanceUID')}." for head in heads if head.modality == "RTSTRUCT"]
    return chosen, notes


def _table(groups: dict[str, list[Head]]) -> str:
    """One line per series: UID, modality, description, number of files."""
    lines = []
    for key, group in groups.items():
        told = str(group[0].get("SeriesDescription", "without description")).strip()
        lines.append(f"  {key or '(no UID)'}  {group[0].modality or '?'}  {told}  {len(group)} file{'s' * (len(group) > 1)}")
    return "\n".join(lines)
