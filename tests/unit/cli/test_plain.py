"""Words of commands that run where nothing but numpy is installed: every kind of argument, what is wrong with them, and their help."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest

from vesalius.cli import main as front
from vesalius.cli._plain import by_channel, call, parser_of, said
from vesalius.cli.main import main
from vesalius.core.errors import UsageError, VesaliusError

GIVEN = []


def probe(
    place: Annotated[Path, said(name="PLACE", help="Where it is.")],
    more: Annotated[Path | None, said(help="Where more is.")] = None,
    output: Annotated[Path, said("--output", "-o", name="PATH", help="Where it goes.")] = Path("out"),
    word: Annotated[str | None, said("--word", help="What is said, 100 % of it.")] = None,
    several: Annotated[list[str] | None, said("--several", name="A=B", help="Again and again.")] = None,
    count: Annotated[int, said("--num-of-it", name="N", help="How many.")] = 1,
    share: Annotated[float, said("--share", help="How much.")] = 0.5,
    whole: Annotated[bool, said("--whole", help="All of it.")] = False,
    json: Annotated[bool, said("--json", help="As JSON.")] = False,
) -> None:
    """Do what the test says, %(prog)s or not.

    Line after line.

    Example:
      vesalius probe here
    """
    GIVEN.append({key: value for key, value in locals().items()})


def needed(
    key: Annotated[str, said("--key", help="Must be there.")], file: Annotated[Path, said("--file", name="FILE", help="Too.")]
) -> int:
    """Two options that must be given."""
    return 3


DEFAULTS = {"more": None, "output": Path("out"), "word": None, "several": None, "count": 1, "share": 0.5, "whole": False, "json": False}


def given(*words):
    GIVEN.clear()
    assert call(probe, list(words)) == 0
    (found,) = GIVEN
    return found


def refused(*words, function=probe):
    with pytest.raises(UsageError) as told:
        call(function, list(words))
    return str(told.value)


def test_what_is_not_given_is_as_the_signature_says():
    assert given("here") == {"place": Path("here"), **DEFAULTS}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["there"], {"more": Path("there")}),
        (["--output", "a"], {"output": Path("a")}),
        (["--output=a"], {"output": Path("a")}),
        (["-o", "a"], {"output": Path("a")}),
        (["-oa"], {"output": Path("a")}),
        (["--output", "a", "--output", "b"], {"output": Path("b")}),
        (["--word", "a b"], {"word": "a b"}),
        (["--word", ""], {"word": ""}),
        (["--word="], {"word": ""}),
        (["--word", "-3"], {"word": "-3"}),
        (["--word=--json"], {"word": "--json"}),
        (["--several", "a=1", "--several", "b=2"], {"several": ["a=1", "b=2"]}),
        (["--num-of-it", "12"], {"count": 12}),
        (["--num-of-it", "-12"], {"count": -12}),
        (["--share", "1e-3"], {"share": 0.001}),
        (["--whole"], {"whole": True}),
        (["--whole", "--json", "there"], {"whole": True, "json": True, "more": Path("there")}),
        (["--", "-there"], {"more": Path("-there")}),
    ],
)
def test_every_kind_of_argument(words, found):
    assert given("here", *words) == {"place": Path("here"), **DEFAULTS, **found}


def test_places_and_options_may_be_mixed():
    assert given("--whole", "here", "-o", "a", "there") == {"place": Path("here"), **DEFAULTS, "whole": True, "output": Path("a"),
                                                            "more": Path("there")}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "The following arguments are required: PLACE. See vesalius probe --help."),
        (["here", "--outptu", "a"], "Unknown option '--outptu'. Did you mean --output"),
        (["here", "--outptu=a"], "Unknown option '--outptu'. Did you mean --output"),
        (["here", "--outp", "a"], "Did you mean --output"),  # no word is guessed from its beginning
        (["here", "--wholee"], "Did you mean --whole"),
        (["here", "--debig"], "Did you mean --debug"),
        (["here", "-x"], "Unknown option '-x'"),
        (["here", "there", "surplus"], "Unrecognized arguments: surplus. See vesalius probe --help."),
        (["here", "there", ""], "Unrecognized arguments:"),
        (["here", "there", " "], "Unrecognized arguments:"),
        (["here", "--output"], "Argument --output/-o: expected one argument. See vesalius probe --help."),
        (["here", "--output", "--whole"], "expected one argument"),
        (["here", "--num-of-it", "many"], "Argument --num-of-it: invalid int value: 'many'. See"),
        (["here", "--num-of-it", "1.5"], "invalid int value: '1.5'"),
        (["here", "--share", "half"], "invalid float value: 'half'"),
        (["here", "--whole=yes"], "ignored explicit argument 'yes'"),
    ],
)
def test_wrong_words_are_named(words, says):
    assert says in refused(*words)


@pytest.mark.parametrize(("words", "lacks"), [([], "--key, --file"), (["--key", "a"], "--file"), (["--file", "a"], "--key")])
def test_options_without_a_default_must_be_given(words, lacks):
    assert f"required: {lacks}. See vesalius needed --help" in refused(*words, function=needed)


def test_what_the_command_gives_is_its_exit_code():
    assert call(needed, ["--key", "a", "--file", "b"]) == 3


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_shows_the_docstring_and_every_option(word, capsys):
    GIVEN.clear()
    assert call(probe, [word]) == 0 and not GIVEN
    shown = capsys.readouterr()
    assert shown.err == "" and shown.out.startswith("usage: vesalius probe ")
    for text in ("Line after line.\n\n  Example:\n    vesalius probe here\n", "PLACE", "[MORE]", "--output PATH, -o PATH", "--word WORD",
                 "100 % of it", "--several A=B", "--num-of-it N", "--share SHARE", "  --whole  ", "--json"):  # fmt: skip
        assert text in shown.out, text


def test_names_are_those_of_the_signature():
    assert {action.dest for action in parser_of(probe)._actions} - {"help"} == {"place", *DEFAULTS}


@pytest.mark.parametrize("pairs", [[], ["T1=a.nii", "T2=b=c.nii"], ["T1="]])
def test_files_by_channel(pairs):
    assert by_channel(pairs) == {pair.split("=")[0]: Path(pair.split("=", 1)[1]) for pair in pairs}


def test_a_file_without_a_channel_and_one_channel_twice_are_refused():
    with pytest.raises(UsageError, match=r"Expected CHANNEL=FILE, for instance T1=scan.nii.gz; got 'a.nii'"):
        by_channel(["T1=b.nii", "a.nii"])
    with pytest.raises(UsageError, match="T1 is named twice"):
        by_channel(["T1=b.nii", "T1=a.nii"])


@pytest.fixture
def command(monkeypatch, tmp_path):
    """`probe` as a command of vesalius; `install(body)` chooses what it does."""

    def install(function=probe):
        monkeypatch.setattr(front, "commands", lambda: {"probe": tmp_path / "probe.py"})
        module = type(sys)("vesalius.cli.probe")
        module.probe, module.PLAIN = function, True
        monkeypatch.setitem(sys.modules, "vesalius.cli.probe", module)

    install()
    return install


@pytest.mark.parametrize(
    ("words", "code"),
    [(["here"], 0), (["--help"], 0), ([], 2), (["here", "--wrong"], 2), (["here", "a", "b"], 2), (["here", "--num-of-it", "x"], 2)],
)
def test_exit_codes(command, capsys, words, code):
    assert main(["probe", *words]) == code
    shown = capsys.readouterr()
    assert (shown.err != "") == (code == 2) and (shown.out != "") == (words == ["--help"])


@pytest.mark.parametrize(("error", "code"), [(VesaliusError("broken"), 1), (UsageError("wrong"), 2), (KeyboardInterrupt(), 130)])
def test_errors_of_the_command_itself(command, capsys, error, code):
    def fails() -> None:
        """Fail."""
        raise error

    command(fails)
    assert main(["probe"]) == code
    assert capsys.readouterr().err == f"{error}\n" if code < 100 else True


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["model"], 2, "Name the scans: vesalius answer MODEL SCANS"),
        (["model", "scans", "--image", "T1=a.nii"], 2, "Name the scans"),
        (["model", "--image", "a.nii"], 2, "Expected CHANNEL=FILE"),
        ([], 2, "required: MODEL"),
        (["nowhere", "scans"], 1, "nowhere is not an exported model"),
        (["model", "scans", "--num-parts", "two"], 2, "invalid int value"),
        (["model", "scans", "--probability"], 2, "Unknown option '--probability'. Did you mean --probabilities?"),
        (["model", "scans", "--set", "predict.overlap=0"], 2, "Unknown option '--set'"),
    ],
)
def test_answer_says_what_is_wrong(capsys, words, code, says):
    assert main(["answer", *words]) == code
    assert says in capsys.readouterr().err


def test_it_stands_on_python_alone():
    """Help and complaints of a plain command without anything that is installed."""
    code = """
import sys
for name in ("typer", "rich", "click", "numpy", "pydantic", "pydantic_core", "torch"):
    sys.modules[name] = None
from vesalius.cli.main import main
assert main(["answer", "--help"]) == 0
assert main(["answer", "--wrong"]) == 2
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
