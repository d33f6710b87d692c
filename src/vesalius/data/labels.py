"""What the values of a mask mean, and masks as the classes that a network learns; or the classes of whole cases."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vesalius.core.errors import DataError
from vesalius.core.order import TILE, fill, slabs
from vesalius.core.space import Array
from vesalius.core.values import Values

IGNORE = 255
SLAB = 1 << 18  # voxels encoded at a time, which takes 30 bytes of each
LOOKED_UP = 1 << 16  # values that a mask may go over to be encoded by a table
WHOLE = ("classes", "findings", "grades")  # kinds whose target is that of the whole case


@dataclass(frozen=True, kw_only=True)
class Labels(Values):
    """`names` are the foreground classes in order; `values[k]` the raw mask values that make class k.

    Of whole cases `names` are all classes (there is no background) and `values[k]` the number that stood for class k, if one did.

    `kind`    "exclusive": one class per voxel (softmax; background is index 0, class k is index k + 1)
              "regions":   unions of raw values that may nest or overlap (sigmoid), for instance whole tumour
              "bits":      the mask is a bit mask; `values[k]` holds one power of two (sigmoid)
              "classes":   each case is one of `names` (softmax)
              "grades":    each case is one of `names`, which are in order (softmax)
              "findings":  each case has any number of `names` (sigmoid); one that nobody looked for is unknown
    `ignore`  raw value that is neither learned nor scored
    `colours` for colour-coded masks: the RGB of raw value v is `colours[v]`
    `background` raw values that are no class (more than 0 where a lossy format smears them)
    """

    names: tuple[str, ...]
    values: tuple[tuple[int, ...], ...]
    kind: Literal["exclusive", "regions", "bits", "classes", "findings", "grades"] = "exclusive"
    ignore: int | None = None
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    background: tuple[int, ...] = (0,)

    @property
    def exclusive(self) -> bool:
        return self.kind == "exclusive"

    @property
    def grain(self) -> Literal["voxel", "case"]:
        """What is labelled: every voxel, or the case as a whole."""
        return "case" if self.kind in WHOLE else "voxel"

    @property
    def one_of(self) -> bool:
        """Whether a case is exactly one of `names`."""
        return self.kind in ("classes", "grades")

    @property
    def out_channels(self) -> int:
        """Logits that a network must give: background counts where classes exclude each other."""
        return len(self.names) + self.exclusive

    def coded(self, classes: Mapping[str, int]) -> NDArray[np.uint8]:
        """What is known of a whole case: (1,) the index of its class, or (K,) of 0 / 1, 255 where a finding is unknown."""
        if not self.one_of:
            return np.array([classes.get(name, IGNORE) for name in self.names], np.uint8)
        there = [k for k, name in enumerate(self.names) if classes.get(name) == 1]
        if len(there) != 1:
            raise DataError(
                f"Expected one class of {', '.join(self.names)}; got {', '.join(n for n, v in classes.items() if v) or 'none'}."
            )
        return np.array(there, np.uint8)

    def encode(self, raw: Array) -> NDArray[np.uint8]:
        """`raw` (1 to 4, *S) as (1, *S) class indices (exclusive) or (K, *S) of 0 / 1 (regions, bits); 255 is ignored.

        Raises DataError for a value that has no meaning here: a mask is never guessed.
        """
        coded = np.empty((len(self.values) if self.kind in ("bits", "regions") else 1, *raw.shape[1:]), np.uint8)
        unknown: set[int] = set()
        for part in slabs(raw, SLAB, least=TILE):
            own = np.empty_like(raw, np.uint8, shape=coded[part].shape)  # in the order of memory in which the mask came
            for at in slabs(own, SLAB):
                unknown.update(self._put(raw[part][at], own[at]))
            fill(coded[part], own)
        if unknown:
            raise DataError(f"The mask holds values without a meaning: {sorted(unknown)[:10]}. Known: {self.describe()}. "
                            "Name them in dataset.json, or pass --label NAME=VALUE.")  # fmt: skip
        return coded

    def _put(self, raw: Array, coded: NDArray[np.uint8]) -> list[int]:
        """Encode a part of a mask into `coded`, and give its values without a meaning: a small range of values is encoded once each and
        looked up."""
        value = raw[0] if raw.shape[0] < 3 and raw.dtype.kind in "iu" else self.raw_values(raw)
        low, high = (int(value.min()), int(value.max())) if value.size else (0, 0)
        if high - low >= min(LOOKED_UP, max(value.size, 256)):
            coded[...], strange = self._encoded(value.astype(np.int64))
            return strange
        table, strange = self._encoded(np.arange(low, high + 1))
        place = value if low == 0 else value.astype(np.int64) - low
        for layer, codes in zip(coded, table, strict=True):
            layer[...] = codes[place]
        if not strange:
            return []
        there = np.zeros(high + 1 - low, bool)
        there[place] = True
        return [number for number in strange if there[number - low]]

    def _encoded(self, value: NDArray[np.int64]) -> tuple[NDArray[np.uint8], list[int]]:
        """Raw values as classes, and those without a meaning."""
        if self.kind == "bits":
            coded = np.stack([(value & bit[0]) > 0 for bit in self.values]).astype(np.uint8)
            unknown = (value & ~sum(bit[0] for bit in self.values)) != 0
        elif self.kind == "regions":
            coded = np.stack([np.isin(value, parts) for parts in self.values]).astype(np.uint8)
            unknown = ~np.isin(value, [0, *(v for parts in self.values for v in parts)])
        else:
            coded, unknown = self._indices(value)
        if self.ignore is not None:
            ignored = value == self.ignore
            unknown &= ~ignored
            coded[:, ignored] = IGNORE
        return coded, np.unique(value[unknown]).tolist() if unknown.any() else []

    def _indices(self, value: Array) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        index, known = np.zeros(value.shape, np.uint8), np.isin(value, self.background)
        for k, parts in enumerate(self.values):
            here = np.isin(value, parts)
            index[here] = k + 1
            known |= here
        return index[None], ~known

    def raw_values(self, raw: Array) -> NDArray[np.int64]:
        """(1, *S) numbers or (3, *S) colours as whole numbers (*S); a 2nd or 4th component is transparency and says nothing."""
        if raw.shape[0] < 3:
            return np.asarray(np.rint(raw[0])).astype(np.int64)
        if not self.colours:
            if (raw[0] == raw[1]).all() and (raw[0] == raw[2]).all():
                return np.asarray(raw[0]).astype(np.int64)
            raise DataError("The mask is in colour but the data set does not say what the colours mean (labels.colours).")
        value = np.full(raw.shape[1:], -1, np.int64)
        for number, colour in self.colours.items():
            value[np.all(raw[:3] == np.reshape(colour, (3,) + (1,) * (raw.ndim - 1)), axis=0)] = number
        return value

    def decode(self, coded: Array) -> NDArray[np.integer]:
        """The inverse of `encode` for files: (1, *S) indices or (K, *S) of 0 / 1 -> raw values (*S), which encode to the same.

        Regions that no raw value has together take the value that differs least, the fuller one of two."""
        if self.exclusive:
            table = np.array([0, *(parts[0] for parts in self.values)], np.int64)
            wide = np.promote_types(np.min_scalar_type(table.min()), np.min_scalar_type(table.max()))
            return np.asarray(table.astype(wide)[coded[0]])
        bits = [p[0] for p in self.values] if self.kind == "bits" else [1 << k for k in range(len(self.names))]
        total = np.zeros(coded.shape[1:], np.min_scalar_type(sum(bits)))
        for bit, layer in zip(bits, coded, strict=True):
            total |= (layer > 0).astype(total.dtype) * total.dtype.type(bit)
        return total if self.kind == "bits" else self._values_of_regions(total)

    def _values_of_regions(self, found: Array) -> NDArray[np.integer]:
        """Raw values from region k as bit k."""
        known = [0, *sorted({v for parts in self.values for v in parts})]
        patterns = np.array([[v in parts for parts in self.values] for v in known])
        raw = np.zeros(found.shape, np.min_scalar_type(max(known)))
        for bits in np.unique(found):
            wanted = np.array([bool(int(bits) >> k & 1) for k in range(len(self.values))])
            differences = (patterns != wanted).sum(1) - patterns.sum(1) / (patterns.shape[1] + 1)
            raw[found == bits] = known[int(np.argmin(differences))]
        return raw

    def masks(self, coded: Array) -> NDArray[np.bool_]:
        """(K, *S) one boolean mask per class, from what `encode` gives; ignored voxels are False."""
        return np.stack([self.mask(coded, k) for k in range(len(self.names))])

    def mask(self, coded: Array, number: int) -> NDArray[np.bool_]:
        """(*S) where the class of this number (from 0) is; of many classes in a large scan one at a time fits into memory."""
        return np.asarray(coded[0] == number + 1 if self.exclusive else coded[number] == 1)

    def counts(self, coded: Array) -> list[int]:
        """Voxels per class of what `encode` gives, slab by slab, so that no mask of a large scan is ever made."""
        if not self.exclusive:
            return [int(sum(np.count_nonzero(coded[at][k] == 1) for at in slabs(coded, SLAB))) for k in range(len(coded))]
        total = sum(np.bincount(coded[at][0].ravel(order="K"), minlength=IGNORE + 1) for at in slabs(coded, SLAB))
        return [int(number) for number in np.asarray(total)[1 : len(self.names) + 1]]

    def describe(self) -> str:
        """'RV=1, MYO=2+3' in words; many values as their range."""
        words = ["+".join(map(str, v)) if len(v) < 10 else f"{min(v)}..{max(v)}" for v in self.values]
        return ", ".join(f"{name}={word}" for name, word in zip(self.names, words, strict=True))
