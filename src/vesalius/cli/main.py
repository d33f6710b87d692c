"""The command `vesalius`: finds the command in this folder, imports that file alone, runs it, and turns errors into exit codes.

A command is a file `<command>.py` with a function of the same name; its options are typer annotations and the first line
of its docstring is its line in `vesalius --help`, read from source text. Exit codes: 0 done, 1 yours to mend, 2 usage,
130 stopped by Ctrl-C.
"""

import ast
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from vesalius.core.errors import UsageError, VesaliusError, suggest
from vesalius.core.lacking import known, remedy
from vesalius.core.memory import ending

ORDER = ("demo", "inspect", "plan", "train", "predict", "export", "answer", "synthesise", "evaluate", "compare", "report", "explain",
         "similar", "transfer", "convert", "phantom", "shelf")  # fmt: skip
HELP = """Usage: vesalius COMMAND [OPTIONS]

  From a folder of medical images to a trained, tested and audited model.

Commands, in the order in which they are met:
{commands}

Options:
  --version  The version, and nothing else.
  --debug    With any command: show where an error arose.
  --help     This page; `vesalius COMMAND --help` is the page of a command.

Example:
  vesalius train scans/ -o run --budget 20m
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command line (that of the process by default) and give its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug, words = "--debug" in words, [word for word in words if word != "--debug"]
    try:
        return run(words)
    except VesaliusError as problem:
        if debug:
            traceback.print_exc()
        complain(str(problem))
        return 2 if isinstance(problem, UsageError) else 1
    except ModuleNotFoundError as problem:
        if debug or not known(problem.name):
            raise
        complain(f"vesalius {words[0]} needs {problem.name}, which this installation lacks. {remedy(problem.name)}")
        return 1
    except BrokenPipeError:  # `vesalius shelf | head`: the reader has gone, and the interpreter must not complain at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as problem:
        if problem.filename is None or debug:
            raise
        complain(f"{problem.filename}: {problem.strerror}.")
        return 1
    except KeyboardInterrupt:
        complain("Stopped.")
        return 130
    finally:
        if arguments is None:
            ending()


def run(words: list[str]) -> int:
    """The words after `vesalius`; problems are raised."""
    if not words or words[0] in ("--help", "-h", "help"):
        sys.stdout.write(overview())
        return 0
    if words[0] == "--version":
        from vesalius import __version__

        sys.stdout.write(f"vesalius {__version__}\n")
        return 0
    if words[0] not in commands():
        raise UsageError(f"{suggest(words[0], commands(), 'command')} See vesalius --help.")
    return call(words[0], words[1:])


def call(name: str, words: list[str]) -> int:
    """Import `vesalius.cli.<name>`, parse `words` as its options and run it."""
    from vesalius.core.environment import share_processors
    from vesalius.core.memory import keep_freed_memory

    share_processors()
    keep_freed_memory()
    module = import_module(f"vesalius.cli.{name}")
    if getattr(module, "PLAIN", False):
        from vesalius.cli._plain import call as plain_call

        return plain_call(getattr(module, name), words)
    from typer import TyperException

    command = typer_command(name)
    try:
        code = command.main(words, prog_name=f"vesalius {name}", standalone_mode=False)
    except TyperException as problem:
        raise UsageError(f"{explain(problem, command)} See vesalius {name} --help.") from None
    return code if isinstance(code, int) else 0


def typer_command(name: str) -> Any:
    """The command `name` as typer's object, with the help page that this house uses."""
    import typer
    from typer.main import get_command

    from vesalius.cli._help import VerbatimCommand

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name=name, cls=VerbatimCommand)(getattr(import_module(f"vesalius.cli.{name}"), name))
    return get_command(app)


def explain(problem: Any, command: Any) -> str:
    """A parser's complaint as one sentence, with the nearest right option where a wrong one was given."""
    wrong = getattr(problem, "option_name", None)
    if wrong is None or not problem.format_message().startswith("No such option"):
        return str(problem.format_message()).rstrip(".") + "."
    known = [option for parameter in command.params for option in parameter.opts if option.startswith("-")]
    return suggest(wrong, [*known, "--help", "--debug"], "option")


def commands() -> dict[str, Path]:
    """Name and file of each command: those of `ORDER` first, any other after them."""
    found = {path.stem: path for path in sorted(Path(__file__).parent.glob("[!_]*.py")) if path.stem != "main"}
    return {name: found[name] for name in [*ORDER, *found] if name in found}


def overview() -> str:
    """What `vesalius --help` prints."""
    return HELP.format(commands="\n".join(f"  {name:<10} {summary(path)}" for name, path in commands().items()))


def summary(path: Path) -> str:
    """First line of the docstring of the command in the file at `path`; nothing is executed."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == path.stem:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""


def complain(text: str) -> None:
    """`text` on stderr, in red where a person is looking."""
    red, plain = ("\033[31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    sys.stderr.write(f"{red}{text}{plain}\n")
