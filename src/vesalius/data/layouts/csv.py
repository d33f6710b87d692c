"""A manifest: a table with one row per case, columns case, patient, image or image_<channel>, mask, mask_<rater> or
label_<name>, split, and more."""

from dataclasses import replace
from pathlib import Path

from vesalius.core.card import Card
from vesalius.core.errors import DataError
from vesalius.data.case import Case, Masked, Parts, files_of
from vesalius.data.dataset import Dataset
from vesalius.data.layouts import Layout
from vesalius.data.layouts._example import write_case
from vesalius.data.layouts._files import cell_path, number_or_word, read_table, some, stem_of, suffix_of
from vesalius.data.layouts._labels import UNDECLARED
from vesalius.data.layouts._pairing import channel_order, make_case

CARD = Card(entry="Manifest", title="CSV manifest", summary="One row per case: case, patient, image or image_<channel>, mask, split, more")
SPLITS = ("", "train", "val", "test")
KNOWN = ("case", "patient", "split")


class Manifest(Layout):
    """A table names the files."""

    needs = ("a CSV file (or a folder with one) with the columns image (or image_<channel>) and mask (or label_<name>), best also case, "
             "patient, split.")  # fmt: skip

    def recognises(self, root: Path) -> float:
        """0.95 for a CSV file with image and mask columns, 0.8 for a folder with exactly one such."""
        found = tables(root)
        return 0.0 if len(found) != 1 else 0.95 if root.is_file() else 0.8

    def read(self, root: Path) -> Dataset:
        """Paths are relative to the table; an empty cell is a missing channel or rater; further columns are metadata."""
        found = tables(root)
        if len(found) != 1:
            raise DataError(f"{root}: expected one CSV with columns image and mask (or label_<name>), found {len(found)}. "
                            "Give the path of the CSV itself.")  # fmt: skip
        path = found[0]
        rows = read_table(path)
        cases = [_case(row, path, k + 2) for k, row in enumerate(rows)]
        names = [case.name for case in cases]
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise DataError(f"{path}: {len(twice)} case names stand in several rows: {some(twice)}. One row per case; further raters go "
                            "to columns mask_<rater>.")  # fmt: skip
        notes = [] if "patient" in rows[0] else ["The table has no column 'patient': every case counts as its own patient."]
        return Dataset(path.stem, path.parent, "segment", tuple(cases), channel_order(cases), UNDECLARED, notes=tuple(notes))

    def example(self, folder: Path) -> None:
        """Two patients with two cases each."""
        lines = ["case,patient,image_ct,mask,split,sex"]
        for k in range(4):
            write_case(folder / "files" / f"{k}.nii.gz", folder / "files" / f"{k}_s.nii.gz", seed=k)
            lines.append(f"c{k},p{k // 2},files/{k}.nii.gz,files/{k}_s.nii.gz,{'train' if k < 2 else 'test'},{'FM'[k // 2]}")
        (folder / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tables(root: Path) -> list[Path]:
    """CSV files at `root` that have both an image and a mask (or label_<name>) column."""
    files = [root] if root.is_file() and root.suffix.lower() in (".csv", ".tsv") else sorted(root.glob("*.csv")) if root.is_dir() else []
    return [path for path in files if _is_manifest(path)]


def _is_manifest(path: Path) -> bool:
    rows = read_table(path)
    columns = list(rows[0]) if rows else []
    return bool(_words(columns, "image")) and bool(_words(columns, "mask") or any(_labelled(row) for row in rows))


def _there(path: Path) -> bool:
    """Whether there is a file or folder, of which `#` may choose a part (study#RTSTRUCT)."""
    return path.exists() or ("#" in str(path) and Path(str(path).rpartition("#")[0]).exists())


def _words(columns: list[str], what: str) -> dict[str, str]:
    """Column -> channel or rater for the columns `what` and `what_<word>`."""
    plain = {"image": "image", "mask": "reference"}[what]
    return {c: c.partition("_")[2] or plain for c in columns if c == what or c.startswith(what + "_")}


def _labelled(row: dict[str, str]) -> dict[str, str]:
    """Column -> label for the columns `label_<name>` that name an image file."""
    return {c: c.partition("_")[2] for c in row if c.startswith("label_") and suffix_of(row[c])}


def _case(row: dict[str, str], table: Path, line: int) -> Case:
    images = {word: cell_path(table.parent, row[c]) for c, word in _words(list(row), "image").items() if row[c]}
    masks: dict[str, Masked] = {w: cell_path(table.parent, row[c]) for c, w in _words(list(row), "mask").items() if row[c]}
    parts: dict[str, tuple[Path, ...]] = {word: (cell_path(table.parent, row[c]),) for c, word in _labelled(row).items()}
    if parts and masks:
        raise DataError(f"{table}, line {line}: give a mask, or a file for each label (label_<name>), not both.")
    masks = {"reference": Parts(parts)} if parts else masks
    lost = [str(path) for path in (*images.values(), *(p for m in masks.values() for p in files_of(m))) if not _there(path)]
    if lost or not images:
        what = "no image is given" if not images else f"there is no {some(lost)}"
        raise DataError(f"{table}, line {line}: {what}. Paths are relative to the table.")
    split = row.get("split", "").lower()
    if split not in SPLITS:
        raise DataError(f"{table}, line {line}: the split {row['split']!r} is none of train, val, test.")
    name = row.get("case") or stem_of(next(iter(images.values())).name)
    used = {*KNOWN, *_words(list(row), "image"), *_words(list(row), "mask"), *_labelled(row)}
    more = {k: number_or_word(v) for k, v in row.items() if k and k not in used and v != ""}
    return replace(make_case(name, images, masks, split=split), patient=row.get("patient") or name, metadata=more)
