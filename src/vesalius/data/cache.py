"""Prepared cases on disk, uncompressed and memory-mapped, under a key made of what they were made from and how."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError
from vesalius.core.files import remove_halves, write_beside
from vesalius.core.record import digest
from vesalius.core.settings import text_of
from vesalius.core.space import Array, Space
from vesalius.core.threads import answers
from vesalius.data.case import Case, files_of
from vesalius.data.labels import Labels
from vesalius.data.prepare import Preparation, prepare
from vesalius.data.read import read_mask, read_stored
from vesalius.data.whole import read_whole

DAYS = 30.0  # that a prepared case is kept without being used
DAY = 86_400  # seconds after which nobody writes a file any more
MAPS, SPARE = Path("/proc/sys/vm/max_map_count"), 2_000  # how many memory maps a process may have, and those of code and libraries
PLACES = 10_000  # voxels remembered per class, to find foreground without searching


@dataclass(frozen=True)
class Stored:
    """A prepared case, memory-mapped: `image` (C, *S) float16, `target` (K, *S) uint8, `places` (N, 1 + n) int32 rows of
    class and index. Where the case as a whole is labelled, `target` is (1,) or (K,) and `places` has no row."""

    name: str
    image: NDArray[np.float16]
    target: NDArray[np.uint8]
    places: NDArray[np.int32]


class Cache:
    """A folder of prepared cases. A changed source file, preparation or label scheme changes the key, so nothing stale
    is ever read; a killed process leaves whole files only. Whole cases on a grid of `size` lie together in one file, since
    there may be thousands of small ones."""

    def __init__(self, folder: Path, how: Preparation, labels: Labels, *, size: tuple[int, ...] = ()) -> None:
        self.folder, self.how, self.labels, self.size = folder, how, labels, size
        self._scheme = digest(text_of(how), text_of(labels), "1")

    def key(self, case: Case) -> str:
        """Content key: scheme, paths, sizes and times of the source files."""
        parts = [self._scheme, case.name]
        for path in (*case.images.values(), *files_of(case.mask)):
            parts.append(str(path))
            for file in _files(Path(str(path).partition("#")[0])):
                stat = file.stat()
                parts.append(f"{file.name}|{stat.st_size}|{stat.st_mtime_ns}")
        return digest(*parts)

    def store(self, cases: Sequence[Case], *, progress: Callable[[int, int], None] | None = None) -> list[Stored]:
        """Prepare what is not there yet, by threads, and map everything."""
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_halves(self.folder, seconds=DAY)
        forget(self.folder, days=DAYS)
        if self.how.fit != "grid":
            return self._whole(cases, progress)
        _room_for(len(cases))
        stored = []
        for item in answers(self._one, cases, threads=os.cpu_count() or 1):
            stored.append(item)
            if progress:
                progress(len(stored), len(cases))
        return stored

    def _whole(self, cases: Sequence[Case], progress: Callable[[int, int], None] | None) -> list[Stored]:
        """All `cases` on the fixed grid, from one file."""
        file = self.folder / f"{self._key_of(cases)}.whole.npy"
        if not file.exists():
            write_beside(file, lambda beside: self._pack(beside, cases, progress))
        os.utime(file)
        images = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
        nowhere = np.zeros((0, 1 + len(self.size)), np.int32)
        return [Stored(case.name, image, self.labels.coded(case.classes or {}), nowhere) for case, image in zip(cases, images, strict=True)]

    def _key_of(self, cases: Sequence[Case]) -> str:
        """Content key of cases together; a file that holds many of them is looked at once."""
        sources = {path: str(path).partition("#")[0] for case in cases for path in case.images.values()}
        stats = {place: [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in _files(Path(place))] for place in set(sources.values())}
        parts = [f"{case.name}|{channel}|{path}|{stats[sources[path]]}" for case in cases for channel, path in case.images.items()]
        return digest(text_of(self.how), str(self.size), "1", *parts)

    def _pack(self, beside: Path, cases: Sequence[Case], progress: Callable[[int, int], None] | None) -> None:
        shape = (len(cases), self.how.in_channels, *self.size)
        with open(beside, "wb") as file:  # open_memmap would add a suffix
            np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
            prepared = answers(lambda case: read_whole(case, self.how, self.size), cases, threads=os.cpu_count() or 1)
            for done, image in enumerate(prepared, 1):
                file.write(image.astype("<f2").tobytes())
                if progress:
                    progress(done, len(cases))

    def _one(self, case: Case) -> Stored:
        stem = self.folder / self.key(case)
        files = {part: stem.with_suffix(f".{part}.npy") for part in ("image", "target", "places")}
        if not all(file.exists() for file in files.values()):
            self._write(case, files)
        for file in files.values():
            os.utime(file)  # used today
        image, target, places = (mapped(files[part]) for part in ("image", "target", "places"))
        return Stored(case.name, image, target, places)

    def _write(self, case: Case, files: dict[str, Path]) -> None:
        prepared = prepare(read_stored(case, self.how.channels), self.how)  # nobody else holds the scan, whose memory is needed
        target = prepared.target(self._coded(case, prepared.full))
        seed = np.random.default_rng(int(self.key(case), 16))
        save_array(files["image"], prepared.image.astype(np.float16))
        save_array(files["target"], target)
        masks = (self.labels.mask(target, k) for k in range(len(self.labels.names)))
        save_array(files["places"], foreground_places(masks, seed))

    def _coded(self, case: Case, space: Space) -> NDArray[np.uint8]:
        return read_mask(case.mask, self.labels, space) if case.mask else np.zeros((1, *space.shape), np.uint8)


def _room_for(cases: int) -> None:
    """Raise a DataError where Linux would refuse so many memory maps (three a case), after hours of preparing."""
    limit = MAPS.read_text() if MAPS.exists() else ""
    needed = 3 * cases + SPARE
    if limit and needed > int(limit):
        raise DataError(f"{cases} prepared cases take {needed} memory maps, and this system lets a process have {limit.strip()}. Ask for "
                        f"more (sysctl -w vm.max_map_count={2 * needed}), or learn from a sample of the cases.")  # fmt: skip


def forget(folder: Path, *, days: float) -> None:
    """Remove what no run has used for `days`, so that the cache does not grow for ever."""
    oldest = time.time() - 86400 * days
    for file in folder.glob("*.npy"):
        try:
            if file.stat().st_mtime < oldest:
                file.unlink()
        except FileNotFoundError:  # another process was quicker
            continue


def _files(path: Path) -> list[Path]:
    """The file itself, or every file of a series; a folder's own time does not tell of a change inside its files."""
    return [path] if not path.is_dir() else sorted(file for file in path.rglob("*") if file.is_file())


def save_array(path: Path, array: Array) -> None:
    """`array` in the .npy file at `path`, written beside and then renamed."""
    def write(beside: Path) -> None:
        with open(beside, "wb") as file:
            np.save(file, array, allow_pickle=False)

    write_beside(path, write)


def mapped(path: Path) -> Array:
    """The array in a .npy file, read-only, as a memory map that keeps no file open: numpy's keep one each, and a process may
    often have no more than 1,024, which is 340 cases."""
    import torch

    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, kind = read(file)
        start = file.tell()
    whole = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8).numpy()
    array: Array = whole[start:].view(kind).reshape(shape, order="F" if fortran else "C")
    array.flags.writeable = False
    return array


def foreground_places(masks: Iterable[NDArray[np.bool_]], chooser: np.random.Generator) -> NDArray[np.int32]:
    """Up to 10,000 voxels of each of K masks (*S) as rows of class and index."""
    rows = []
    for k, mask in enumerate(masks):
        count = int(np.count_nonzero(mask))
        found = some_of(mask, chooser.choice(count, PLACES, replace=False)) if count > PLACES else np.argwhere(mask)
        rows.append(np.column_stack([np.full(len(found), k), found]))
    return np.concatenate(rows).astype(np.int32)


def some_of(mask: NDArray[np.bool_], ranks: NDArray[np.int64]) -> NDArray[np.intp]:
    """The rows of `np.argwhere(mask)` at `ranks`, plane by plane: all of them would take up to 24 bytes a voxel."""
    ends = np.cumsum([np.count_nonzero(plane) for plane in mask])
    planes = np.searchsorted(ends, ranks, side="right")
    found = np.empty((len(ranks), mask.ndim), np.intp)
    found[:, 0] = planes
    for number in np.unique(planes):
        plane, here = mask[number], planes == number
        flat = np.flatnonzero(plane)[ranks[here] - (ends[number] - np.count_nonzero(plane))]
        found[here, 1:] = np.column_stack(np.unravel_index(flat, plane.shape))
    return found
