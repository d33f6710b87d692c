"""What the extras bring is what pyproject.toml says, by the names under which it is imported."""

import re
import tomllib
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

from vesalius.core.lacking import FILES, TRAINING, known, remedy

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def named(requirements):
    """The packages that are asked for, without other extras of ours."""
    return {plain(re.match(r"[\w.-]+", one)[0]) for one in requirements} - {"vesalius"}


def imported():
    """{package: names under which what it holds is imported}, of all that is installed."""
    found = {}
    for module, packages in packages_distributions().items():
        for package in packages:
            found.setdefault(plain(package), set()).add(module)
    return found


@pytest.mark.parametrize(("extra", "modules"), [("files", FILES), ("train", TRAINING)])
def test_modules_are_those_of_the_packages_of_the_extra(extra, modules):
    wanted, holds = named(PROJECT["optional-dependencies"][extra]), imported()
    assert wanted <= set(holds), f"not installed here: {sorted(wanted - set(holds))}"
    without = [package for package in wanted if not holds[package] & set(modules)]
    assert not without, f"lacking.py names no module of {without}"
    strange = [module for module in modules if not any(module in holds[package] for package in wanted)]
    assert not strange, f"no package of the extra {extra} holds {strange}"
    assert len(modules) == len(set(modules)) == len(wanted)


def test_what_is_always_there_is_in_neither():
    holds, always = imported(), named(PROJECT["dependencies"])
    assert always and not {module for package in always for module in holds[package]} & {*FILES, *TRAINING}
    assert not {*FILES} & {*TRAINING}
    for package in always:
        assert any(find_spec(module) for module in holds[package]), f"{package} cannot be imported"


@pytest.mark.parametrize("module", ["torch", "torch.nn.functional", "PIL.Image", "openjpeg", "rle", "gdcm", "contourpy"])
def test_parts_of_a_package_are_known_with_it(module):
    assert known(module)


@pytest.mark.parametrize("module", ["numpy", "torchvision", "vesalius.core", "pil", "", None])
def test_others_are_not(module):
    assert not known(module)


@pytest.mark.parametrize(("module", "says"), [("pydicom.uid", "vesalius[files]"), ("torch.nn", "vesalius[train]"), ("monai.nets", "monai")])
def test_the_remedy_names_what_to_install(module, says):
    assert f"pip install '{says}'" in remedy(module) or f"pip install {says}" in remedy(module)
