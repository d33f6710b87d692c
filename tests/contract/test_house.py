"""The rules of the house, held by the source text itself. Every failure names the file and the line."""

import ast
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from statistics import median

import pytest

from tests.contract._source import SRC, Function, Source, dotted, sources
from vesalius.core.shelf import SHELVES

ROOMS = ("core", "io", "physics", "data", "phantoms", "augment", "nets", "losses metrics quantify", "trust", "tasks", "plan",
         "methods", "engine", "audit explain", "report export", "serve", "cli", "testing")  # fmt: skip
RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms.split()}
SPINE = ("data", "plan", "engine", "cli")


def none_of(problems: list[str]) -> None:
    """Fail with one line per problem."""
    assert not problems, "\n" + "\n".join(problems)


def test_every_folder_is_a_room_with_a_place_in_the_order():
    rooms = {path.name for path in SRC.iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert rooms <= set(RANK), f"not in the import order of the house: {sorted(rooms - set(RANK))}"


def test_no_upward_import():
    problems = []
    for source in sources():
        for found in source.imports():
            room = found.target.split(".")[1] if "." in found.target else ""
            if source.room and room and room != source.room and RANK[room] >= RANK[source.room]:
                problems.append(f"{source.at(found.line)}: {source.room} imports {found.target}, which comes later in the house")
    none_of(problems)


def test_no_room_imports_the_front_door():
    """`vesalius/__init__.py` loads everything else, so nothing else may load it for more than the version."""
    problems = [
        f"{source.at(found.line)}: import the module that holds the name, not the package vesalius"
        for source in sources()
        for found in source.imports()
        if found.target == "vesalius" and source.room not in ("", "cli", "testing")
    ]
    none_of(problems)


def test_no_import_cycle():
    graph = {source.module: {f.target for f in source.imports() if f.at_start} - {source.module} for source in sources()}
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        assert module not in path, "import cycle: " + " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])


def test_no_file_imports_its_neighbour_on_the_shelf():
    problems = []
    for source in sources():
        if not (place := source.shelf):
            continue
        for found in source.imports():
            inside = found.target.removeprefix(f"vesalius.{place}.") if found.target.startswith(f"vesalius.{place}.") else ""
            neighbour = inside.split(".")[0]
            if neighbour and not neighbour.startswith("_") and neighbour != source.entry_on(place):
                problems.append(f"{source.at(found.line)}: imports its neighbour {found.target}; share by a _file of the shelf")
    none_of(problems)


@pytest.mark.parametrize("place", SHELVES)
def test_every_file_on_a_shelf_has_a_card(place: str):
    from vesalius.core.shelf import Shelf

    entries = {entry for source in sources() if (entry := source.entry_on(place))}
    modules = {card.module for card in Shelf(place).cards.values()}
    missing = sorted(entry for entry in entries if f"vesalius.{place}.{entry}" not in modules)
    assert not missing, f"on the shelf {place} without a CARD: {missing}; a shared piece is named _name.py"


def test_core_knows_no_torch():
    problems = [
        f"{source.at(node.lineno)}: core imports torch"
        for source in sources()
        if source.room == "core"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Import | ast.ImportFrom) and "torch" in ast.unparse(node).replace(".", " ").split()
    ]
    none_of(problems)


def lines_of(function: Function) -> int:
    """Lines from `def` to the last, without the docstring."""
    first = function.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def test_functions_are_short():
    lengths = {(source, function): lines_of(function) for source in sources() for function, _ in source.functions()}
    none_of([f"{source.at(f.lineno)}: {f.name} has {n} lines, 60 at most" for (source, f), n in lengths.items() if n > 60])
    assert median(lengths.values()) <= 10, f"the median function has {median(lengths.values())} lines, 10 at most"


def test_files_are_short():
    none_of([f"{s.at(1)}: {n} lines, 400 at most" for s in sources() if (n := len(s.text.splitlines())) > 400])


def is_command(source: Source, function: Function) -> bool:
    """Commands have one argument per option, because typer reads them so."""
    return source.room == "cli" and function.name == source.path.stem


def test_signatures_are_short():
    problems = []
    for source in sources():
        for function, owner in source.functions():
            words = function.args
            positional = [a.arg for a in [*words.posonlyargs, *words.args]]
            if owner is not None and positional and positional[0] in ("self", "cls"):
                positional = positional[1:]
            total = len(positional) + len(words.kwonlyargs) + bool(words.vararg) + bool(words.kwarg)
            if (len(positional) > 3 or total > 8) and not is_command(source, function):
                problems.append(f"{source.at(function.lineno)}: {function.name} takes {len(positional)} positional arguments (3 at most) "
                                f"and {total} in all (8 at most)")  # fmt: skip
    none_of(problems)


def calls(source: Source) -> Iterator[tuple[str, ast.Call]]:
    """Every call of a dotted name."""
    yield from ((dotted(n.func), n) for n in ast.walk(source.tree) if isinstance(n, ast.Call))


def test_no_print():
    prints = [s.at(node.lineno) for s in sources() for name, node in calls(s) if name == "print"]
    none_of([f"{place}: print; return the text, or say it in cli/" for place in prints])


def test_no_error_is_swallowed():
    problems = []
    for source in sources():
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            wide = node.type is None or any(w in ("Exception", "BaseException") for w in map(dotted, ast.walk(node.type)))
            names = {n.id for statement in node.body for n in ast.walk(statement) if isinstance(n, ast.Name)}
            raises = any(isinstance(n, ast.Raise) for statement in node.body for n in ast.walk(statement))
            if node.type is None:
                problems.append(f"{source.at(node.lineno)}: bare except; name what can go wrong")
            elif wide and not raises and node.name not in names:
                problems.append(f"{source.at(node.lineno)}: except Exception that neither raises nor tells; name what can go wrong")
    none_of(problems)


def test_the_environment_is_read_in_one_place():
    problems = [
        f"{source.at(node.lineno)}: reads the environment; core/environment.py does that"
        for source in sources()
        if source.module != "vesalius.core.environment"
        for node in ast.walk(source.tree)
        if dotted(node) in ("os.environ", "os.getenv", "os.environb", "environ")
    ]
    none_of(problems)


def test_no_pickle():
    banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    problems = []
    for source in sources():
        for node in ast.walk(source.tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if banned & {name.split(".")[0] for name in names}:
                problems.append(f"{source.at(node.lineno)}: imports {', '.join(names)}; weights are safetensors, the rest is JSON")
        for name, call in calls(source):
            allows = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in call.keywords)
            if allows or name in ("torch.load", "torch.save"):
                problems.append(f"{source.at(call.lineno)}: {name} pickles; weights are safetensors, the rest is JSON")
    none_of(problems)


def test_randomness_is_an_argument():
    ours = {"default_rng", "Generator", "SeedSequence", "BitGenerator", "Philox", "PCG64"}
    problems = []
    for source in sources():
        plain = any(isinstance(n, ast.Import) and any(a.name == "random" for a in n.names) for n in ast.walk(source.tree))
        for name, node in calls(source):
            head, _, last = name.rpartition(".")
            seeds = head.split(".")[0] == "torch" and last in ("manual_seed", "manual_seed_all", "seed")
            draws = (head in ("np.random", "numpy.random") and last not in ours) or (plain and head == "random" and last != "Random")
            if seeds or draws:
                problems.append(f"{source.at(node.lineno)}: {name} uses the global generator; take a seed or a generator")
    none_of(problems)


def test_the_spine_asks_the_task():
    problems = []
    for source in sources():
        if source.room not in SPINE:
            continue
        for node in ast.walk(source.tree):
            compared = isinstance(node, ast.Compare) and any(isinstance(n, ast.Constant) and n.value for n in ast.walk(node))
            sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else [getattr(node, "subject", node)]
            is_task = any(re.search(r"(^|[._])task(\.name)?$", dotted(side)) for side in sides)
            if is_task and (compared or isinstance(node, ast.Match)):
                problems.append(f"{source.at(node.lineno)}: the spine asks which task it is; let the task answer instead")
    none_of(problems)


def test_public_things_are_documented():
    problems = []
    for source in sources():
        if not ast.get_docstring(source.tree) and source.text.strip():
            problems.append(f"{source.at(1)}: the file does not say what it is")
        for node in source.tree.body:
            if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node):
                problems.append(f"{source.at(node.lineno)}: {node.name} has no docstring")
        for function, owner in source.functions():
            hidden = owner is None or owner.bases or owner.name.startswith("_") or function.name.startswith("_")
            if not hidden and not ast.get_docstring(function) and (length := lines_of(function)) > 6:
                problems.append(f"{source.at(function.lineno)}: {function.name} has {length} lines and no docstring")
    none_of(problems)


def test_public_functions_are_annotated():
    problems = []
    for source in sources():
        for function, _ in source.functions():
            words = function.args
            every = [*words.posonlyargs, *words.args, *words.kwonlyargs, *(w for w in (words.vararg, words.kwarg) if w)]
            bare = [w.arg for w in every if w.annotation is None and w.arg not in ("self", "cls")]
            if not function.name.startswith("_") and (bare or function.returns is None):
                problems.append(f"{source.at(function.lineno)}: {function.name} lacks annotations: {', '.join([*bare, 'return'][:4])}")
    none_of(problems)


@pytest.mark.parametrize("words", ["import vesalius", "from vesalius.cli.main import main; main(['--help'])"])
def test_the_front_door_is_light(words: str):
    """Under 0.3 s of processor time (which other work on the machine does not lengthen) and without anything heavy."""
    heavy = "torch", "numpy", "scipy", "nibabel", "pydicom", "matplotlib", "pydantic", "rich"
    check = f"{words}\nimport sys\nheavy = [n for n in {heavy!r} if n in sys.modules]\nassert not heavy, heavy"
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)  # the first call compiles
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0, result.stderr
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 0.3, f"{words}: {seconds:.2f} s"
