"""What is installed, beside importlib.metadata."""

import sys
from importlib.metadata import distributions, entry_points, version

import pytest

from vesalius.core import installed


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder from which packages are imported first; what was found before is forgotten."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    installed.folders.cache_clear()
    yield tmp_path
    installed.folders.cache_clear()


def package(place, name, version, *, points="", kind="dist"):
    folder = place / f"{name}-{version}.{kind}-info"
    folder.mkdir()
    (folder / ("METADATA" if kind == "dist" else "PKG-INFO")).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if points:
        (folder / "entry_points.txt").write_text(points)


def test_versions_are_those_of_importlib_metadata():
    names = {one.metadata["Name"] for one in distributions() if one.metadata["Name"]}
    assert {"numpy", "safetensors", "vesalius"} <= names
    assert {name: installed.version_of(name) for name in names} == {name: version(name) for name in names}


@pytest.mark.parametrize("group", ["console_scripts", "pytest11", "vesalius.losses"])
def test_entry_points_are_those_of_importlib_metadata(group):
    expected = sorted((point.name, point.value.partition("[")[0].strip()) for point in entry_points(group=group))
    assert sorted(set(installed.entries(group))) == sorted(set(expected)) and (expected or group == "vesalius.losses")


def test_names_are_compared_as_installers_do(place):
    package(place, "My_Odd.package", "1.0rc1+local.2")
    package(place, "old", "2", kind="egg")
    assert installed.version_of("my-odd-package") == installed.version_of("MY.ODD_PACKAGE") == "1.0rc1+local.2"
    assert installed.version_of("old") == "2" and installed.version_of("no such package") is None


def test_the_first_of_two_counts_as_it_is_the_one_that_is_imported(place):
    package(place, "numpy", "0.0.1")
    assert installed.version_of("numpy") == version("numpy") == "0.0.1"


def test_groups_of_entry_points_do_not_mix(place):
    text = "[other]\nx = y\n\n# a remark\n[vesalius.nets]\n; another\nmine = my_package.nets [more]\nsecond=a.b\n[third]\nz=w\n"
    package(place, "mine", "1", points=text)
    assert [one for one in installed.entries("vesalius.nets") if one[0] in ("mine", "second")] == [
        ("mine", "my_package.nets"), ("second", "a.b")]  # fmt: skip
    assert ("x", "y") in installed.entries("other") and ("x", "y") not in installed.entries("third")


def test_a_place_that_is_no_folder_is_passed_over(place, monkeypatch):
    monkeypatch.setattr(sys, "path", ["/no/such/folder", str(place / "a.zip"), *sys.path])
    installed.folders.cache_clear()
    assert installed.version_of("numpy") == version("numpy")
