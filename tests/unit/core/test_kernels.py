"""Kernels in C: made where there is a compiler, found where they are of these sources and for this processor, and left alone elsewhere."""

import ctypes
import os
import re
import shutil
import subprocess
import sys

import pytest

from vesalius.core import kernels
from vesalius.core.environment import wished_kernels
from vesalius.core.errors import UsageError
from vesalius.core.kernels import build as building

COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
compiled = pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="no C compiler on this machine (cc, gcc or clang)")
FULL = {"winograd_full_weights", "winograd_full", "winograd_full_gradient"}
LANES = {"add_tile", "largest_of_classes"} | FULL  # kernels that are not in plain
BF16 = {"winograd_weights", "winograd", "winograd_gradient", "direct_weights", "direct_down", "direct_up", "direct_gradient",
        "first_keep", "first_weights", "first_forward", "first_gradient", "last_forward"}  # fmt: skip
SHARE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The C files of the infrastructure alone, and libraries made of them."""
    place = tmp_path_factory.mktemp("kernels")
    for name in ("parallel.c", "parallel.h"):
        shutil.copy(kernels.FOLDER / name, place)
    building.build(place)
    return place


@compiled
def test_where_there_is_a_compiler_the_kernels_of_these_sources_are_in_use():
    if wished_kernels():
        pytest.skip("VESALIUS_KERNELS says which")
    assert kernels.in_use() != "none", f"make them: {sys.executable} -m vesalius.core.kernels.build"


@compiled
def test_the_fastest_library_that_this_processor_can_run_is_taken(folder, monkeypatch):
    have = kernels.features()
    expected = next(name for name, needs in kernels.NEEDS.items() if needs <= have)
    assert kernels.find(folder)[0] == expected
    monkeypatch.setattr(kernels, "features", lambda: frozenset({"sse2"}))
    assert kernels.find(folder)[0] == "plain"


@compiled
def test_libraries_of_other_sources_are_left_alone(folder, tmp_path):
    place = shutil.copytree(folder, tmp_path / "other")
    with (place / "parallel.c").open("a") as file:
        file.write("int more;\n")
    assert kernels.find(place) is None
    building.build(place)
    assert kernels.find(place) is not None
    assert {path.name for path in place.glob("*.so")}.isdisjoint(path.name for path in folder.glob("*.so"))


@compiled
def test_libraries_of_other_sources_are_told(folder, tmp_path, monkeypatch):
    place = shutil.copytree(folder, tmp_path / "other")
    (place / "parallel.c").write_text("/* changed */\n")
    monkeypatch.delenv("VESALIUS_KERNELS", raising=False)
    with pytest.warns(UserWarning, match=r"of other sources .* -m vesalius\.core\.kernels\.build"):
        assert kernels.wished(place) is None


@compiled
def test_a_library_of_another_system_is_left_alone(folder, tmp_path):
    for name in ("parallel.c", "parallel.h"):
        shutil.copy(folder / name, tmp_path)
    for path in folder.glob("*.so"):
        (tmp_path / path.name).write_bytes(b"MZ of another system" * 100)
    with pytest.warns(UserWarning, match="cannot be loaded"):
        assert kernels.find(tmp_path) is None


def called():
    """The names of kernels in the Python files that call them."""
    files = [path.read_text() for path in kernels.FOLDER.parents[1].rglob("*.py") if path.parent != kernels.FOLDER]
    return {name for text in files for name in re.findall(r"(?:\bkernel\(|\b_each\(|FORWARD\W+|BACKWARD\W+)\"(\w+)\"", text)}


@compiled
@pytest.mark.parametrize("library", [name for name in kernels.NEEDS if kernels.find(kernels.FOLDER, wished=name)])
def test_every_kernel_that_is_called_is_in_its_library(library):
    _, found = kernels.find(kernels.FOLDER, wished=library)
    left_out = (LANES if library == "plain" else set()) | (BF16 if library != "avx512bf16" else set())
    assert {"places", "grey_scale", "normalise_forward", "soft_counts_single_backward", "winograd", "winograd_full"} <= called()
    assert [name for name in called() - left_out if not hasattr(found, name)] == []


@compiled
def test_a_folder_that_cannot_be_written_keeps_what_it_has(folder, tmp_path, monkeypatch):
    place = shutil.copytree(folder, tmp_path / "read_only")
    (place / "kernels_plain_0.so").write_bytes(b"of other sources")
    before = sorted(path.name for path in place.glob("*.so"))
    monkeypatch.setattr(building.subprocess, "run", refuse)
    monkeypatch.setattr(building.Path, "unlink", refuse)
    assert building.build(place) == [] and sorted(path.name for path in place.glob("*.so")) == before


def refuse(*_, **how):
    raise PermissionError("read only")


@compiled
def test_a_compiler_may_have_words(tmp_path, monkeypatch, capsys):
    assert building.compiler_of("env cc -g") == ["env", "cc", "-g"]
    assert building.compiler_of("none-of-this-name") and "none-of-this-name was not found" in capsys.readouterr().err


@compiled
def test_what_the_compiler_refuses_is_left_out_and_told(tmp_path, capsys):
    (tmp_path / "wrong.c").write_text("this is not C\n")
    assert building.build(tmp_path) == []
    assert "is left out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.c"]


def test_nothing_is_made_without_a_compiler(tmp_path, monkeypatch):
    shutil.copy(kernels.FOLDER / "parallel.c", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert building.build(tmp_path, compiler="none-of-this-name") == []
    assert kernels.find(tmp_path) is None


def python(code, wished):
    """A process of its own with VESALIUS_KERNELS."""
    variables = {**os.environ, "VESALIUS_KERNELS": wished}
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)


def test_off_is_off():
    code = "from vesalius.core.kernels import in_use, kernel; print(in_use(), kernel('in_shares', 'ppii'))"
    assert python(code, "off").stdout.split() == ["none", "None"]


@compiled
def test_one_can_be_wished_for(folder):
    assert kernels.find(folder, wished="plain")[0] == "plain"


def test_a_wish_that_cannot_be_had_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("VESALIUS_KERNELS", "plain")
    with pytest.raises(UsageError, match="VESALIUS_KERNELS asks for plain"):
        kernels.wished(tmp_path)


def test_a_wish_that_nobody_knows_is_refused():
    code = "from vesalius.core.kernels import in_use; in_use()"
    made = python(code, "avx51")
    assert made.returncode and "VESALIUS_KERNELS: Unknown library of kernels 'avx51'" in made.stderr and "avx512" in made.stderr


def test_an_unknown_kernel_is_none():
    assert kernels.kernel("no_such_kernel", "p") is None


@compiled
@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
@pytest.mark.parametrize("threads", [0, 1, 2, 3, 100])
def test_shares_cover_a_range_once(folder, count, threads):
    _, library = kernels.find(folder)
    seen = []
    library.in_shares.argtypes = [SHARE, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    library.in_shares(SHARE(lambda _, first, end: seen.append((first, end))), None, count, threads)
    assert sorted(number for first, end in seen for number in range(first, end)) == list(range(count))
    assert len(seen) == max(1, min(threads, count, 64))
