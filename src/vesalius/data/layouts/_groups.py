"""Who the patient of a case is: a rule in words, a little arithmetic on the number in its name, or a regular expression."""

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import replace

from vesalius.core.errors import DataError, UsageError
from vesalius.data.case import Case
from vesalius.data.layouts._files import some

OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
NUMBERS = {word: k + 1 for k, word in enumerate("one two three four five six seven eight nine ten eleven twelve".split())}
ALONE = ("none", "image", "case", "")


def by_rule(cases: list[Case], rule: str) -> tuple[list[Case], list[str]]:
    """Patients by a `rule` as it stands in a dataset.json; the words say what was done.

    "subject=(id+1)//2"            arithmetic on the last number in the name of the case (`id` or `number`)
    "patient"                      what is already known (a table's column, a folder, the names in the splits)
    "first five digits = patient"  so many leading characters of the name
    "none", "image"                every image counts as its own patient
    a column of the metadata       the value in it
    """
    rule = rule.strip()
    if rule.lower() in ALONE:
        return cases, ["No patients are known: every image counts as its own patient (two of one patient could be parted)."]
    if rule.lower() == "patient":
        return cases, [f"{len({c.patient for c in cases})} patients in {len(cases)} cases."]
    if first := re.match(r"first (\w+) (?:digits|characters|letters)", rule, re.I):
        count = NUMBERS.get(first[1].lower()) or int(first[1])
        return [replace(c, patient=c.name[:count]) for c in cases], [f"Patient: the first {count} characters of the name."]
    column = re.split(r"[ (]", rule)[0]
    if cases and all(column in case.metadata for case in cases):
        return [replace(c, patient=str(c.metadata[column])) for c in cases], [f"Patient: the column {column!r}."]
    what, equals, expression = rule.partition("=")
    if not equals:
        raise DataError(f"The grouping rule {rule!r} is not understood. Give --patient REGEX, for instance --patient '^(p\\d+)'.")
    grouped = [replace(c, patient=f"{what.strip()} {arithmetic(expression, last_number(c.name))}") for c in cases]
    return grouped, [f"Patient: {rule}, which makes {len({c.patient for c in grouped})} patients of {len(cases)} cases."]


def last_number(name: str) -> int:
    """The last run of digits in a name (12 of 'scan3_012')."""
    found = re.findall(r"\d+", name)
    if not found:
        raise DataError(f"The grouping rule needs a number in the name of each case; {name!r} has none. Give --patient REGEX instead.")
    return int(found[-1])


def arithmetic(expression: str, number: int) -> int:
    """The value of + - * // % and brackets over whole numbers and `id` (or `number`); nothing else is understood."""
    try:
        return _value(ast.parse(expression.strip(), mode="eval").body, number)
    except (SyntaxError, KeyError, ZeroDivisionError, AttributeError):
        raise DataError(f"The grouping rule {expression!r} must use only id, whole numbers, + - * // % and brackets.") from None


def _value(node: ast.expr, number: int) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name) and node.id in ("id", "number"):
        return number
    if isinstance(node, ast.BinOp):
        return OPERATIONS[type(node.op)](_value(node.left, number), _value(node.right, number))
    raise KeyError(ast.dump(node))


def by_regex(cases: list[Case], pattern: str) -> tuple[list[Case], list[str]]:
    """Patients by searching `pattern` in "path/of/the/first/image" and then the name of the case: group "patient", else
    the first group, else the whole match."""
    try:
        search = re.compile(pattern).search
    except re.error as problem:
        raise UsageError(f"--patient {pattern!r} is not a regular expression: {problem}. For instance '(p\\d+)_'.") from None
    found = {case.name: search(case.name) or search(_place(case)) for case in cases}
    missed = [name for name, match in found.items() if not match]
    if missed:
        raise DataError(f"--patient {pattern!r} finds nothing in {len(missed)} of {len(cases)} cases: {some(missed)}.")
    grouped = [replace(c, patient=_taken(match)) for c in cases if (match := found[c.name])]
    return grouped, [f"Patient: what {pattern!r} finds, {len({c.patient for c in grouped})} patients in {len(cases)} cases."]


def _place(case: Case) -> str:
    path = next(iter(case.images.values()), None)
    return "/".join(path.parts[-4:]) if path else ""


def _taken(match: re.Match[str]) -> str:
    named = match.groupdict()
    return named.get("patient") or next((g for g in match.groups() if g), None) or match[0]


def suspected(cases: list[Case]) -> list[str]:
    """A word of warning where every case counts as its own patient but names say otherwise (p001_ED, p001_ES; 01L, 01R)."""
    if len({c.patient for c in cases}) < len(cases) or len(cases) < 4:
        return []
    heads: dict[str, list[str]] = {}
    for case in cases:
        if match := re.match(r"(.*\d)[ _\-]?(?:[A-Za-z]{1,3}\d?|[A-Za-z]+)$", case.name):
            heads.setdefault(match[1], []).append(case.name)
    shared = [names for names in heads.values() if len(names) > 1]
    if len(shared) * 4 < len(cases):
        return []
    return [f"Names suggest that some cases are of one patient ({some(shared[0])}); if so, give --patient REGEX, or a leak goes unseen."]
