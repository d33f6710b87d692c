"""What stands between a user and the first second of work: importing, `--help`, and the megabytes that are installed, beside nnU-Net,
MONAI and TorchIO.

    python benchmarks/startup.py [--rounds 3]

Every start is a fresh process of the same interpreter, in turns; medians, so that a first start from a cold disk does not count.
*import* is the package by its name alone; *ready to train* imports what a training in Python needs (torch, networks, transforms, the
training loop), because vesalius loads lazily and the bare name would flatter it. MONAI's command line needs a package (fire) that does
not come with it, and is left out of `--help`. *installed* counts the files of the package and of everything that it requires (extras
left out), once with torch, which all share, and once without.
"""

import argparse
import re
import sys
from importlib import metadata
from pathlib import Path

from _side_by_side import OURS, Turn, in_processes, keep, rows

IMPORTS = {OURS: "import vesalius", "nnU-Net": "import nnunetv2", "MONAI": "import monai", "TorchIO": "import torchio"}
READY = {
    OURS: "from vesalius.engine.workflow import train",
    "nnU-Net": "import nnunetv2.run.run_training, nnunetv2.training.nnUNetTrainer.nnUNetTrainer",
    "MONAI": "import monai.data, monai.inferers, monai.losses, monai.metrics, monai.networks.nets, monai.transforms",
}
HELP = {
    OURS: ["vesalius", "--help"], "nnU-Net": ["nnUNetv2_train", "--help"], "TorchIO": ["torchio-transform", "--help"],
}  # fmt: skip
DISTRIBUTIONS = {OURS: "vesalius", "nnU-Net": "nnunetv2", "MONAI": "monai", "TorchIO": "torchio"}


def needed(name):
    """The distributions that `name` requires here, itself included, without extras."""
    from packaging.requirements import Requirement

    found, waiting = set(), [name]
    while waiting:
        now = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if now in found:
            continue
        try:
            wanted = map(Requirement, metadata.requires(now) or [])
        except metadata.PackageNotFoundError:
            continue
        found.add(now)
        waiting += [r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def size(name):
    """Bytes of the files of a distribution; of vesalius, which is installed in place, of its sources."""
    if name == OURS:
        return sum(path.stat().st_size for path in (Path(__file__).parents[1] / "src").rglob("*.py"))
    files = metadata.distribution(name).files or []
    return sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())


def megabytes():
    """Rows in which the numbers are megabytes (1e6 bytes)."""
    found = []
    for work, left_out in (("installed, MB, torch included", set()), ("installed, MB, torch left out", needed("torch"))):
        sizes = {name: sum(size(part) for part in needed(of) - left_out) / 1e6 for name, of in DISTRIBUTIONS.items()}
        counts = {name: len(needed(of) - left_out) for name, of in DISTRIBUTIONS.items()}
        checks = {name: f"{counts[name]} packages beside {counts[OURS]}" for name in sizes}
        made = rows(work, {name: [Turn(value, value)] for name, value in sizes.items()}, check=checks, goal=10)
        found += [row | {"unit": "MB"} for row in made]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    scripts = Path(sys.executable).parent
    python = {"import the package": IMPORTS, "import what a training needs": READY}
    found = megabytes()
    for work, kinds in python.items():
        commands = {name: [sys.executable, "-c", code] for name, code in kinds.items()}
        found += rows(work, in_processes(commands, rounds=options.rounds), check="exit code 0", goal=10)
    found += rows("--help", in_processes({name: [str(scripts / words[0]), *words[1:]] for name, words in HELP.items()},
                                         rounds=options.rounds), check="exit code 0", goal=10)  # fmt: skip
    keep("startup", found, title="Import, --help and installed megabytes")


if __name__ == "__main__":
    main()
