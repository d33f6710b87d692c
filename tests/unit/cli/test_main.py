"""The command line's frame: help, exit codes, wrong names, errors, interruption; and the same promises from every command."""

import ast
import json
import subprocess
import sys
from importlib import import_module

import pytest

from vesalius import __version__
from vesalius.cli import main as front
from vesalius.cli._plain import parser_of
from vesalius.cli.main import commands, main, overview, typer_command
from vesalius.core.errors import UsageError, VesaliusError

PROMISED = (
    "demo", "phantom", "inspect", "plan", "train", "predict", "export", "answer", "synthesise", "evaluate", "compare", "report",
    "explain", "similar", "transfer", "convert", "shelf",
)  # fmt: skip


@pytest.fixture
def command(monkeypatch, tmp_path):
    """A command `probe` whose body a test chooses."""

    def install(body):
        def probe(word: str = "x", count: int = 1) -> None:
            """Do what the test says."""
            body()

        monkeypatch.setattr(front, "commands", lambda: {"probe": tmp_path / "probe.py", "shelf": tmp_path / "shelf.py"})
        module = type(sys)("vesalius.cli.probe")
        module.probe = probe
        monkeypatch.setitem(sys.modules, "vesalius.cli.probe", module)

    return install


def throw(error):
    def body():
        raise error

    return body


def test_the_promised_commands_are_there_in_their_order():
    assert set(commands()) == set(PROMISED)
    assert list(commands()) == list(front.ORDER)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command_with_its_line(words, capsys):
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert shown == overview()
    for name in commands():
        line = next(line for line in shown.splitlines() if line.startswith(f"  {name} "))
        assert len(line.split(None, 1)[1]) > 10, f"{name} has no line: its function needs a docstring"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vesalius {__version__}\n"


def test_done_is_0(command, capsys):
    command(lambda: None)
    assert main(["probe"]) == 0
    assert capsys.readouterr().err == ""


def test_an_error_of_ours_is_one_message_and_1(command, capsys):
    command(throw(VesaliusError("scan.nii: broken. Copy it again.")))
    assert main(["probe"]) == 1
    assert capsys.readouterr().err == "scan.nii: broken. Copy it again.\n"


def test_a_file_that_cannot_be_opened_is_one_message_and_1(command, capsys):
    command(lambda: open("/nowhere/scan.nii"))
    assert main(["probe"]) == 1
    assert capsys.readouterr().err == "/nowhere/scan.nii: No such file or directory.\n"


def test_debug_shows_where(command, capsys):
    command(throw(VesaliusError("broken")))
    assert main(["probe", "--debug"]) == main(["--debug", "probe"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["porbe"], "Unknown command 'porbe'. Did you mean probe? See vesalius --help."),
        (["probe", "--cout", "2"], "Unknown option '--cout'. Did you mean --count"),
        (["probe", "--count", "many"], "See vesalius probe --help."),
        (["probe", "--count"], "See vesalius probe --help."),
        (["probe", "surplus"], "See vesalius probe --help."),
    ],
)
def test_wrong_words_are_2_and_name_the_right_ones(command, capsys, words, says):
    command(lambda: None)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.out == ""


def test_usage_errors_of_the_library_are_2(command):
    command(throw(UsageError("no such setting")))
    assert main(["probe"]) == 2


def test_interruption_is_130(command, capsys):
    command(throw(KeyboardInterrupt()))
    assert main(["probe"]) == 130


def test_a_fault_of_ours_is_not_hidden(command):
    command(throw(ZeroDivisionError("a bug")))
    with pytest.raises(ZeroDivisionError):
        main(["probe"])


def lacks(module):
    def body():
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    return body


@pytest.mark.parametrize(
    ("module", "extra"),
    [("typer", "train"), ("torch.nn", "train"), ("scipy.ndimage", "train"), ("nibabel", "files"), ("pydicom.uid", "files")],
)
def test_a_package_that_an_extra_brings_is_named_with_it(command, capsys, module, extra):
    command(lacks(module))
    assert main(["probe"]) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"vesalius probe needs {module}, which this installation lacks. ") and said.out == ""
    assert f"pip install 'vesalius[{extra}]'" in said.err and "Traceback" not in said.err


def test_with_debug_it_shows_where(command):
    command(lacks("typer"))
    with pytest.raises(ModuleNotFoundError):
        main(["probe", "--debug"])


@pytest.mark.parametrize("module", ["vesalius.engine.nowhere", "typo", "torchvision", None])
def test_a_module_that_no_extra_brings_is_a_fault_of_ours(command, module):
    command(lacks(module))
    with pytest.raises(ModuleNotFoundError):
        main(["probe"])


def test_a_command_whose_import_lacks_typer_says_what_to_install():
    """As after a plain installation; what runs without it still does."""
    code = "import sys; sys.modules['typer'] = None; from vesalius.cli.main import main; sys.exit(main(sys.argv[1:]))"
    made = subprocess.run([sys.executable, "-c", code, "train", "--help"], capture_output=True, text=True)
    assert made.returncode == 1 and made.stdout == ""
    assert made.stderr == ("vesalius train needs typer, which this installation lacks. Install what training needs: "
                           "pip install 'vesalius[train]'\n")  # fmt: skip
    for words in (["--help"], ["answer", "--help"]):
        assert subprocess.run([sys.executable, "-c", code, *words], capture_output=True).returncode == 0


def test_python_m_vesalius_is_the_command():
    made = subprocess.run([sys.executable, "-m", "vesalius", "shelf", "--json"], capture_output=True, text=True, check=True)
    assert "nets" in json.loads(made.stdout) and made.stderr == ""
    wrong = subprocess.run([sys.executable, "-m", "vesalius", "tarin"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "Did you mean train" in wrong.stderr


def test_a_reader_who_leaves_is_no_error():
    made = subprocess.run(f"{sys.executable} -m vesalius shelf --json | head -c 10", shell=True, capture_output=True, text=True)
    assert made.stderr == ""


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_with_an_example_and_json(name, capsys):
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"  vesalius {name} " in shown.partition("\n\n")[2], "the docstring shows no example line `vesalius COMMAND ...`"
    assert "--json" in shown


@pytest.mark.parametrize("name", commands())
def test_no_command_needs_torch_to_show_its_help(name):
    check = f"from vesalius.cli.main import main; main([{name!r}, '--help']); import sys; assert 'torch' not in sys.modules"
    made = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr


@pytest.mark.parametrize("name", commands())
def test_every_option_says_what_it_is(name):
    module = import_module(f"vesalius.cli.{name}")
    if getattr(module, "PLAIN", False):
        silent = [action.dest for action in parser_of(getattr(module, name))._actions if not action.help]
    else:
        silent = [p.name for p in typer_command(name).params if p.name != "help" and not getattr(p, "help", None)]
    assert silent == [], f"without help: {silent}"


@pytest.mark.parametrize("name", commands())
def test_options_have_defaults_in_the_signature(name):
    """So that the function can be called from Python as well."""
    tree = ast.parse(commands()[name].read_text(encoding="utf-8"))
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name)
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    defaults = [*function.args.defaults, *[d for d in function.args.kw_defaults if d is not None]]
    calls = [d for d in defaults if isinstance(d, ast.Call) and ast.unparse(d.func).startswith("typer.")]
    assert calls == [], f"write Annotated[type, typer.Option(...)] = value for {len(calls)} of {len(arguments)} arguments"
