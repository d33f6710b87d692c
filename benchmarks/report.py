"""Run the comparisons and write `benchmarks/results.md` from what they kept in `benchmarks/results/`.

    python benchmarks/report.py                       write the page from the rows that are there
    python benchmarks/report.py --run                 run the usual comparisons first (not those that take long)
    python benchmarks/report.py --run reading export  run these two first

`make bench` does the second, in the environment that `make bench-peers` makes. What compares with no other tool and tells of quality
(real_scans.py, zoo.py and the like) is run by itself.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PAGE = HERE / "results.md"
USUAL = ("reading", "startup", "training", "metrics", "augment", "logits", "inference", "scaling")
LONG = ("levers", "ceilings", "halves", "rbm_speed", "coreset", "export", "large_scan", "processes", "threads", "resume")  # run when named
COMPARISONS = ("time_to_quality", *USUAL, *LONG)
NOTES = {
    "rbm_speed": "Five times is reached beside scikit-learn's default batch of 10 with every batch of ours, and beside its batches of 100 "
    "in float32, its fastest, with batches of 1000: its products alone then take half of its epoch, and with batches of 256 or 500 ours "
    "take half of ours. Numbers of numpy are float64. The "
    "pseudo-likelihoods are not equal: centred, with momentum and a rate that falls to 0, ours is ahead after as many "
    "epochs on these radiographs, but for batches of 1000 beside batches of 10.",
    "training": "Ours needs fewer products for the same convolutions (Winograd's minimal filtering, by kernels in C) and goes over "
    "memory once where torch goes several times: docs/explanation/speed.md. With VESALIUS_KERNELS=off the step of 2 patches was 2.44 "
    "times as fast as nnU-Net's. As a processor with AVX2 alone (`--laptop`) all sides are in fp32.",
    "halves": "Ours is bf16 in every row, whatever is planned: where it takes longer, as with the small transformer of mae, plans keep "
    "to fp32.",
    "reading": "Series are read warm. Headers of plain DICOM objects are walked without pydicom, which stays the judge of all others "
    "(docs/explanation/speed.md); every value and every pixel is the same.",
    "startup": "nnU-Net's package by its name alone is an empty file; MONAI itself requires nothing but numpy and torch, and what its "
    "users need to read and write files comes on top. Ours answers scans by an exported model, without torch (docs/howto/export.md). A "
    "training needs torch, scipy (143 MB), numpy (71), gdcm for compressed DICOM (45) and less; why not 10 for that: see torch alone, a "
    "row of its own, and docs/explanation/scale.md, what a start costs. By the run itself, with torch, the first result takes less than "
    "torch alone, as the command spares the interpreter its search for garbage while torch is imported and at the end. MONAI and "
    "TorchIO have no command that answers a scan; their shortest scripts (`_first.py`) see it once, without mirrors. MONAI imports what it "
    "finds, here also what the others brought; alone in its environment (the first answer of a fresh machine) it takes less. Of a fresh "
    "machine's seconds, ours by pip, a third is numpy unpacked and compiled, a third pip's reading of index pages, an eighth ourselves; "
    "uv, of an empty cache, compiles nothing, so that the first answer does (docs/explanation/speed.md).",
    "logits": "Ours is without torch, as `vesalius predict` and `vesalius answer` are on a processor, unless a row says torch, as where "
    "there is a GPU: there, and in all of theirs, some 220 MiB of the peak are interpreter and torch, so that small volumes take less "
    "than ten times less; beyond what a process needs that exports a tiny volume, the check has both. nnU-Net "
    "keeps its logits in half precision, which is where its labels differ; MONAI keeps them in float32. Logits that are not smooth have "
    "several classes that are nearly the largest in most places; smooth ones are like those of a trained network.",
    "augment": "Nearest are masks alone, images are linear on both sides. The opponent's blur times its two ways when it meets a size "
    "for the first time, and what is drawn differs: `--samples` sets how many are drawn. Ours goes over a sample once for what moves it "
    "and once for each change of grey value, by kernels in C (docs/explanation/speed.md).",
    "inference": "Rows in which ours is exported are what `vesalius predict` does on a processor, without torch; the others go by "
    "torch. The weights are random unless a row says Dice: labels differ where classes are nearly equal, and MONAI's last tiles lie "
    "elsewhere. Tiles that overlap by less than half are taken where validation cases bear it (rows of Dice, docs/explanation/speed.md). "
    "Rows of sarcoma are of code before the kernels in C.",
    "export": "A whole volume, file reading left out: the network, which is ours on both sides, takes most of it; what is behind it "
    "alone is compared in the export of class logits. Measured beside other work, which lengthens wall time.",
    "large_scan": "The command in a process of its own: start, reading a .nii.gz, network, labels, writing. One thread.",
    "processes": "Wall time is what counts here: seconds until the last process is done. Processes that learn meet at every step, where "
    "each waits for the slower one, and a share of 2 samples takes more than half of the time of 4.",
    "scaling": "A row of more cases or voxels is compared with the smallest of its own run. Of streaming that is a single tile, where all "
    "others are tiles that overlap by half: from 128 voxels on tiles see most voxels several times.",
    "ceilings": "Operations are counted as torch computes them; the kernels in C need fewer, so that more than 100 % is possible. What "
    "the kernels move is not seen, so that ours are too few bytes.",
    "time_to_quality": "nnU-Net trains the network that it plans with its own trainer, its poly schedule cut to the time; MONAI's network "
    "and rate are ours to choose. Neither knows bf16 on a processor. The test part has 42 scans; intervals are drawn by patient. "
    "Ours of 20 and 40 minutes are of code before the kernels in C.",
}
LESS = 10  # times the memory that an export should take less
OPEN = (  # what is not measured, and the comparison and the words of its rows that show that it is
    ("GPU", "no GPU was at hand: no figure here is from one (`python benchmarks/ceilings.py --device cuda --compile`)", "ceilings",
     ("GPU",)),
    ("time to quality", "Dice after 10 and 20 minutes beside nnU-Net's and MONAI's own trainers", "time_to_quality",
     ("after 10 min", "after 20 min")),
    ("time to quality", "Dice after 40 minutes beside them", "time_to_quality", ("after 40 min",)),
    ("training", "a step on patches of 128 x 128 x 128", "training", ("128 x 128 x 128",)),
    ("inference", "a head MR of 240 x 240 x 155 beside the others", "inference", ("240 x 240 x 155",)),
    ("inference", "a CT of 512 x 512 x 400 beside nnU-Net (beside MONAI: benchmarks/export.py)", "inference", ("512 x 512 x 400",)),
    ("inference", "what bf16 costs in Dice", "inference", ("Dice in bf16",)),
    ("export", "sizes at which the others need many GiB: ours is benchmarks/export.py", "export", ("512 x 512 x 400",)),
    ("augmentation", "patches of 96 x 96 x 96 and pictures of 512 x 512", "augment", ("cube", "picture")),
    ("metrics", "volumes of 256 x 256 x 256", "metrics", ("256 x 256 x 256",)),
    ("metrics", "volumes of 512 x 512 x 512", "metrics", ("512 x 512 x 512",)),
    ("scaling", "10,000 cases", "scaling", ("10,000 cases",)),
    ("scaling", "volumes of 512 x 512 x 512", "scaling", ("512 x 512 x 512",)),
    ("scaling", "volumes of 768 x 768 x 768", "scaling", ("768 x 768 x 768",)),
    ("scaling", "two processes on idle cores", "processes", ("",)),
)  # fmt: skip


def page(kept):
    """The whole page as Markdown."""
    parts = [HEAD, losses(kept)]
    parts += [section(about) for about in kept]
    works = {about["benchmark"]: "\n".join(row["work"] for row in about["rows"]) for about in kept}
    left = [f"- {what}: {why}." for what, why, name, words in OPEN if name not in works or any(word not in works[name] for word in words)]
    parts.append("## Not measured\n\n" + "\n".join(left))
    return "\n\n".join(parts) + "\n"


HEAD = """# Side by side

Written by `python benchmarks/report.py` from `benchmarks/results/*.json`; `make bench-peers && make bench` measures again. In every row
both sides did the same work on the same data in the same run, in turns (A B A B). **Ratios are the other tool's figure divided by
vesalius's: above 1 vesalius is ahead.** They are medians over turns with the least and the largest. Seconds of processor time (all
threads) stand first because other work on the machine lengthens wall time; machine, load and versions stand under each table."""


def losses(kept):
    """Every row in which the other side is ahead, or the goal is missed."""
    behind, short = [], []
    for about in kept:
        for row in about["rows"]:
            if row.get("unit") == "Dice" and row["theirs"] and row["theirs"]["cpu"] > row["ours"]["cpu"]:
                behind.append(f"- {row['work']}: {row['opponent']}: {row['theirs']['cpu']:.5f}, ours {row['ours']['cpu']:.5f}.")
            for word, key in (("time", "cpu_ratio"), ("memory", "peak_ratio")):
                found = row.get(key) or (row.get("wall_ratio") if key == "cpu_ratio" else None)
                if found and found[0] < 0.995:
                    what = "megabytes" if row.get("unit") == "MB" else word
                    behind.append(f"- {row['work']}: {row['opponent']}, {what}: {spread(found)}.")
            found = row.get("cpu_ratio")
            if row.get("goal") and found and 0.995 <= found[0] < row["goal"]:
                short.append(f"- {row['work']}: {row['opponent']}: {number(found[0])}, the goal was {row['goal']:g}.")
            found = row.get("peak_ratio")
            if row.get("goal") and about.get("benchmark") in ("logits", "export") and found and found[0] < LESS:
                short.append(f"- {row['work']}: {row['opponent']}, memory of the whole process: {number(found[0])}, the goal was {LESS}.")
    text = "## Where we lose\n\n" + ("\n".join(behind) if behind else "In no row.")
    return text + ("\n\nAhead, but short of the goal:\n\n" + "\n".join(short) if short else "")


def section(about):
    rows = about["rows"]
    memory = any("peak" in row["ours"] for row in rows)
    commands = dict.fromkeys(row["command"] for row in rows)
    lines = [f"## {about['title']}", "", *[f"`{command}`  " for command in commands], ""]
    if about["benchmark"] in NOTES:
        lines += [NOTES[about["benchmark"]], ""]
    columns = ["work", "beside", "vesalius", "other", "ratio (processor)", "ratio (wall)"] + ["peak memory", "ratio (memory)"] * memory
    lines += ["| " + " | ".join([*columns, "turns", "check"]) + " |", "|---" * (len(columns) + 2) + "|"]
    lines += ["| " + " | ".join(cells(row, memory)) + " |" for row in rows]
    return "\n".join([*lines, "", f"<sub>{facts(about)}</sub>"])


def cells(row, memory):
    """One row of a table."""
    alone = row["opponent"] is None
    shown = [row["work"], row["opponent"] or "–", amount(row, row["ours"]), "–" if alone else amount(row, row["theirs"])]
    shown += [spread(row.get("cpu_ratio")), "–" if row.get("unit") == "MB" else spread(row.get("wall_ratio"))]
    if memory:
        both = [row["ours"], *([] if alone else [row["theirs"]])]
        shown += [" / ".join(size(side["peak"]) if "peak" in side else "–" for side in both), spread(row.get("peak_ratio"))]
    return [*shown, str(row["rounds"]), row["check"]]


def amount(row, side):
    """Seconds of processor time, megabytes or Dice."""
    if row.get("unit") == "Dice":
        return f"{side['cpu']:.3f}"
    if row.get("unit") == "MB":
        return f"{side['cpu']:,.0f} MB"
    seconds = side.get("cpu", side.get("wall"))
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def size(count):
    return f"{count / 2**20:,.0f} MiB" if count < 2**30 else f"{count / 2**30:.2f} GiB"


def spread(found):
    """Median (least … largest)."""
    if not found:
        return "–"
    median, low, high = map(number, found)
    return median if low == high else f"{median} ({low} … {high})"


def number(value):
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def facts(about):
    m, v = about["machine"], about["versions"]
    packages = ", ".join(f"{name} {version}" for name, version in v.items())
    bf16 = "with bf16" if m["bf16"] else "without bf16"
    return (f"{about['date']}; {m['processor']} ({bf16}), {m['cores']} cores of which {m['cores_used']} used, {m['threads']} thread, "
            f"{m['memory_gib']} GiB, load {m['load']}; Python {m['python']}; {packages}.")  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="*", choices=COMPARISONS, help="comparisons to run first; the usual ones where none is named")
    options = parser.parse_args()
    if options.run is not None:
        for name in options.run or USUAL:
            sys.stderr.write(f"== {name}\n")
            subprocess.run([sys.executable, str(HERE / f"{name}.py")], check=True)
    found = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("*.json")}
    PAGE.write_text(page([found[name] for name in COMPARISONS if name in found]))
    sys.stderr.write(f"{PAGE} from {len(found)} comparisons\n")


if __name__ == "__main__":
    main()
