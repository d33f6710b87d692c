"""An exported model: a folder that answers scans without torch and without the run that it comes from.

    model.json            what it learned to say, how scans are prepared, tiles, rules for outlines, the steps of every network
    weights.safetensors   of all networks, float32; those of network k are called "k.<name>"
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError, UsageError, VesaliusError
from vesalius.core.files import read_json, write_beside, write_json
from vesalius.core.kernels.filtering import Number
from vesalius.core.record import digest
from vesalius.core.space import Array
from vesalius.core.values import Values
from vesalius.data.labels import Labels
from vesalius.data.prepare import Preparation
from vesalius.data.primed import with_odds
from vesalius.data.voxel_odds import VoxelOdds
from vesalius.engine.tiles import Tiling, constant
from vesalius.export.correcting import Asked, correcting
from vesalius.export.network import Network, able
from vesalius.export.steps import Steps

FILE, WEIGHTS = "model.json", "weights.safetensors"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Tiles(Values):
    """How a scan is cut for the networks; `mirror` are the combinations of axes that may be mirrored (of a tile, from 0) where that is
    wished for, which takes as many times as long."""

    patch: tuple[int, ...]
    overlap: float
    batch: int
    skip_air: bool
    mirror: tuple[tuple[int, ...], ...] = ()

    def tiling(self, *, mirrored: bool = False) -> Tiling:
        """For a volume."""
        return Tiling(patch=self.patch, overlap=self.overlap, batch=self.batch, mirror=self.mirror if mirrored else (),
                      skip=constant if self.skip_air else None)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Model(Values):
    """What model.json holds. `print`: of the weights, which tells whether both files belong together. `number`: in which kind of numbers
    the run computed; a processor that cannot multiply bf16 takes float32. `priors`: for each network the baseline that it corrects
    (data/voxel_odds.py), or none; empty where none corrects one. `single`: labels of which only the largest outline is kept;
    `levels`: how certain an outline of a label must be, in codes of log odds.
    `record`: by what it was made, and of what; `compared`: how far its answers were from those of the run."""

    version: int = VERSION
    print: str
    labels: Labels
    preparation: Preparation
    tiles: Tiles
    number: Literal["bf16", "fp32"]
    networks: tuple[Steps, ...]
    priors: tuple[dict[str, Any] | None, ...] = ()
    single: tuple[str, ...] = ()
    levels: dict[str, int] = field(default_factory=dict)
    compared: dict[str, float] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def ndim(self) -> int:
        """Axes of the scans."""
        return self.networks[0].ndim

    @cached_property
    def baselines(self) -> list[VoxelOdds | None]:
        """What each network corrects."""
        return [None if prior is None else VoxelOdds.from_json(prior) for prior in self.priors or (None,) * len(self.networks)]

    @property
    def odds(self) -> list[int]:
        """How many log odds each network is shown behind the channels of a scan."""
        return [one.classes if one else 0 for one in self.baselines]

    def shown(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """`image` (C, *S) with the log odds of what is corrected behind its channels."""
        return with_odds(image, [one for one in self.baselines if one])

    def save(self, folder: Path, weights: Mapping[str, Array]) -> None:
        """Both files, the weights first: a folder with model.json is whole."""
        from safetensors import SafetensorError
        from safetensors.numpy import save_file

        def write(beside: Path) -> None:
            try:
                save_file(dict(weights), beside, metadata={"print": self.print})
            except SafetensorError as problem:  # its own error even where the disk is full
                raise OSError(str(problem)) from problem

        write_beside(folder / WEIGHTS, write)
        write_json(folder / FILE, {"version": self.version, **self.dumped(short=True)})

    @classmethod
    def load(cls, folder: Path) -> "Model":
        """What `save` has written into `folder`."""
        if not (folder / FILE).is_file():
            raise VesaliusError(f"{folder} is not an exported model: it has no {FILE}. " + _instead(folder))
        tree = read_json(folder / FILE)
        version = tree.get("version") if isinstance(tree, dict) else None
        if type(version) is not int or version < 1:
            raise VesaliusError(f"{folder / FILE} is no model that vesalius has written: it says version {version!r}. "
                                f"Export it again: vesalius export RUN -o {folder}")  # fmt: skip
        if version > VERSION:
            raise VesaliusError(f"{folder / FILE} is of version {version}; this vesalius knows up to {VERSION}. Install a later one.")
        try:
            made = cls.checked_tree(tree, folder)
        except (UsageError, DataError) as problem:
            raise VesaliusError(f"{problem} Export the model again: vesalius export RUN -o {folder}") from None
        return made

    @classmethod
    def checked_tree(cls, tree: dict[str, Any], folder: Path) -> "Model":
        """`tree` as a model in which all parts suit each other."""
        made = cls.checked(tree, where=str(folder / FILE))
        made.check_priors(folder)
        ends = {(one.ndim, one.channels - odds) for one, odds in zip(made.networks, made.odds, strict=True)}
        if ends != {(len(made.tiles.patch), made.preparation.in_channels)} or made.labels.grain != "voxel":
            raise UsageError(f"In {folder / FILE}: networks, tiles and channels do not suit each other.")
        if any(side % by for one in made.networks for side, by in zip(made.tiles.patch, one.pooling, strict=True)):
            raise UsageError(f"In {folder / FILE}: the sides of the patch {made.tiles.patch} are no multiples of what networks pool by.")
        made.tiles.tiling(mirrored=True)  # which looks at its numbers
        if wrong := _wrong(made):
            raise UsageError(f"In {folder / FILE}: {wrong}.")
        return made

    def check_priors(self, folder: Path) -> None:
        """Refuse baselines that do not belong to the networks, the channels and the labels."""
        if self.priors and len(self.priors) != len(self.networks):
            raise UsageError(f"In {folder / FILE}: {len(self.priors)} baselines for {len(self.networks)} networks.")
        for k, one in enumerate(self.baselines):
            alike = one is None or (one.classes, one.exclusive) == (len(self.labels.names), self.labels.exclusive)
            if one and not (alike and one.suits(channels=self.preparation.in_channels, ndim=self.ndim)):
                raise UsageError(f"In {folder / FILE}: the baseline that network {k} corrects is not of {self.preparation.in_channels} "
                                 f"channels, {self.ndim} axes and {len(self.labels.names)} labels in finite numbers.")  # fmt: skip

    def loaded(self, folder: Path, *, threads: int) -> list[Asked]:
        """The networks, with their weights from `folder`, for tiles of a scan with the log odds of `baselines` behind its channels."""
        weights, of = read_weights(folder / WEIGHTS)
        if of != self.print:
            raise VesaliusError(f"{folder / WEIGHTS} is of another export than {FILE} beside it. Export again: vesalius export RUN "
                                f"-o {folder} --overwrite")  # fmt: skip
        if print_of(weights) != of:
            raise VesaliusError(f"{folder / WEIGHTS} is damaged: its numbers are not those that were written. Copy it again.")
        return self.fitted(weights, folder, threads=threads)

    def fitted(self, weights: Mapping[str, Array], folder: Path, *, threads: int) -> list[Asked]:
        """The networks with `weights`, which `folder` holds; refused where one does not suit the other."""
        made = self.built(weights, number=able(self.number), threads=threads)
        if len(weights) > sum(len(network.weights) for network in made):
            raise VesaliusError(f"{folder / WEIGHTS} holds weights that no network of {FILE} takes. Export it again: vesalius export RUN")
        for network in made:
            network.suits(self.tiles.patch)
            if network.classes != self.labels.out_channels:
                raise VesaliusError(f"{folder}: a network answers with {network.classes} classes; the labels {self.labels.describe()} "
                                    f"need {self.labels.out_channels}. Export it again: vesalius export RUN -o {folder}")  # fmt: skip
        return correcting(made, self.preparation.in_channels, self.odds)

    def ready(self, weights: Mapping[str, Array], *, number: Number, threads: int) -> list[Asked]:
        """The networks with `weights`, which compute in one `number` or another, for tiles as above."""
        return correcting(self.built(weights, number=number, threads=threads), self.preparation.in_channels, self.odds)

    def built(self, weights: Mapping[str, Array], *, number: Number, threads: int) -> list[Network]:
        """The networks alone."""
        return [Network(steps, {name[len(f"{k}.") :]: one for name, one in weights.items() if name.startswith(f"{k}.")},
                        number=number, threads=threads) for k, steps in enumerate(self.networks)]  # fmt: skip


def _wrong(model: Model) -> str:
    """What of its labels and its preparation does not suit the rest; nothing where all does."""
    labels, how, known = model.labels, model.preparation, {*model.labels.names}
    if not labels.names or len(labels.values) != len(labels.names) or not all(labels.values):
        return "every label has a name and values"
    if not known >= {*model.single, *model.levels}:
        return f"rules for outlines are for other labels than {', '.join(labels.names)}"
    if min(how.channels.values()) < 1 or len(how.normalise) != how.in_channels:
        return f"{len(how.normalise)} rules for {how.in_channels} channels"
    if any(len({*axes}) < len(axes) for axes in model.tiles.mirror):
        return f"tiles are mirrored twice along one axis: {model.tiles.mirror}"
    if how.fit != "grid" or how.order not in (0, 1, 3) or len(how.spacing) not in (0, model.ndim):
        return "scans cannot be prepared so"
    return "" if all(0 < one < float("inf") for one in how.spacing) else f"the spacing is {how.spacing}"


def _instead(folder: Path) -> str:
    """What to do with a folder that is no exported model."""
    if (folder / "plan.json").is_file():
        return f"It is a run: export it first (vesalius export {folder} -o MODEL), or answer with vesalius predict."
    return "Make one: vesalius export RUN -o MODEL"


def print_of(weights: Mapping[str, Array]) -> str:
    """What tells these weights from others, and from what a damaged file has left of them."""
    isal: Any = import_module("isal.isal_zlib")  # four times as fast as the checksum of Python
    return digest(*(f"{name} {weights[name].shape} {isal.crc32(weights[name])}" for name in sorted(weights)))


def read_weights(path: Path) -> tuple[dict[str, Array], str]:
    """Every array of a safetensors file by its name, float32, and their print."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            of = (file.metadata() or {}).get("print", "")
            found = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise VesaliusError(f"{path} does not exist. Copy the whole folder of the model, or export it again: vesalius export RUN") from None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as problem:  # the last two of numbers not in numpy
        raise VesaliusError(f"{path} is not a whole safetensors file ({problem}). Copy it again, or export the model again.") from None
    wrong = next((name for name, one in found.items() if one.dtype != np.float32 or not np.isfinite(one).all()), None)
    if wrong is not None:
        raise VesaliusError(f"{path}: the weights {wrong} are not finite numbers of 32 bits. Export the model again: vesalius export RUN")
    return found, of
