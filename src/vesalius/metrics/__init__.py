"""Metrics, one family per file: pure functions on arrays, each with a defined value for empty and missed objects."""

from vesalius.core.shelf import Shelf

METRICS = Shelf("metrics")
