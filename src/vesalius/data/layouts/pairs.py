"""Images and masks that belong together by name: paired folders, suffixes (a.png, a_mask.png), case folders, or globs given."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from vesalius.core.card import Card
from vesalius.core.errors import DataError, UsageError
from vesalius.data.case import Masked, Parts
from vesalius.data.dataset import Dataset
from vesalius.data.layouts import Layout
from vesalius.data.layouts._example import write_case
from vesalius.data.layouts._files import DEEPEST, Leaf, leaves, some, suffix_of
from vesalius.data.layouts._labels import UNDECLARED
from vesalius.data.layouts._pairing import MASK, Paired, channel_order, make_case, pair, with_masks
from vesalius.data.layouts._tables import joined

CARD = Card(entry="Pairs", title="paired files", summary="images/ and masks/, a.png and a_mask.png, case folders, --image and --mask globs")


class Pairs(Layout):
    """Names alone say what belongs together."""

    needs = ("images and masks named alike: images/a.png with masks/a.png, a.png with a_mask.png, a/flair.nii.gz with a/seg.nii.gz; "
             "or --image GLOB and --mask GLOB.")  # fmt: skip

    def recognises(self, root: Path) -> float:
        """0.5 where at least one image finds a mask by name."""
        if not root.is_dir():
            return 0.0
        try:
            return 0.5 if any(case.masks for case in pair(leaves(root)).cases) else 0.0
        except DataError:
            return 0.3  # names clash: reading says how

    def read(self, root: Path, *, image: Sequence[str] = (), mask: Sequence[str] = ()) -> Dataset:
        """`image`: one glob per channel, `NAME=GLOB` to name it; `mask`: one glob per rater, or `LABEL=GLOB` for each label that has files
        of its own. What `*` stands for is the case."""
        image, mask = ([image] if isinstance(image, str) else list(image)), ([mask] if isinstance(mask, str) else list(mask))
        if mask and not image:
            raise UsageError("--mask GLOB needs --image GLOB (one for each channel).")
        paired = by_globs(root, image, mask) if image else pair(leaves(root))
        paired = with_masks(paired)
        cases, notes = joined(paired.cases, root)
        return Dataset(root.name, root, "segment", tuple(cases), paired.channels, UNDECLARED, notes=(*paired.notes, *notes))

    def example(self, folder: Path) -> None:
        """Four pictures in images/ and masks/."""
        for k in range(4):
            write_case(folder / "images" / f"{k}.png", folder / "masks" / f"{k}.png", seed=k, value=255)


def by_globs(root: Path, image: list[str], mask: list[str]) -> Paired:
    """Cases whose name is what the wildcards stand for, the same in every glob. Without `mask`, files named like masks are."""
    found = leaves(root)
    masks = [_matching(found, root, glob.rpartition("=")[2]) for glob in mask]
    taken = {path for rater in masks for path in rater.values()}
    unmarked = [leaf for leaf in found if leaf.path not in taken]
    images = {_channel(glob): _matching(unmarked, root, glob.rpartition("=")[2]) for glob in image}
    if len(images) < len(image):
        raise UsageError(f"Two --image globs name one channel ({', '.join(map(_channel, image))}): write NAME=GLOB.")
    if not mask:
        others = [leaf.path.name for leaf in found if MASK.search(leaf.stem) or any(MASK.search(f) for f in leaf.folders)]
        raise UsageError(f"--image needs --mask GLOB; files that look like masks: {some(others) or 'none'}.")
    of_case: dict[str, dict[str, Path]] = defaultdict(dict)
    for channel, paths in images.items():
        for key, path in paths.items():
            of_case[key][channel] = path
    of_masks = _parts_of(mask, masks, cases=of_case) if any("=" in glob for glob in mask) else _raters_of(masks)
    cases = [make_case(key, of_case[key], of_masks.get(key, {})) for key in of_case]
    order = tuple(c for c in images if c in channel_order(cases))
    if not any(case.masks for case in cases):
        raise DataError(f"No case has both image and mask: images stand for {some(list(of_case), 3)}; masks for "
                        f"{some([k for p in masks for k in p], 3)}. The wildcards must stand for the same words in each glob.")  # fmt: skip
    return Paired(cases, order, [f"Channels by globs: {', '.join(order)}."])


def _raters_of(masks: list[dict[str, Path]]) -> dict[str, dict[str, Masked]]:
    """Case -> rater -> mask."""
    drawn: dict[str, dict[str, Masked]] = defaultdict(dict)
    for k, paths in enumerate(masks):
        for key, path in paths.items():
            drawn[key][f"rater {k + 1}" if len(masks) > 1 else "reference"] = path
    return drawn


def _parts_of(globs: list[str], masks: list[dict[str, Path]], *, cases: Iterable[str]) -> dict[str, dict[str, Masked]]:
    """Case -> the reference in parts, one for each label that a glob names. Files whose words go on after those of a case (a_1, a_2 of a)
    are that label together; a label of several globs is refused."""
    names = [glob.rpartition("=")[0].strip() for glob in globs]
    if not all(names) or len(set(names)) < len(names):
        raise UsageError(f"--mask names either every label once (LABEL=GLOB), or none (a glob for each rater); got {', '.join(globs)}.")
    files: dict[str, dict[str, tuple[Path, ...]]] = defaultdict(dict)
    longest = sorted(cases, key=len, reverse=True)
    for name, paths in zip(names, masks, strict=True):
        for key, path in paths.items():
            case = key if key in longest else next((c for c in longest if key.startswith(c) and not key[len(c)].isalnum()), key)
            files[case][name] = (*files[case].get(name, ()), path)
    return {key: {"reference": Parts(found)} for key, found in files.items()}


def _matching(found: list[Leaf], root: Path, glob: str) -> dict[str, Path]:
    """Case -> file for every file that `glob` matches; a bare name is looked for in any folder."""
    pattern = re.compile(_expression(glob))
    matched: dict[str, Path] = {}
    for leaf in found:
        match = pattern.fullmatch(leaf.path.relative_to(root).as_posix())
        if not match:
            continue
        key = _case_name(match)
        if key in matched:
            raise DataError(f"{glob!r} matches {matched[key]} and {leaf.path} as one case {key!r}. Make the glob narrower.")
        matched[key] = leaf.path
    if not matched:
        there = some([leaf.path.relative_to(root).as_posix() for leaf in found], 3)
        raise DataError(f"{glob!r} matches none of the {len(found)} images under {root} ({DEEPEST} folders deep): {there or 'none'}. "
                        "Mend it, and quote it against the shell.")  # fmt: skip
    return matched


def _expression(glob: str) -> str:
    """A glob as a regular expression with one group for each wildcard."""
    glob = glob.removeprefix("./")
    text = "" if "/" in glob else r"(?:(?P<folder>.*)/)?"
    for part in re.split(r"(\*\*/|\*|\?)", glob):
        text += {"**/": "(?:(.*)/)?", "*": "([^/]*)", "?": "([^/])"}.get(part) or re.escape(part)
    return text


def _case_name(match: re.Match[str]) -> str:
    """What the wildcards stand for; a folder counts only where it tells more than the file name."""
    words = [w for w in dict.fromkeys(match.groups()) if w]
    folder = match.groupdict().get("folder")
    stem = [w for w in words if w != folder]
    if not stem:
        return (folder or "case").replace("/", "_")
    if folder and not any(w.startswith(folder.rpartition("/")[2]) for w in stem) and folder.rpartition("/")[2].lower() not in _PLAIN:
        stem = [folder.rpartition("/")[2], *stem]
    return "_".join(w.replace("/", "_") for w in stem)


_PLAIN = ("images", "image", "imgs", "img", "masks", "mask", "labels", "label", "segmentations", "imagestr", "labelstr")


def _channel(glob: str) -> str:
    """The name of a channel: what was given before '=', or the letters of the file name's fixed part."""
    name, given, pattern = glob.rpartition("=")
    if given:
        return name.strip()
    last = pattern.rpartition("/")[2]
    bare = last[: -len(suffix_of(last))] if suffix_of(last) else last
    return re.sub(r"[*?]+", "", bare).strip(" _-.") or "image"
