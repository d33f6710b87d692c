"""The scanner: sequences with their times, sites that differ, and from tissue signals to the picture that is stored."""

from typing import Literal

import numpy as np
from pydantic import Field as Limit

from vesalius.core.errors import UsageError, suggest
from vesalius.core.settings import Settings
from vesalius.core.space import Array, Space
from vesalius.physics import mri


class Protocol(Settings):
    """One sequence. Times in ms, `flip` in degrees (gradient echo only), `ti` None for no inversion, `thickness` of the slices in
    mm (0: as thin as the grid), `noise` the standard deviation relative to pure water fully relaxed, `gain` stored units of that."""

    equation: Literal["spin echo", "inversion recovery", "gradient echo"]
    tr: float = Limit(gt=0)
    te: float = Limit(ge=0)
    ti: float | None = None
    flip: float = 90.0
    enhanced: bool = False
    thickness: float = Limit(default=0.0, ge=0)
    noise: float = Limit(default=0.01, ge=0)
    gain: float = Limit(default=1000.0, gt=0)

    def signal(self, density: Array, t1: Array, t2: Array) -> Array:
        """The signal equation with this protocol's times."""
        if self.equation == "spin echo":
            return mri.spin_echo(density, t1, t2, tr=self.tr, te=self.te)
        if self.equation == "gradient echo":
            return mri.spoiled_gradient_echo(density, t1, t2, tr=self.tr, te=self.te, flip=self.flip)
        if self.ti is None:
            raise UsageError("An inversion recovery needs ti, the inversion time in ms.")
        return mri.inversion_recovery(density, t1, t2, tr=self.tr, te=self.te, ti=self.ti)


class Site(Settings):
    """A hospital: `field` in tesla, sequences, strength of the coil's shading (0 none, 1 that of bare loops), `axes` in which the
    images are stored, and the largest tilt in degrees of an oblique grid."""

    name: str
    field: float
    protocols: dict[str, Protocol]
    shading: float = Limit(default=0.3, ge=0, le=1)
    axes: Literal["RAS", "LPS", "LAS"] = "RAS"
    oblique: float = Limit(default=0.0, ge=0, le=30)

    def protocol(self, sequence: str) -> Protocol:
        if sequence not in self.protocols:
            raise UsageError(suggest(sequence, self.protocols, f"sequence at the site {self.name!r}"))
        return self.protocols[sequence]


def _spin(tr: float, te: float, **more: float | bool) -> Protocol:
    return Protocol.checked({"equation": "spin echo", "tr": tr, "te": te, **more})


def _flair(tr: float, te: float, **more: float | bool) -> Protocol:
    """The inversion time nulls cerebrospinal fluid."""
    return Protocol.checked({"equation": "inversion recovery", "tr": tr, "te": te, "ti": mri.nulling_time(4300, tr=tr), **more})


def _inversion(tr: float, te: float, ti: float, **more: float | bool) -> Protocol:
    return Protocol.checked({"equation": "inversion recovery", "tr": tr, "te": te, "ti": ti, **more})


def _gradient(tr: float, te: float, flip: float, **more: float | bool) -> Protocol:
    return Protocol.checked({"equation": "gradient echo", "tr": tr, "te": te, "flip": flip, **more})


SITES = (
    Site(name="north", field=1.5, shading=0.25, protocols={
        "T1": _spin(520, 11, noise=0.010, gain=1400), "T1c": _spin(520, 11, noise=0.010, gain=1400, enhanced=True),
        "T2": _spin(4500, 95, noise=0.009, gain=1600), "FLAIR": _flair(9000, 110, noise=0.008, gain=2400),
    }),
    Site(name="south", field=3.0, shading=0.45, axes="LPS", protocols={
        "T1": _inversion(2300, 9, 980, noise=0.008, gain=900), "T1c": _inversion(2300, 9, 980, noise=0.008, gain=900, enhanced=True),
        "T2": _spin(5500, 90, noise=0.007, gain=1100, thickness=4.0), "FLAIR": _flair(9500, 105, noise=0.007, gain=1500, thickness=4.0),
    }),
    Site(name="east", field=1.5, shading=0.5, oblique=12.0, protocols={
        "T1": _spin(600, 14, noise=0.016, gain=500, thickness=5.0),
        "T1c": _spin(600, 14, noise=0.016, gain=500, thickness=5.0, enhanced=True),
        "T2": _spin(4000, 105, noise=0.014, gain=650, thickness=5.0), "FLAIR": _flair(8500, 115, noise=0.012, gain=900, thickness=6.0),
    }),
    Site(name="west", field=3.0, shading=0.35, axes="LAS", protocols={
        "T1": _gradient(9, 3.5, 18, noise=0.0016, gain=9000), "T1c": _gradient(9, 3.5, 18, noise=0.0016, gain=9000, enhanced=True),
        "T2": _spin(6000, 100, noise=0.009, gain=2000, thickness=3.0), "FLAIR": _flair(10000, 110, noise=0.008, gain=3000, thickness=3.0),
    }),
)  # fmt: skip


def grid(shape: tuple[int, int, int], spacing: tuple[float, ...], *, site: Site, generator: np.random.Generator) -> Space:
    """Where the voxels lie: the site's axes, centred in the scanner, tilted by up to `site.oblique` degrees."""
    from scipy.spatial.transform import Rotation

    signs = np.array([1 if a == b else -1 for a, b in zip(site.axes, "RAS", strict=True)])
    angles = generator.uniform(-1, 1, 3) * site.oblique * np.array([1, 0.3, 0.5])
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag(signs * np.asarray(spacing))
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return Space(shape, affine)


def acquire(signals: Array, space: Space, *, site: Site, sequences: tuple[str, ...], generator: np.random.Generator) -> Array:
    """Ideal signals (sequence, *S) -> stored images: slices, coil, noise, gain. In place and returned."""
    shading = _shading(space, site, generator)
    drift = generator.uniform(0.85, 1.15)
    for image, sequence in zip(signals, sequences, strict=True):
        protocol = site.protocol(sequence)
        thick = _slices(space, protocol.thickness, generator.uniform(0, 1))
        ideal = image if thick is None else image @ thick.T
        image[:] = mri.rician(ideal * shading, protocol.noise, generator)
        image *= protocol.gain * drift * generator.uniform(0.92, 1.08)
    return signals


def _slices(space: Space, thickness: float, phase: float) -> Array | None:
    """(depth, depth): slices of `thickness` side by side, read off linearly at the grid's own positions."""
    depth, spacing = space.shape[2], space.spacing[2]
    if thickness <= spacing:
        return None
    fine = np.arange(depth) * spacing
    centres = np.arange(-thickness * phase, fine[-1] + thickness, thickness)
    weights = mri.slice_weights(centres, fine, thickness=thickness)
    lookup = np.stack([np.interp(fine, centres, row) for row in np.eye(len(centres))], -1)
    return np.asarray(lookup @ weights, np.float32)


def _shading(space: Space, site: Site, generator: np.random.Generator) -> Array:
    """Receive profile of eight loops around the head, evened out as the console does, mean 1 near the middle."""
    coils = mri.ring_of_coils(8, semi_axes=(125, 145, 130), turn=float(generator.uniform(0, 6.28)))
    coils = coils + generator.normal(0, 8, coils.shape)
    index = np.meshgrid(*[np.arange(side, dtype=np.float32) for side in space.shape], indexing="ij", sparse=True)
    affine = space.affine.astype(np.float32)
    world = np.stack([sum((affine[w, a] * index[a] for a in range(3)), affine[w, 3]) for w in range(3)])
    profile = mri.coil_sensitivity(world, coils, radius=90.0) ** site.shading
    middle = tuple(slice(side // 4, side - side // 4) for side in space.shape)
    return np.asarray(profile / profile[middle].mean(), np.float32)
