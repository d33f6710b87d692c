"""Images that are the same, or nearly: by content hash, and by difference hash with a check by correlation.

dHash: Krawetz 2013, "Kind of like that". Ours adds the correlation of fine detail, because images of one organ share their
coarse layout and a hash alone calls strangers twins (of 1,797 brain slices 13,863 pairs, of which 379 are copies); and
turned and mirrored copies of pictures are found too.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vesalius.core.space import Array
from vesalius.data.doctor._rows import Rows, Stack

SIDE = 72  # thumbnails are SIDE x SIDE: blocks of 9 x 8 pixels make the 8 x 9 means of the hash
HAMMING = 8  # bits of 64 that may differ
ALIKE = 0.85  # correlation of fine detail from which two images count as copies; neighbouring slices of one scan reach it too
OWN = 0.8  # the same after taking away the detail that all images share (a rim, a table, a template)
FEW, ALIKE_OF_FEW = 8, 0.95  # of fewer images nothing shared can be told: they must be more alike
AT_ONCE = 256  # images whose detail is worked out together
BLUR = 2.0  # pixels of a thumbnail; what is coarser is layout, not detail
TURN_AT_MOST = 3000  # with more images than this, mirrored and turned copies are not looked for: it costs eight times as much


@dataclass(frozen=True)
class Pair:
    """Two images by their places in the list: `exact` or near, the correlation of their detail, and how one was turned."""

    first: int
    second: int
    exact: bool
    alike: float = 1.0
    turned: bool = False


def content(pixels: Array) -> str:
    """A hash of shape, kind of number and every value, in the order of memory (that of one file format is always the same)."""
    total = hashlib.blake2b(f"{pixels.shape}{pixels.dtype.kind}".encode(), digest_size=16)
    total.update(pixels.ravel(order="K").view(np.uint8).data)
    return total.hexdigest()


def thumbnails(pixels: Array) -> NDArray[np.uint8]:
    """(1, 72, 72) of a picture (H, W), (3, 72, 72) of the middle slices of a volume (X, Y, Z): area means, full range."""
    if pixels.ndim == 2:
        return thumbnail(pixels)[None]
    middle = [tuple(side // 2 if k == axis else slice(None) for k in range(3)) for axis, side in enumerate(pixels.shape)]
    return np.stack([thumbnail(pixels[place]) for place in middle])


def thumbnail(picture: Array) -> NDArray[np.uint8]:
    """(H, W) as 72 x 72 means of areas, its 1st to 99th percentile spread over 0..255."""
    from PIL import Image

    plain = np.nan_to_num(np.asarray(picture, np.float32), posinf=0, neginf=0)
    small = np.asarray(Image.fromarray(plain).resize((SIDE, SIDE), Image.Resampling.BOX))
    low, high = np.percentile(small, [1, 99])
    return np.asarray((small - low) / max(high - low, 1e-9) * 255).clip(0, 255).astype(np.uint8)


def hashes(thumbs: Stack) -> NDArray[np.uint64]:
    """(N, V, 72, 72) -> (N, V): bit k is set where a block is brighter than its left neighbour."""
    return np.concatenate([_hashes(thumbs[first : first + AT_ONCE]) for first in range(0, len(thumbs), AT_ONCE)])


def _hashes(thumbs: NDArray[np.uint8]) -> NDArray[np.uint64]:
    blocks = thumbs.reshape(*thumbs.shape[:2], 8, SIDE // 8, 9, SIDE // 9).mean((3, 5))
    bits = (blocks[..., 1:] > blocks[..., :-1]).reshape(*thumbs.shape[:2], 64)
    return np.packbits(bits, axis=-1).view(np.uint64)[..., 0]


def detail(thumbs: Stack) -> Rows:
    """(N, V, 72, 72) -> (N, V * 72 * 72): what is finer than the blur, of mean 0 and length 1 (0 where there is none). In half
    precision, which moves a correlation by less than 1e-4, and in a file where they are many."""
    out = Rows((int(np.prod(thumbs.shape[1:])),), "float16")
    for first in range(0, len(thumbs), AT_ONCE):
        out.add(_detail(thumbs[first : first + AT_ONCE]))
    return out


def mean_of(fine: Rows) -> NDArray[np.float32]:
    """What all images share (D,)."""
    parts = (fine[first : first + AT_ONCE].sum(0, dtype=np.float64) for first in range(0, len(fine), AT_ONCE))
    return np.asarray(sum(parts, np.zeros(fine.side)) / len(fine), np.float32)


def _detail(thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
    from scipy.ndimage import gaussian_filter

    sharp = thumbs.astype(np.float32)
    sharp -= gaussian_filter(sharp, (0, 0, BLUR, BLUR))
    flat = sharp.reshape(len(thumbs), -1)
    flat -= flat.mean(1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6), np.float32)


def own_detail(fine: NDArray[np.float32], shared: NDArray[np.float32]) -> NDArray[np.float32]:
    """`fine` (N, D) less what all images share (D,), of length 1 again; an image that is nothing but that keeps all."""
    rest = fine - shared
    length = np.linalg.norm(rest, axis=1, keepdims=True)
    return np.asarray(np.where(length < 0.25, fine, rest / np.maximum(length, 1e-6)), np.float32)


def hamming(one: NDArray[np.uint64], many: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Bits that differ between one image (V,) and many (N, V), summed over the V views."""
    bits = np.bitwise_count(many ^ one)
    return np.asarray(sum(bits[:, view].astype(np.int64) for view in range(bits.shape[1])))  # .sum(-1) takes 2.7 times as long


def exact_pairs(digests: Sequence[str]) -> list[Pair]:
    """The first of each set of equal digests paired with every other."""
    first: dict[str, int] = {}
    return [Pair(first[d], k, True) for k, d in enumerate(digests) if first.setdefault(d, k) != k]


def near_pairs(thumbs: Stack, *, most: int = HAMMING, alike: float = ALIKE, turns: bool = True) -> list[Pair]:
    """Pairs of `thumbs` (N, V, 72, 72) whose hashes differ by at most `most` bits per view and whose detail correlates by
    at least `alike`; with `turns`, single views are also compared in their seven mirrored and quarter-turned forms."""
    views, few = thumbs.shape[1], len(thumbs) < FEW
    mine = _Marks.of(thumbs)
    found: dict[tuple[int, int], Pair] = {}
    for turn in TURNS if turns and views == 1 and len(thumbs) <= TURN_AT_MOST else TURNS[:1]:
        as_it_is = turn is TURNS[0]
        other = mine if as_it_is else _Marks.of(turn(thumbs[:]))
        for k in range(len(thumbs) - 1):
            near = k + 1 + np.flatnonzero(hamming(mine.hashes[k], other.hashes[k + 1 :]) <= most * views)
            for j, likeness, own in _likenesses(mine, other, k=k, near=near):
                if likeness >= ALIKE_OF_FEW if few else likeness >= alike and own >= OWN:
                    found.setdefault((k, j), Pair(k, j, False, likeness, not as_it_is))
    return list(found.values())


@dataclass(frozen=True)
class _Marks:
    """Of N images their `hashes` (N, V), their fine `detail` and what they all share of it (D,)."""

    hashes: NDArray[np.uint64]
    detail: Rows
    shared: NDArray[np.float32]

    @classmethod
    def of(cls, thumbs: Stack) -> "_Marks":
        fine = detail(thumbs)
        return cls(hashes(thumbs), fine, mean_of(fine))


def _likenesses(mine: _Marks, other: _Marks, *, k: int, near: NDArray[np.intp]) -> Iterator[tuple[int, float, float]]:
    """Each of the `near` of `other` with the correlation of its detail with that of `k`, and the same without what all images share."""
    for first in range(0, len(near), AT_ONCE):
        some = near[first : first + AT_ONCE]
        one, many = mine.detail[k : k + 1].astype(np.float32), other.detail[some].astype(np.float32)
        likeness, own = many @ one[0], own_detail(many, other.shared) @ own_detail(one, mine.shared)[0]
        yield from zip(some.tolist(), likeness.tolist(), own.tolist(), strict=True)


def _turning(quarter: int, mirror: bool) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    def turn(thumbs: NDArray[np.uint8]) -> NDArray[np.uint8]:
        turned = np.rot90(thumbs, quarter, (2, 3))
        return np.ascontiguousarray(turned[..., ::-1] if mirror else turned)

    return turn


TURNS = [_turning(quarter, mirror) for mirror in (False, True) for quarter in range(4)]


def duplicates(pictures: Iterable[Array], *, alike: float = ALIKE) -> list[Pair]:
    """Exact and near copies among grey pictures (H, W), colour ones (C, H, W) or volumes (1, X, Y, Z) of one kind."""
    digests, thumbs = [], []
    for pixels in pictures:
        digests.append(content(pixels))
        thumbs.append(thumbnails(pixels if pixels.ndim == 2 else np.asarray(pixels, np.float32).mean(0)))
    if not thumbs:
        return []
    exact = exact_pairs(digests)
    near = near_pairs(np.stack(thumbs), alike=alike)
    return exact + [pair for pair in near if digests[pair.first] != digests[pair.second]]


def clusters(pairs: Iterable[Pair], count: int) -> list[int]:
    """The number of the cluster of each of `count` images; images joined by any chain of pairs share one."""
    root = list(range(count))

    def find(k: int) -> int:
        while root[k] != k:
            root[k] = root[root[k]]
            k = root[k]
        return k

    for pair in pairs:
        low, high = sorted((find(pair.first), find(pair.second)))
        root[high] = low
    return [find(k) for k in range(count)]
