"""Which image, channel, mask or rater a file is, told from its name and folders alone."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vesalius.core.errors import DataError
from vesalius.data.case import Case, Masked, files_of
from vesalius.data.layouts._files import Leaf, natural, some
from vesalius.data.layouts._parts import parted

GAP = r"(?:^|[ _.\-])"
WHO = r"(?:rater|reader|observer|obs|expert|annotator)[ _.\-]?(?:\d{1,2}|[a-d])"
WORD = r"masks?|segs?|segm|segmentations?|labels?|lbl|gt|ground[ _]?truth|truth|annotations?|manual|roi"
MASK = re.compile(rf"{GAP}(?:(?:{WORD})[ _.\-]?(?P<rater>{WHO}|r\d)?|(?P<who>{WHO}|\d(?:st|nd|rd|th)HO|manual\d))$", re.I)
PARTS = re.compile(rf"{GAP}(?:{WORD})[ _.\-]?\(?\d{{1,2}}\)?$", re.I)
ASIDE = re.compile(
    rf"{GAP}(?P<word>brain[ _]?mask|scribbles?|fov|weights?|probs?|probability|inst|instances?|overlay|preview|thumb(?:nail)?)$", re.I
)  # fmt: skip
SEQUENCE = r"t1(?:w|c|ce|gd|n|wce)?|t2(?:w|f|star)?|mri?[ _\-]?t[12]c?|flair|adc|dwi|swi|pd|dce"
CHANNEL = re.compile(rf"{GAP}(?P<word>{SEQUENCE}|pet|pt|suv|ct|cta|cbct|mri?|us)$", re.I)  # fmt: skip
PLAIN = re.compile(r"[ _.\-](?:image|img|im|scan|volume|vol|orig|original)$", re.I)
GENERIC = re.compile(r"^(?:image|img|scan|volume|vol|orig|original|raw|data|input|anat)$", re.I)
IMAGE_FOLDER = re.compile(r"^(?:images?(?:t[rs])?|imgs?|scans?|volumes?|inputs?|anat)$", re.I)
MASK_FOLDER = re.compile(
    rf"^(?:(?:{WORD})(?:t[rs])?|(?P<rater>(?:\d(?:st|nd|rd|th)[ _\-]?)?(?:manual|{WHO})\d?)|(?:{WORD})[ _\-](?P<other>\w+))$", re.I
)  # fmt: skip
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}


@dataclass(frozen=True)
class Role:
    """What a leaf is: `kind` image, mask or aside; `word` its channel, rater or the word that set it aside."""

    leaf: Leaf
    key: str
    kind: str
    word: str
    split: str = ""


@dataclass
class Paired:
    """Cases put together from names, with the words about it."""

    cases: list[Case] = field(default_factory=list)
    channels: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def pair(found: list[Leaf], *, mask_word: str = "") -> Paired:
    """`found` files as cases. `mask_word` names an otherwise set-aside kind of mask to take ("scribble")."""
    roles = _roles(found)
    if mask_word:
        roles = [_chosen(role, mask_word) for role in roles if role.kind != "mask"]
    roles, notes = _matched_by_number(roles)
    _refuse_parts(roles)
    return _assembled(roles, notes)


def _roles(found: list[Leaf]) -> list[Role]:
    """The role of each leaf; a folder that holds everything says nothing of a case and is passed over."""
    repeated = _recurring(found)
    roles = [role_of(leaf, repeated) for leaf in found]
    first = {leaf.folders[:1] for leaf in found}
    if len(first) != 1 or () in first:
        return roles
    inner = _roles([replace(leaf, folders=leaf.folders[1:]) for leaf in found])
    return inner if all(role.key for role in inner) else roles


def role_of(leaf: Leaf, repeated: frozenset[str] = frozenset()) -> Role:
    """`repeated`: whole stems that occur in several case folders and thus name channels."""
    folders, kind, word, split = _read_folders(leaf.folders)
    stem = leaf.stem
    if aside := ASIDE.search(stem):
        return Role(leaf, _key(folders, stem[: aside.start()]), "aside", aside["word"].lower(), split)
    if mask := MASK.search(stem):
        word = mask["rater"] or mask["who"] or word
        kind, stem = "mask", stem[: mask.start()]
    channel = "image"
    if found := CHANNEL.search(stem):
        channel, stem = found["word"], stem[: found.start()]
    elif plain := PLAIN.search(stem):
        stem = stem[: plain.start()]
    elif folders and (GENERIC.match(stem) or (stem in repeated and kind == "image")):
        channel, stem = "image" if GENERIC.match(stem) else stem, ""
    return Role(leaf, _key(folders, stem), kind, word if kind == "mask" else channel, split)


def _read_folders(folders: tuple[str, ...]) -> tuple[tuple[str, ...], str, str, str]:
    """Folders that name the case, the kind that the others imply, the rater, and the split."""
    kind, word, split, rest = "image", "", "", []
    for folder in folders:
        if folder.lower() in SPLITS:
            split = SPLITS[folder.lower()]
        elif IMAGE_FOLDER.match(folder):
            kind = "image"
        elif mask := MASK_FOLDER.match(folder):
            kind, word = "mask", mask["rater"] or mask["other"] or ""
        else:
            rest.append(folder)
    return tuple(rest), kind, word, split


def _key(folders: tuple[str, ...], stem: str) -> str:
    """The name of a case: a stem that repeats its folder's name needs no folder."""
    stem = stem.strip(" _-.")
    if not stem:
        return "_".join(folders)
    return stem if not folders or any(stem.startswith(folder) for folder in folders) else "_".join((*folders, stem))


def _recurring(found: list[Leaf]) -> frozenset[str]:
    places = defaultdict(set)
    for leaf in found:
        places[leaf.stem].add(_read_folders(leaf.folders)[0])
    return frozenset(stem for stem, where in places.items() if len(where) > 1 and () not in where)


def _chosen(role: Role, word: str) -> Role:
    return replace(role, kind="mask", word="") if role.kind == "aside" and role.word.startswith(word.lower()) else role


def _matched_by_number(roles: list[Role]) -> tuple[list[Role], list[str]]:
    """Where no mask has the name of an image (img_7, mask_7) but their numbers agree one to one, the number is the key."""
    images, masks = ({role.key for role in roles if role.kind == kind} for kind in ("image", "mask"))
    if not masks or images & masks:
        return roles, []
    numbers = {key: "_".join(re.findall(r"\d+", key)) for key in images | masks}
    here, there = ({numbers[key] for key in keys} for keys in (images, masks))
    if len(here) != len(images) or len(there) != len(masks) or "" in here | there or not there <= here:
        return roles, []
    changed = [replace(role, key=numbers[role.key]) if role.key in numbers else role for role in roles]
    return changed, ["Images and masks have different names and were matched by the numbers in them; check a few."]


def _refuse_parts(roles: list[Role]) -> None:
    parts = [role.leaf.path.name for role in roles if role.kind == "image" and PARTS.search(role.leaf.stem)]
    whole = any(role.kind == "mask" for role in roles)
    if parts and whole:
        raise DataError(f"{some(parts, 3)} look like further masks of a case. If they are further raters, name each: --image GLOB "
                        "--mask GLOB --mask GLOB. If they are parts of one mask, name the label with a glob for all of them: "
                        "--image '*.png' --mask 'lesion=*_mask*.png'.")  # fmt: skip


def _assembled(roles: list[Role], notes: list[str]) -> Paired:
    keys = _distinct(roles)
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    masks: dict[str, dict[str, Path]] = defaultdict(dict)
    splits: dict[str, str] = {}
    for role, key in zip(roles, keys, strict=True):
        if role.kind == "aside":
            continue
        shelf = images if role.kind == "image" else masks
        word = role.word if role.kind == "image" else role.word or "reference"
        if word in shelf[key]:
            raise DataError(f"{shelf[key][word]} and {role.leaf.path} both look like the {role.kind} {word!r} of case {key!r}. "
                            "Say which is which with --image GLOB and --mask GLOB.")  # fmt: skip
        shelf[key][word] = role.leaf.path
        splits[key] = role.split
    parts = parted(images, masks)
    used = {path for one in parts.values() for path in files_of(one)}
    masks = {key: paths for key, paths in masks.items() if not used & set(paths.values())}
    notes = notes + _said_aside(roles) + _said_orphans(images, masks)
    cases = [make_case(key, images[key], {"reference": parts[key]} if key in parts else masks.get(key, {}), split=splits[key])
             for key in sorted(images, key=natural)]  # fmt: skip
    return Paired(cases, channel_order(cases), notes)


def make_case(key: str, images: dict[str, Path], masks: Mapping[str, Masked], *, split: str = "") -> Case:
    """A case that is its own patient; raters in natural order, an unnamed one first."""
    order = sorted(masks, key=lambda rater: (rater != "reference", natural(rater)))
    return Case(key, key, dict(sorted(images.items())), {rater: masks[rater] for rater in order}, split)


def _distinct(roles: list[Role]) -> list[str]:
    """Keys made distinct where train/ and test/ use the same names."""
    splits = defaultdict(set)
    for role in roles:
        splits[role.key].add(role.split)
    return [f"{role.split}_{role.key}" if len(splits[role.key]) > 1 and role.split else role.key for role in roles]


def _said_aside(roles: list[Role]) -> list[str]:
    words = Counter(role.word for role in roles if role.kind == "aside")
    return [f"{count} files named '{word}' were left aside." for word, count in sorted(words.items())]


def _said_orphans(images: dict[str, dict[str, Path]], masks: dict[str, dict[str, Path]]) -> list[str]:
    lonely = [key for key in masks if key not in images]
    return [f"{len(lonely)} masks have no image and were left out: {some(lonely)}."] if lonely else []


def channel_order(cases: list[Case]) -> tuple[str, ...]:
    """All channels of the cases, by name."""
    return tuple(sorted({channel for case in cases for channel in case.images}, key=str.lower))


def with_masks(paired: Paired) -> Paired:
    """Only the cases that have a mask; how many were left out is noted."""
    kept = [case for case in paired.cases if case.masks]
    lost = [case.name for case in paired.cases if not case.masks]
    note = [f"{len(lost)} images have no mask and were left out: {some(lost)}."] if lost and kept else []
    there = channel_order(kept)
    return Paired(kept, tuple(channel for channel in paired.channels if channel in there), paired.notes + note)
