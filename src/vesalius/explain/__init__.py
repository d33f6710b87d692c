"""Explanations: where in an image a network saw what it answered, and tests of whether that can be believed; one method per file."""

from vesalius.core.shelf import Shelf
from vesalius.explain._ensemble import Ensemble, MeanHeat
from vesalius.explain._frame import Explanation
from vesalius.explain._overlay import overlay, strongest
from vesalius.explain._sanity import Randomised, completeness_gap, deletion, energy_inside, pointing, randomisation_test

EXPLAIN = Shelf("explain")

__all__ = ["EXPLAIN", "Ensemble", "Explanation", "MeanHeat", "Randomised", "completeness_gap", "deletion", "energy_inside", "overlay",
           "pointing", "randomisation_test", "strongest"]  # fmt: skip
