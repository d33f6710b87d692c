"""The engine: one loop that trains every method, prediction by tiles, evaluation with intervals, and the run folder.

The public verbs are `vesalius.train`, `vesalius.predict` and `vesalius.evaluate`.
"""
