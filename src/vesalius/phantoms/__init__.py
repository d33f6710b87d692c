"""Synthetic cohorts with exact ground truth, one anatomy and modality per file."""

from vesalius.core.shelf import Shelf

PHANTOMS = Shelf("phantoms")
