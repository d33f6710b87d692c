"""The source of the package as syntax trees, read once, for the tests that hold the rules of the house."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from vesalius.core.shelf import SHELVES

SRC = Path(__file__).parents[2] / "src" / "vesalius"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Import:
    """One `import`: the module of ours that it names, where it stands, and whether it runs when the file is imported."""

    target: str
    line: int
    at_start: bool


@dataclass(frozen=True)
class Source:
    """One file of the package; `module` is its dotted name."""

    path: Path
    module: str

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=str(self.path))

    @property
    def room(self) -> str:
        """First folder under `vesalius`; '' for the files that lie directly in it."""
        parts = self.path.relative_to(SRC).parts
        return parts[0] if len(parts) > 1 else ""

    @property
    def shelf(self) -> str:
        """Dotted place of the shelf on which this file is an entry (or a part of one); '' where it is none."""
        return next((place for place in SHELVES if self.entry_on(place)), "")

    def entry_on(self, place: str) -> str:
        """Name of the entry of shelf `place` to which this file belongs; '' where it belongs to none."""
        parts = self.path.relative_to(SRC).with_suffix("").parts
        depth = place.count(".") + 1
        ours = len(parts) > depth and ".".join(parts[:depth]) == place and not parts[depth].startswith("_")
        return parts[depth] if ours else ""

    def at(self, line: int) -> str:
        """`src/vesalius/core/space.py:12`, which an editor opens."""
        return f"{self.path.relative_to(SRC.parents[1])}:{line}"

    def functions(self) -> Iterator[tuple[Function, ast.ClassDef | None]]:
        """Every function with the class that it stands in, nested functions too."""
        stack: list[tuple[ast.AST, ast.ClassDef | None]] = [(self.tree, None)]
        while stack:
            node, owner = stack.pop()
            for child in ast.iter_child_nodes(node):
                if isinstance(child, Function):
                    yield child, owner
                stack.append((child, child if isinstance(child, ast.ClassDef) else None if isinstance(child, Function) else owner))

    def imports(self) -> Iterator[Import]:
        """Every import of ours, `from package import module` resolved to the module."""
        late = {id(inner) for node in ast.walk(self.tree) if _is_late(node) for inner in ast.walk(node)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                targets = [_resolve(self._absolute(node), alias.name) for alias in node.names]
            else:
                continue
            yield from (Import(t, node.lineno, id(node) not in late) for t in targets if t.split(".")[0] == "vesalius")

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.module if self.path.stem == "__init__" else self.module.rpartition(".")[0]
        for _ in range(node.level - 1):
            package = package.rpartition(".")[0]
        return f"{package}.{node.module}" if node.module else package


def _is_late(node: ast.AST) -> bool:
    guarded = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, Function) or guarded


def _resolve(package: str, name: str) -> str:
    folder = SRC.parent.joinpath(*package.split("."))
    is_module = (folder / f"{name}.py").is_file() or (folder / name / "__init__.py").is_file()
    return f"{package}.{name}" if is_module else package


@cache
def sources() -> tuple[Source, ...]:
    """Every file of the package."""
    return tuple(Source(path, _module(path)) for path in sorted(SRC.rglob("*.py")))


def _module(path: Path) -> str:
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def dotted(node: ast.AST) -> str:
    """`np.random.seed` for the attribute chain that spells it; '' for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (head := dotted(node.value)):
        return f"{head}.{node.attr}"
    return ""
