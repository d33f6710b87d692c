"""What is set on validation cases after learning and before anything is scored."""

from collections.abc import Mapping

from vesalius.data.cache import Stored
from vesalius.engine.certain import settle
from vesalius.engine.progress import Listener
from vesalius.engine.run import Run
from vesalius.engine.single import settle_single
from vesalius.engine.sparing import settle_overlap
from vesalius.engine.voices import said_of, settle_voices


def settle_voxels(run: Run, stored: Mapping[str, Stored], listener: Listener) -> None:
    """Which networks answer, how far their tiles overlap, how certain outlines must be where labels can be absent, and of which labels
    the largest stands alone."""
    with listener.stage("comparing the networks") as tick:
        scored = settle_voices(run, stored, tick=tick)
    if scored:
        listener.say(said_of(run, scored))
    with listener.stage("asking how far tiles must overlap") as tick:
        overlap = settle_overlap(run, stored, tick=tick)
    if overlap:
        listener.say(f"Tiles overlap by {run.plan.predict.overlap:g} of their sides: {overlap}.")
    with listener.stage("setting how certain outlines must be") as tick:
        found = settle(run, stored, tick=tick)
    for name, level in found.items():
        before, after, odds = level["dice_without"], level["dice"], level["log_odds"]
        listener.say(f"Outlines of {name} stay where their log odds reach {odds:.1f}: Dice {after:.3f} instead of {before:.3f} "
                     f"on {level['cases']} validation cases.")  # fmt: skip
    with listener.stage("asking which outlines stand alone") as tick:
        alone = settle_single(run, stored, tick=tick)
    for name, found in alone.items():
        listener.say(f"Of {name} the largest outline alone is kept: Dice {found['dice']:.4f} instead of {found['dice_without']:.4f} on "
                     f"{found['cases']} validation cases.")  # fmt: skip


def settle_later(run: Run, stored: Mapping[str, Stored], listener: Listener) -> None:
    """Nothing: what answers to whole cases need is set where they are scored."""


SETTLERS = {"voxel": settle_voxels, "case": settle_later, "image": settle_later}
