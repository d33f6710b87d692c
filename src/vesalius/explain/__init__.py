"""Saliency methods, each with its sanity check. Nothing stands here yet."""
