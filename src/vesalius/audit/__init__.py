"""Attacks, corruptions, calibration and subgroups: what a model does when things are not as in training. Nothing stands here yet."""
