"""Images alone: a folder of pictures, volumes or DICOM series, or an .npz with stacks of images. Read so only where no answer is needed."""

import zipfile
from pathlib import Path

from vesalius.core.card import Card
from vesalius.core.errors import DataError
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.labels import Labels
from vesalius.data.layouts import Layout
from vesalius.data.layouts._example import write_case
from vesalius.data.layouts._files import leaves
from vesalius.data.layouts._pairing import channel_order, pair
from vesalius.data.layouts._stacks import PARTS, lengths

CARD = Card(entry="Images", title="images alone", summary="Images without masks or classes: a folder, a DICOM folder, an .npz with stacks",
            tasks=("pretrain",))  # fmt: skip
NOTHING = Labels(names=(), values=())
ALONE = "No masks and no classes: the images alone are learned from."


class Images(Layout):
    """What is left when nothing says what the images show."""

    needs = "images of any kind, in folders as you like (train/, val/ and test/ are kept apart), or an .npz with images (N, rows, columns)."
    answers = False

    def recognises(self, root: Path) -> float:
        """0.1, below every layout with answers, where there is any image."""
        return 0.1 if stacked(root) or (root.is_dir() and leaves(root)) else 0.0

    def read(self, root: Path) -> Dataset:
        """Files of one name with the words of a sequence (a_t1, a_flair) are channels of one case."""
        channels: tuple[str, ...] = ("image",)
        if found := stacked(root):
            cases, where = _from_stacks(found[0]), found[0].parent
        else:
            paired = pair(leaves(root)) if root.is_dir() else None
            cases = [] if paired is None else [case for case in paired.cases if case.images]
            channels, where = channel_order(cases), root
        if not cases:
            raise DataError(f"{root} holds no image that vesalius can read. {self.needs}")
        return Dataset(root.stem, where, "pretrain", tuple(cases), channels, NOTHING, notes=(ALONE,), alone=True)

    def example(self, folder: Path) -> None:
        """Four pictures."""
        for k in range(4):
            write_case(folder / f"{k}.png", None, seed=k)


def stacked(root: Path) -> list[Path]:
    """The .npz at `root`, or the only one in the folder, if it holds stacks of images."""
    files = [root] if root.is_file() and root.suffix == ".npz" else sorted(root.glob("*.npz")) if root.is_dir() else []
    return files if len(files) == 1 and zipfile.is_zipfile(files[0]) and _stacks_in(files[0]) else []


def _stacks_in(path: Path) -> dict[str, int]:
    """Images per stack: arrays called images, train_images and so on."""
    return {key: shape[0] for key, shape in lengths(path).items() if key.lower().endswith("images") and len(shape) > 2}


def _from_stacks(path: Path) -> list[Case]:
    made = []
    for key, number in _stacks_in(path).items():
        split = next((part for part in PARTS if key.lower().startswith(part)), "")
        digits = len(str(number))
        names = [f"{key.lower().removesuffix('_images')}_{k:0{digits}}" for k in range(number)]
        made += [Case(name, name, {"image": Path(f"{path}#{key}[{k}]")}, split=split) for k, name in enumerate(names)]
    return made
