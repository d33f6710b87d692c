"""Medical Segmentation Decathlon: dataset.json with a "training" list of {"image", "label"}; several channels lie in one 4D file.

Simpson et al. 2019, "A large annotated medical image dataset for the development and evaluation of segmentation algorithms".
"""

from pathlib import Path
from typing import Any

from vesalius.core.card import Card
from vesalius.core.errors import DataError
from vesalius.core.files import read_json, write_json
from vesalius.data.case import Case
from vesalius.data.dataset import Dataset
from vesalius.data.layouts import Layout
from vesalius.data.layouts._example import write_case
from vesalius.data.layouts._files import some, stem_of
from vesalius.data.layouts._labels import declared
from vesalius.data.layouts._pairing import make_case

CARD = Card(entry="MSD", title="Medical Segmentation Decathlon", summary="dataset.json with a training list, imagesTr, labelsTr",
            paper="Simpson et al. 2019, arXiv:1902.09063")  # fmt: skip


class MSD(Layout):
    """A dataset.json lists pairs of files."""

    needs = 'a dataset.json whose "training" lists {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}.'

    def recognises(self, root: Path) -> float:
        """1 where the first listed image is there under its listed name."""
        listed = _listed(root)
        return float(bool(listed) and (root / str(listed[0]["image"])).exists())

    def read(self, root: Path) -> Dataset:
        """Cases of the training list; test images have no masks there and are left out."""
        words, listed = read_json(root / "dataset.json"), _listed(root)
        lost = [str(e[k]) for e in listed for k in ("image", "label") if not (root / str(e[k])).exists()]
        if lost:
            raise DataError(f"{root / 'dataset.json'} lists {len(lost)} files that are not there: {some(lost)}. Restore them or the list.")
        cases = tuple(_case(root, entry) for entry in listed)
        modality = _modality(words)
        notes = [f"{len(words['test'])} test images have no masks and were left out."] if words.get("test") else []
        if len(modality) > 1:
            notes.append(f"Each image file holds {len(modality)} channels: {', '.join(modality)}.")
        about: dict[str, Any] = {"components": modality, **{k: words[k] for k in ("reference", "licence", "description") if k in words}}
        labels = declared(words["labels"], root / "dataset.json")
        return Dataset(str(words.get("name", root.name)), root, "segment", cases, ("image",), labels, modality=" + ".join(modality),
                       notes=tuple(notes), metadata=about)  # fmt: skip

    def example(self, folder: Path) -> None:
        """Four volumes."""
        names = [f"part_{k:03}.nii.gz" for k in range(4)]
        for k, name in enumerate(names):
            write_case(folder / "imagesTr" / name, folder / "labelsTr" / name, seed=k)
        write_json(folder / "dataset.json", {
            "name": "Part", "modality": {"0": "MRI"}, "labels": {"0": "background", "1": "part"}, "numTraining": 4, "test": [],
            "training": [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names],
        })  # fmt: skip


def _listed(root: Path) -> list[dict[str, Any]]:
    path = root / "dataset.json"
    words = read_json(path) if path.is_file() else {}
    listed = words.get("training") if isinstance(words, dict) else None
    good = isinstance(listed, list) and all(isinstance(e, dict) and {"image", "label"} <= set(e) for e in listed)
    return listed if good and isinstance(listed, list) else []


def _case(root: Path, entry: dict[str, Any]) -> Case:
    image = root / str(entry["image"])
    return make_case(stem_of(image.name), {"image": image}, {"reference": root / str(entry["label"])})


def _modality(words: dict[str, Any]) -> list[str]:
    table = words.get("modality", {})
    return [str(table[k]) for k in sorted(table, key=int)] if isinstance(table, dict) else [str(table)]
