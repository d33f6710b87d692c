"""What stands between a user and the first second of work: importing, `--help`, and the megabytes that are installed, beside nnU-Net,
MONAI and TorchIO.

    python benchmarks/startup.py [--rounds 3] [--runs RUNS --scan SCAN.nii.gz]
    python benchmarks/startup.py --fresh [--installer pip|uv] [--rounds 1] [--runs RUNS --scan SCAN.nii.gz]

Every start is a fresh process of the same interpreter, in turns; medians, so that a first start from a cold disk does not count.
*import* is the package by its name alone; *what a training needs* imports what a training in Python takes (torch, networks, transforms, the
training loop), because vesalius loads lazily and the bare name would flatter it; *what an answer needs* what answers scans with a trained
model: of vesalius an exported one, without torch. Python files of all sides are compiled beforehand, as installers do it (ours are read in
place, where nobody has done it). *torch alone* is what no tool that stands on torch can go below. MONAI's command line needs a package
(fire) that does not come with it, and is left out of `--help`. *installed* counts the files of the package and of everything that it
requires: of vesalius without extras, which answers scans, and with the extra "train", once with torch, which all share, and once without.
*first result*: the command that answers one scan with a trained model, from its start to the file; ours is `vesalius answer` with an
exported model and `vesalius predict` with the run. RUNS is the output folder of time_to_quality.py, of which the longest runs of vesalius
and nnU-Net are taken, each with its own network and mirrored passes as it came out of training. MONAI and TorchIO have no command for that:
the shortest script of each (`_first.py`) takes its place, with random weights, which take as long as trained ones. *fresh* installs each
package from its wheel (ours is built first) into an empty environment and imports what an answer needs for the first time, or, with RUNS,
answers a scan, with pip as it is set up here or with uv, which is told the same indices and begins with an empty cache, too; pip compiles
Python files and uv does not: both as they come. Downloading costs nothing from an index in the same room, and elsewhere as much as the
megabytes say.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from compileall import compile_dir
from importlib import metadata
from pathlib import Path

from _first import PATCH
from _side_by_side import OURS, Turn, alone, in_processes, keep, process, rows

SOURCES = Path(__file__).parents[1] / "src"
CACHE = f".{sys.implementation.cache_tag}."
TITLE = "Import, --help, first result and installed megabytes"
IMPORTS = {OURS: "import vesalius", "nnU-Net": "import nnunetv2", "MONAI": "import monai", "TorchIO": "import torchio"}
READY = {  # ours as its command does it
    OURS: "from vesalius.core.memory import lasting\nwith lasting(): from vesalius.engine.workflow import train",
    "nnU-Net": "import nnunetv2.run.run_training, nnunetv2.training.nnUNetTrainer.nnUNetTrainer",
    "MONAI": "import monai.data, monai.inferers, monai.losses, monai.metrics, monai.networks.nets, monai.transforms",
}
ANSWER = {
    OURS: "from vesalius.core.memory import lasting\nwith lasting(): from vesalius.export.answering import answer",
    "nnU-Net": "import nnunetv2.inference.predict_from_raw_data",
    "MONAI": "import monai.inferers, monai.networks.nets, monai.transforms",
    "TorchIO": "import torch, torchio",
}
HELP = {
    OURS: ["vesalius", "--help"], "nnU-Net": ["nnUNetv2_train", "--help"], "TorchIO": ["torchio-transform", "--help"],
}  # fmt: skip
QUIET = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
WROTE = "both wrote an answer of the scan's shape"
NETWORKS = {"MONAI": "its SegResNet", "TorchIO": "a U-Net of torch"}
CHECKS = {"nnU-Net": WROTE} | {who: f"{WROTE}; {net} with random weights, without mirrors" for who, net in NETWORKS.items()}
TORCH = "torch==2.13.0"  # by name alone it would bring gigabytes for a GPU
DISTRIBUTIONS = {OURS: "vesalius", "nnU-Net": "nnunetv2", "MONAI": "monai", "TorchIO": "torchio"}
READS = DISTRIBUTIONS | {"MONAI": "monai[nibabel]"}  # MONAI by its name alone reads no NIfTI


def needed(name, extra=""):
    """The distributions that `name` requires here, itself included, with one `extra` of its own or none."""
    from packaging.requirements import Requirement

    found, waiting = set(), [(name, extra)]
    while waiting:
        now, more = waiting.pop()
        now = re.sub(r"[-_.]+", "-", now).lower()
        if (now, more) in found:
            continue
        try:
            wanted = [Requirement(text) for text in metadata.requires(now) or []]
        except metadata.PackageNotFoundError:
            continue
        found |= {(now, more), (now, "")}
        waiting += [(r.name, one) for r in wanted if r.marker is None or r.marker.evaluate({"extra": more}) for one in ("", *r.extras)]
    return {now for now, _ in found}


def size(name):
    """Bytes of the files of a distribution; of vesalius, which lies in place, of what a wheel has and an installer compiles."""
    if name == OURS:
        kept = [path for path in (SOURCES / OURS).rglob("*") if path.is_file() and (path.suffix != ".pyc" or CACHE in path.name)]
        return sum(path.stat().st_size for path in kept)
    files = metadata.distribution(name).files or []
    return sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())


def megabytes():
    """Rows in which the numbers are megabytes (1e6 bytes)."""
    found, torch = [], needed("torch")
    kinds = (("answers scans: installed, MB", "", set()), ("trains: installed, MB, torch included", "train", set()),
             ("trains: installed, MB, torch left out", "train", torch))  # fmt: skip
    for work, extra, left_out in kinds:
        parts = {name: needed(of, extra if name == OURS else "") - left_out for name, of in DISTRIBUTIONS.items()}
        sizes = {name: sum(map(size, of)) / 1e6 for name, of in parts.items()}
        counts = {name: len(of) for name, of in parts.items()}
        checks = {name: f"{counts[name]} packages beside {counts[OURS]}" for name in sizes}
        made = rows(work, {name: [Turn(value, value)] for name, value in sizes.items()}, check=checks, goal=10)
        found += [row | {"unit": "MB"} for row in made]
    return found


def first_result(options):
    """The rows of one scan, answered by the command of each."""
    scripts, made = Path(sys.executable).parent, []
    with tempfile.TemporaryDirectory() as name:
        for what, commands in answering(options, Path(name)).items():
            words = {who: told(scripts) for who, told in commands.items()}
            turns = in_processes(words, rounds=options.rounds)
            checked(options.scan, {who: Path(name) / who for who in words})
            made += rows(f"first result: one scan answered by {what}", turns, check=CHECKS, goal=10)
    return made


def checked(scan, folders):
    """Stop unless there is an answer in each of the folders, as large as the scan."""
    import nibabel

    for who, folder in folders.items():
        shapes = [nibabel.load(path).shape for path in folder.glob("*.nii.gz")]
        if shapes != [nibabel.load(scan).shape]:
            raise SystemExit(f"{who} did not answer with one volume as large as the scan: {shapes}")


def answering(options, folder):
    """The commands that answer one scan into `folder`, of the scripts in a place that is yet to be told."""
    ours = longest(options.runs.glob("vesalius_*/run"))
    theirs = longest(options.runs.glob("nnunet_*/results/*/nnUNetTrainer__*"))
    (folder / "in").mkdir()
    (folder / "in" / "scan_0000.nii.gz").symlink_to(options.scan.absolute())
    process(OURS, [sys.executable, "-m", "vesalius", "export", str(ours), "-o", str(folder / "model")])
    patch = json.loads((ours / "plan.json").read_text())["patch"]["size"]["value"]
    assert tuple(patch) == PATCH, f"_first.py has another patch than the plan: {patch}"

    def told(*words):
        return lambda scripts: [str(scripts / words[0]), *map(str, words[1:])]

    last = ["-i", folder / "in", "-o", folder / "nnU-Net", "-m", theirs, "-f", "0", "-device", "cpu", "-npp", "1", "-nps", "1"]
    others = {"nnU-Net": told("nnUNetv2_predict_from_modelfolder", *last)}
    for who in NETWORKS:
        script, weights = [Path(__file__).with_name("_first.py"), who.lower()], folder / f"{who}.pt"
        process(who, [sys.executable, *map(str, script), str(weights)])
        others[who] = told("python", *script, weights, options.scan.absolute(), folder / who)
    model, run = (["vesalius", *words, options.scan, "-o", folder / OURS, "--overwrite"]
                  for words in (("answer", folder / "model"), ("predict", ours)))  # fmt: skip
    return {"an exported model": {OURS: told(*model), **others}, "the run": {OURS: told(*run), "nnU-Net": others["nnU-Net"]}}


def fresh(options):
    """The rows of an installation into an empty environment, up to the first import; up to the first answer where there are runs."""
    machine = "fresh machine" if options.installer == "pip" else f"fresh machine, {options.installer} installs"
    with tempfile.TemporaryDirectory() as name:
        root, wheels = SOURCES.parent, Path(name) / "wheels"
        if options.runs:
            work, last = f"{machine}: installed, and a first scan answered", answering(options, Path(name))["an exported model"]
        else:
            work = f"{machine}: installed, and what an answer needs imported"
            last = {who: lambda scripts, code=code: [str(scripts / "python"), "-c", code] for who, code in ANSWER.items()}
        os.environ.pop("PYTHONPATH", None)  # what is installed is to be imported
        process(OURS, [sys.executable, *QUIET, "wheel", "--no-deps", "--wheel-dir", str(wheels), str(root)])
        (wheel,) = wheels.glob("*.whl")
        turns = {who: [] for who in last}
        for _ in range(options.rounds):
            for who, told in last.items():
                turns[who].append(installed(who, wheel, told, installer=INSTALLERS[options.installer], place=Path(name) / "environment"))
        if options.runs:
            checked(options.scan, {who: Path(name) / who for who in last})
    if not options.runs:
        return rows(work, {who: [whole for whole, _ in found] for who, found in turns.items()}, check="exit code 0, no answer yet")
    return [row for k, what in enumerate((work, f"{machine}: the first answer alone"))
            for row in rows(what, {who: [parts[k] for parts in found] for who, found in turns.items()}, check=CHECKS, goal=10)]  # fmt: skip


def installed(who, wheel, told, *, installer, place):
    """The seconds of one installation with the command that is `told` the place of its scripts, and of that command alone."""
    process(who, [sys.executable, "-m", "venv", str(place)])
    what = [str(wheel)] if who == OURS else [TORCH, READS[who]]
    constraints = str(SOURCES.parent / "constraints" / "py311.txt")
    install = [*installer(place / "bin" / "python"), "--constraint", constraints, *what]
    os.sync()  # what the one before has left to be written to the disk is not this one's
    first, then = (process(who, words) for words in (install, told(place / "bin")))
    sys.stderr.write(f"{who}: {first.cpu:.2f} processor seconds to install, {then.cpu:.2f} from there on\n")
    shutil.rmtree(place)
    return Turn(first.wall + then.wall, first.cpu + then.cpu), then


def by_pip(python):
    return [str(python), *QUIET, "install"]


def by_uv(python):
    """uv looks where pip is told to look here, and takes the newest of all that it finds there, as pip does."""
    found = shutil.which("uv")
    if not found:
        raise SystemExit("There is no uv: install it (https://docs.astral.sh/uv).")
    told = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    lines = sorted(told.splitlines(), key=lambda line: line.startswith(":env:"))  # the environment has the last word
    pip = {name.rpartition(".")[2]: shlex.split(value)[0].split() for name, _, value in (line.partition("=") for line in lines)}
    words = [f"--{name}={of}" for name in ("index-url", "extra-index-url", "find-links", "constraint") for of in pip.get(name, [])]
    if "cert" in pip:
        os.environ["SSL_CERT_FILE"] = pip["cert"][0]
    return [found, "pip", "install", "--quiet", "--no-cache", "--index-strategy", "unsafe-best-match", *words, "--python", str(python)]


INSTALLERS = {"pip": by_pip, "uv": by_uv}


def longest(folders):
    """That of most minutes, as the name of the run says."""
    found = [(float(re.search(r"_([\d.]+)m_", str(folder))[1]), folder) for folder in folders]
    if not found:
        raise SystemExit("No run is there: run benchmarks/time_to_quality.py first.")
    return max(found)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=Path, help="where time_to_quality.py left its runs: measure the first result alone")
    parser.add_argument("--scan", type=Path, help="that all answer")
    parser.add_argument("--fresh", action="store_true", help="install each into an empty environment: some minutes, and 2 GB for a while")
    parser.add_argument("--installer", choices=list(INSTALLERS), default="pip", help="of --fresh")
    options = parser.parse_args()
    if options.fresh:
        keep("startup", fresh(options), title=TITLE)
        return
    if options.runs:
        compile_dir(SOURCES, quiet=1)
        keep("startup", first_result(options), title=TITLE)
        return
    compile_dir(SOURCES, quiet=1)
    scripts = Path(sys.executable).parent
    python = {"import the package": IMPORTS, "import what an answer needs": ANSWER, "import what a training needs": READY}
    found = megabytes()
    for work, kinds in python.items():
        commands = {name: [sys.executable, "-c", code] for name, code in kinds.items()}
        found += rows(work, in_processes(commands, rounds=options.rounds), check="exit code 0", goal=10)
    floor = in_processes({OURS: [sys.executable, "-c", "import torch"]}, rounds=options.rounds)[OURS]
    found.append(alone("torch alone, imported", floor, check="the floor of every row that needs torch"))
    found += rows("--help", in_processes({name: [str(scripts / words[0]), *words[1:]] for name, words in HELP.items()},
                                         rounds=options.rounds), check="exit code 0", goal=10)  # fmt: skip
    keep("startup", found, title=TITLE)


if __name__ == "__main__":
    main()
