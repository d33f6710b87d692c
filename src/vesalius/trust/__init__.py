"""What is fitted on validation cases and then applied to every answer: calibration, thresholds, prediction sets, abstention, novelty.

The room lies below the engine, so that a run keeps these rules as JSON and `predict` applies them; how well they hold is
examined in `vesalius.audit`.
"""
