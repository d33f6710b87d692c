"""Checks of pixels and mask values: finite, not constant, what the name says, values with a meaning, labels that occur."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from vesalius.data.dataset import Dataset
from vesalius.data.doctor._finding import Finding, cases_word, some
from vesalius.data.doctor._look import Look, Mask, Picture
from vesalius.data.labels import Labels
from vesalius.data.normalise import looks_like_hounsfield

NOT_CT = set("mr mri t1 t1w t1c t1ce t2 t2w flair adc dwi pet pt suv us ultrasound fundus xray".split())
FLIPS = ("the first axis", "the second axis", "both axes")
VOTERS, AGREE, CLEARER = 8, 0.9, 1.35  # cases; share of them that a flip fits better; how many times better (geometric mean)
CT = {"ct", "cbct", "cta", "ldct"}
CODES = {"CT": "CT", "MR": "MR", "PT": "PET", "US": "ultrasound"}  # DICOM's words and ours


def not_finite(_: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """NaN and infinities; an image of nothing else cannot be used."""
    holding = {one.case.name: p for one in seen for p in one.images.values() if p.bad > 0}
    empty = tuple(name for name, p in holding.items() if p.bad == 1)
    if empty:
        yield Finding("finite", "error", f"No pixel of {some(empty)} is a finite number.", empty, "Export them again, or leave them out.")
    part = {name: p.bad for name, p in holding.items() if p.bad < 1}
    if part:
        yield Finding("finite", "warning", f"{cases_word(len(part), len(seen))} hold NaN or infinite values ({max(part.values()):.2%} of "
                      f"the pixels at most): {some(part)}. They are read as missing.", tuple(part), "Check what the software that wrote "
                      "them means by it (often: outside the field of view).", {"share": part})  # fmt: skip


def constant(_: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Images with one value everywhere."""
    flat = [(one.case.name, channel) for one in seen for channel, p in one.images.items() if p.constant and p.bad < 1]
    if flat:
        names = tuple(dict.fromkeys(name for name, _ in flat))
        yield Finding("constant", "warning", f"{len(flat)} images are constant: {some(f'{n} ({c})' for n, c in flat)}.", names,
                      "They hold nothing to learn from; export them again or leave them out.")  # fmt: skip


def modality(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Names that say one thing and pixels (or the header) another."""
    for channel in dataset.channels:
        words = named(channel) or (named(dataset.modality) if len(dataset.channels) == 1 else "")
        have = {one.case.name: one.images[channel] for one in seen if channel in one.images}
        if words == "CT":
            odd = tuple(name for name, p in have.items() if p.stats and not hounsfield(p))
            what, how = "is named CT, but the values do not read like Hounsfield units", "Was the rescale slope lost, or a window applied?"
        elif words:
            odd = tuple(name for name, p in have.items() if p.components == 1 and p.stats and hounsfield(p))
            what, how = f"is named {words}, but the values read like Hounsfield units (CT)", "Are files swapped or misnamed?"
        else:
            continue
        if odd:
            p = have[odd[0]]
            yield Finding("modality", "warning", f"{channel} {what} in {cases_word(len(odd), len(have))}: {some(odd)} (0.5 to 99.5 % of "
                          f"{odd[0]}: {p.stats['low']:g} to {p.stats['high']:g}).", odd, how)  # fmt: skip
        yield from _header_says(channel, words, have)


def uptake(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """PET in becquerel per millilitre, which goes by dose, time and weight and not by tissue alone: SUV compares patients."""
    for channel in dataset.channels:
        have = {one.case.name: one.images[channel].words for one in seen if channel in one.images}
        raw = {name: words for name, words in have.items() if words.get("units") == "BQML"}
        if not raw:
            continue
        lack = {name: str(words["no_suv"]) for name, words in raw.items() if "no_suv" in words}
        path = next(one.images[channel].path for one in seen if one.case.name in raw and channel in one.images)
        how = f"Make SUV of each: vesalius convert {path} OUT.nii.gz --suv"
        if lack:
            first = next(iter(lack))
            how += f". Not possible for {some(lack)} ({first}: {lack[first]})"
        yield Finding("uptake", "warning", f"{channel} is in becquerel per millilitre in {cases_word(len(raw), len(have))}, which goes by "
                      "dose, time and weight.", tuple(raw), f"{how}.", {"no_suv": lack})  # fmt: skip


def hounsfield(p: Picture) -> bool:
    """Whether values read like CT numbers and, but for padding, none lies below air (a z-score in whole numbers does)."""
    return looks_like_hounsfield(p.stats) and p.stats["below_air"] < 0.01


def named(text: str) -> str:
    """'CT' or another modality where `text` names exactly one as a word, '' otherwise."""
    words = {"xray" if w == "x" else w for w in re.split(r"[^a-z0-9]+", text.lower().replace("x-ray", "xray"))}
    if words & CT:
        return "" if words & NOT_CT else "CT"
    other = sorted(words & NOT_CT)
    return other[0].upper() if other else ""


def _header_says(channel: str, words: str, have: dict[str, Picture]) -> Iterator[Finding]:
    """DICOM states the modality itself."""
    stated = {name: str(p.words.get("modality", "")).upper() for name, p in have.items()}
    odd = tuple(name for name, code in stated.items() if code in CODES and (code == "CT") != (words == "CT"))
    if odd:
        yield Finding("modality", "warning", f"{channel} is named {words}, but the headers of {some(odd)} say {stated[odd[0]]}.", odd,
                      "Are files swapped or misnamed?")  # fmt: skip


def mask_values(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Values without a meaning: refused, never guessed."""
    strange: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for one in seen:
        for mask in one.masks.values():
            if mask.problem:
                yield Finding("values", "error", f"Case {one.case.name}: {mask.path.name} {mask.problem}", (one.case.name,),
                              "Name the masks with --mask GLOB, or export them as label maps.", {"mask": str(mask.path)})  # fmt: skip
            elif unknown := without_meaning(mask, dataset.labels):
                strange[unknown].append(one.case.name)
    for values, names in strange.items():
        yield Finding("values", "error", f"{cases_word(len(names), len(seen))} hold mask values without a meaning: "
                      f"{some(map(str, values), 10)} (in {some(names)}). Known: {dataset.labels.describe()}.", tuple(dict.fromkeys(names)),
                      "Name them in dataset.json or with --label NAME=VALUE, or leave them out with --label ignore=VALUE.",
                      {"values": list(values)})  # fmt: skip


def without_meaning(mask: Mask, labels: Labels) -> tuple[int, ...]:
    """Raw values of `mask` that neither background, a label nor the ignore value covers."""
    if labels.kind == "bits":
        every = sum(parts[0] for parts in labels.values)
        return tuple(v for v in sorted(mask.counts) if v != labels.ignore and v & ~every)
    known = {*labels.background, labels.ignore, *(v for parts in labels.values for v in parts)}
    return tuple(v for v in sorted(mask.counts) if v not in known)


def voxels(mask: Mask, labels: Labels) -> list[int]:
    """Voxels of each label."""
    counts = {v: n for v, n in mask.counts.items() if v != labels.ignore}
    if labels.kind == "bits":
        return [sum(n for v, n in counts.items() if v & parts[0]) for parts in labels.values]
    return [sum(counts.get(v, 0) for v in parts) for parts in labels.values]


def eight_bit_masks(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Masks of 0 and 255 read as 0 and 1."""
    merged = [parts for parts in dataset.labels.values if 255 in parts and 1 in parts]
    if dataset.labels.kind != "exclusive" or not merged:
        return
    names = tuple(one.case.name for one in seen if one.mask and 255 in one.mask.counts)
    both = tuple(one.case.name for one in seen if one.mask and {1, 255} <= set(one.mask.counts))
    if names:
        yield Finding("values", "repaired", f"The masks of {cases_word(len(names), len(seen))} mark with 255; it is read as 1.", names)
    if both:
        yield Finding("values", "warning", f"{cases_word(len(both), len(seen))} hold both 1 and 255 in one mask: {some(both)}.", both,
                      "Both are read as 1; if 255 means 'unsure', give --label ignore=255.")  # fmt: skip


def empty_masks(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Masks that mark nothing: right for healthy cases, a mistake otherwise."""
    masks = {one.case.name: one.mask for one in seen if one.mask and not one.mask.problem}
    empty = tuple(name for name, mask in masks.items() if not any(voxels(mask, dataset.labels)))
    if empty and len(empty) == len(masks):
        yield Finding("empty", "error", "Every mask is empty: there is nothing to learn.", empty, "Are these the right files and labels?")
    elif empty:
        yield Finding("empty", "warning", f"The masks of {cases_word(len(empty), len(masks))} are empty: {some(empty)}.", empty,
                      "Right if nothing is there to be found; if they are just not drawn yet, leave the cases out.")  # fmt: skip


def flipped(_: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Masks that fit their images clearly better when flipped: a common accident of export that no header shows.

    It is a vote of the whole data set: one case says little, and where borders are faint nothing is said."""
    votes = np.array([one.edges for one in seen if one.edges])
    if len(votes) < VOTERS:
        return
    ratio = np.maximum(votes[:, 1:], 1e-6) / np.maximum(votes[:, :1], 1e-6)
    better, mean = (ratio > 1).mean(0), np.exp(np.log(ratio).mean(0))
    k = int(mean.argmax())
    if better[k] >= AGREE and mean[k] >= CLEARER:
        yield Finding("flipped", "warning", f"In {better[k]:.0%} of the cases the outlines of the masks lie on clearer edges of the "
                      f"image when flipped along {FLIPS[k]} ({mean[k]:.1f} times as clear).", (),
                      "Look at cases.png (vesalius inspect DATA -o FOLDER): were the masks written with another origin than the images?",
                      {"better": better.tolist(), "times": mean.tolist()})  # fmt: skip


def rare_labels(dataset: Dataset, seen: Sequence[Look]) -> Iterator[Finding]:
    """Labels of masks that occur in one case or in none: they cannot be learned and tested."""
    if dataset.labels.grain == "case":
        return
    holders: dict[str, list[Look]] = {name: [] for name in dataset.labels.names}
    for one in seen:
        for name, count in zip(dataset.labels.names, voxels(one.mask, dataset.labels) if one.mask else (), strict=False):
            if count:
                holders[name].append(one)
    for name, held in holders.items():
        if len({one.case.patient for one in held}) < 2 < len(seen):
            where = f"only in {some(one.case.name for one in held)}" if held else "in no case"
            yield Finding("rare", "warning", f"The label {name!r} occurs {where}.", tuple(one.case.name for one in held),
                          "It can hardly be learned, and not be tested too: merge it with another, or add cases.")  # fmt: skip
