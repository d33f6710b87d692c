"""Measurements of what was segmented: volumes, shapes, texture. Nothing stands here yet."""
