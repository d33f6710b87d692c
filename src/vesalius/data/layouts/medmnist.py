"""MedMNIST: one .npz with train_images, train_labels, val_images ... (Yang et al. 2023, MedMNIST v2, Scientific Data 10:41)."""

from pathlib import Path

import numpy as np

from vesalius.core.card import Card
from vesalius.core.errors import DataError
from vesalius.data.dataset import Dataset
from vesalius.data.layouts import Layout
from vesalius.data.layouts._classes import named
from vesalius.data.layouts._stacks import answers, cases, plain_names, stacks

CARD = Card(entry="MedMnist", title="MedMNIST", summary="One .npz with train_images, train_labels, and so for val and test",
            paper="Yang et al. 2023, Scientific Data 10:41", tasks=("classify",))  # fmt: skip
NOBODY = "No patients are known: every image counts as its own patient (two of one patient could be parted)."


class MedMnist(Layout):
    """Stacks of images and labels."""

    needs = "one .npz (or a folder with one) that holds train_images and train_labels, best also val_ and test_."

    def recognises(self, root: Path) -> float:
        """0.9 for exactly one such file."""
        return 0.9 if len(stacks(root)) == 1 else 0.0

    def read(self, root: Path) -> Dataset:
        """Several columns of labels are findings; class names are numbers until they are named (--label pneumonia=1)."""
        found = stacks(root)
        if len(found) != 1:
            raise DataError(f"{root}: expected one .npz with train_images and train_labels, found {len(found)}. Give its path.")
        path = found[0]
        rows = answers(path)
        kind = "findings" if next(iter(rows.values())).shape[1] > 1 else "classes"
        labels = named(plain_names(rows), path, kind=kind)
        return Dataset(path.stem, path.parent, "classify", tuple(cases(path, labels, rows)), ("image",), labels, notes=(NOBODY,))

    def example(self, folder: Path) -> None:
        """Six, three and three pictures of two classes."""
        draw = np.random.default_rng(0)
        parts = {}
        for part, count in (("train", 6), ("val", 3), ("test", 3)):
            parts[f"{part}_images"] = draw.integers(0, 255, (count, 12, 12), np.uint8)
            parts[f"{part}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
        np.savez(folder / "example.npz", allow_pickle=False, **parts)
