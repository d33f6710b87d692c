"""Measurements of what was segmented: volumes, thickness, what a heart ejects."""
