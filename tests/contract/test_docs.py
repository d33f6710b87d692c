"""What the documentation says is there: links, commands and their options, make targets, names, the example of CONTRIBUTING."""

import importlib.util
import re
import shlex
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

import vesalius
from vesalius.cli._plain import parser_of
from vesalius.cli.main import commands, typer_command
from vesalius.core.card import read_card
from vesalius.core.shelf import SHELVES, Shelf

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(p for p in ROOT.glob("docs/**/*.md") if "reference" not in p.parts)])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
GENERATED = ("commands.md", "settings.md", "shelves.md", "python.md")


def blocks(text: str, *languages: str) -> list[str]:
    """Fenced blocks of code in one of `languages`."""
    return [body for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if language in languages]


def command_lines() -> list[tuple[str, str]]:
    """(page, command line) of every line that a reader could type."""
    found = []
    for name, page in zip(NAMES, PAGES, strict=True):
        for block in blocks(page.read_text(encoding="utf-8"), "console", "bash"):
            lines = [line.removeprefix("$ ") for line in block.replace("\\\n", " ").splitlines()]
            found += [(name, line) for line in lines if re.match(r"(torchrun .*-m )?vesalius |make ", line)]
    return found


@cache
def options(command: str) -> set[str]:
    """Every option that `command` knows."""
    module = importlib.import_module(f"vesalius.cli.{command}")
    if getattr(module, "PLAIN", False):
        found = {o for action in parser_of(getattr(module, command))._actions for o in action.option_strings}
    else:
        found = {o for p in typer_command(command).params for o in [*p.opts, *p.secondary_opts]}
    return found | {"--help", "--debug"}


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_a_command_in_the_documentation_exists(page, line):
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert set(words[1:]) <= targets, f"{page}: {line}"
        return
    name, *rest = words[words.index("vesalius") + 1 :]
    assert name in commands() or name.startswith("--"), f"{page}: {line}"
    unknown = [w for w in rest if w.startswith("-") and name in commands() and w.partition("=")[0] not in options(name)]
    assert not unknown, f"{page}: {line}: {name} has no {unknown}"


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name):
    page = ROOT / name
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [t for t in re.findall(r"\]\(([^)#]+)[^)]*\)", prose) if "://" not in t]
    lost = [t for t in targets if not (page.parent / t).exists() and Path(t).name not in GENERATED]
    assert not lost, f"{name}: {lost}"


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"([\w/-]+\.md)", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    there = {str(p.relative_to(ROOT / "docs")) for p in PAGES if "docs" in p.relative_to(ROOT).parts}
    generated = {f"reference/{name}" for name in GENERATED}
    assert there - listed == set(), "pages that mkdocs.yml does not list"
    assert listed - there - generated == set(), "pages that mkdocs.yml lists and that are not there"


@pytest.mark.parametrize("name", NAMES)
def test_python_names_exist(name):
    code = "\n".join(blocks((ROOT / name).read_text(encoding="utf-8"), "python"))
    used = set(re.findall(r"\bvesalius\.([A-Za-z_]+)", re.sub(r"^(from|import) .*$", "", code, flags=re.MULTILINE)))
    assert used <= set(vesalius.__all__), f"{name}: vesalius has no {sorted(used - set(vesalius.__all__))}"
    modules = re.findall(r"^from (vesalius[\w.]*) import (\w+)", code, flags=re.MULTILINE)
    lost = [f"{m}.{n}" for m, n in modules if not hasattr(importlib.import_module(m), n)]
    assert not lost, f"{name}: {lost}"


@pytest.mark.parametrize("name", vesalius.__all__)
def test_every_public_name_loads_and_is_documented(name):
    assert getattr(vesalius, name).__doc__


def test_the_reference_holds_every_command_and_every_entry(tmp_path):
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    text = {path.name: path.read_text(encoding="utf-8") for path in generate.write(tmp_path)}
    assert sorted(text) == sorted(GENERATED)
    assert [name for name in commands() if f"\n## {name}\n" not in text["commands.md"]] == []
    assert [n for place in SHELVES for n in Shelf(place) if f"| `{n}` |" not in text["shelves.md"]] == []
    assert "`train.learning_rate`" in text["settings.md"]


def test_the_net_of_contributing_works(tmp_path, monkeypatch):
    source = blocks((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "python")[0]
    (tmp_path / "contributed_small.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    card = read_card(tmp_path / "contributed_small.py", "contributed_small")
    assert card is not None and card.facts is not None
    net = getattr(importlib.import_module("contributed_small"), card.entry)
    assert sum(p.numel() for p in net(**card.facts["arguments"]).parameters()) == card.facts["parameters"]
    for ndim in card.ndim:
        made = net(ndim, 2, 3, channels=(4, 8, 8))
        logits = made(torch.zeros(1, 2, *(9, 8, 7)[:ndim]))
        assert logits.shape == (1, 3, *(9, 8, 7)[:ndim])
        logits.sum().backward()
        assert all(p.grad is not None for p in made.parameters())
    sys.modules.pop("contributed_small")
