"""Bias field of an MR coil: a smooth gain, the exponential of a random polynomial, shared by the channels.

As in Sudre et al., Longitudinal segmentation of age-related white matter hyperintensities, MedIA 2017. A normalised image
has lost its zero, so values are counted from the least one of each channel (air); the polynomial is scaled so that its
largest value within the patch is the drawn strength.
"""

from functools import reduce
from itertools import product
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from vesalius.augment import Augment, Frame, Intensity, Parameters
from vesalius.augment._grey import bias
from vesalius.augment._random import uniform
from vesalius.core.card import Card

CARD = Card(
    entry="BiasField",
    title="bias field",
    summary="The smooth gain of an MR coil.",
    paper="Sudre, Cardoso, Ourselin, Longitudinal segmentation of age-related white matter hyperintensities, MedIA 2017",
    tags=("intensity", "mr"),
)
DEGREE = 3


class BiasField(Intensity):
    """The logarithm of the gain stays within plus or minus a strength that is uniform up to `largest`."""

    order: ClassVar[int] = 10

    def __init__(self, largest: float, *, probability: float = 0.2) -> None:
        self.largest = largest
        self.probability = probability

    @classmethod
    def from_settings(cls, settings: Augment, frame: Frame) -> Self | None:
        if not settings.bias_field_probability or not settings.bias_field:
            return None
        return cls(settings.bias_field, probability=settings.bias_field_probability)

    @classmethod
    def example(cls, ndim: int) -> dict[str, Any]:
        return {"bias_field": 0.3, "bias_field_probability": 1.0}

    def parameters(self, generator: torch.Generator, frame: Frame) -> Parameters:
        coefficients = uniform(generator, (-1.0, 1.0), *(DEGREE + 1,) * frame.ndim)
        for powers in product(range(DEGREE + 1), repeat=frame.ndim):
            if not 0 < sum(powers) <= DEGREE:
                coefficients[powers] = 0
        return {"coefficients": coefficients, "strength": uniform(generator, (0.0, self.largest))}

    def change(self, sample: Tensor, parameters: Parameters) -> bool:
        return bias(sample, parameters["coefficients"], strength=float(parameters["strength"]))

    def apply(self, image: Tensor, parameters: Parameters) -> Tensor:
        low = image.flatten(2).amin(-1).reshape(*image.shape[:2], *(1,) * (image.ndim - 2))
        gain = log_gain(parameters, image.shape[2:]).to(image).exp_()[:, None]
        return torch.addcmul(low, image - low, gain)


def log_gain(parameters: Parameters, shape: torch.Size) -> Tensor:
    """(B, *shape): polynomials in places from -1 to 1, each scaled to its strength."""
    coefficients = parameters["coefficients"]
    powers = [
        torch.linspace(-1, 1, side, device=coefficients.device)[:, None] ** torch.arange(DEGREE + 1).to(coefficients) for side in shape
    ]
    field = reduce(lambda part, power: torch.tensordot(part, power, dims=([1], [1])), powers, coefficients)
    largest = field.flatten(1).abs().amax(1).clamp(min=1e-7)
    return field * (parameters["strength"] / largest).reshape(-1, *(1,) * len(shape))
