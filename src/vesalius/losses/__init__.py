"""Losses, one family per file: pure functions or parameter-free modules on logits (B, C, *S)."""

from vesalius.core.shelf import Shelf

LOSSES = Shelf("losses")
