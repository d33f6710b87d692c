"""`vesalius synthesise`: images that a model makes."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vesalius.cli import _options as o
from vesalius.cli._console import Json
from vesalius.cli._screen import answer, answer_json, table
from vesalius.core.errors import UsageError
from vesalius.core.memory import lasting


def synthesise(
    run: o.RunFolder,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the images and their table.")],
    number: Annotated[int | None, typer.Option("--number", "-n", help="How many images (64 unless classes are balanced).")] = None,
    label: Annotated[str | None, typer.Option(metavar="CLASS", help="Images of this class, where the model knows classes.")] = None,
    balance: Annotated[Path | None, typer.Option(metavar="DATA", help="Make what the rare classes of DATA lack, and try it.")] = None,
    seed: Annotated[int, typer.Option(help="Other seeds give other images, the same seed the same ones.")] = 0,
    json: Json = False,
) -> None:
    """Make images with a model of vesalius train --task generate, in the form of the data that it learned from.

    A table, synthetic.csv, names every image, its class and its patient, whom no real data set has; its split is train, so that
    it comes into no validation or test part. The files say that they are synthetic. With --balance as many images of
    each rare class are made as the training part lacks; balanced.csv names real and made images, ready for vesalius train,
    and a trial on real test images says whether they help, also beside drawing every class equally often, which is free. If
    not, the verdict is "do not use".

    Example:
      vesalius synthesise run -n 64 -o made
      vesalius synthesise run --balance xrays.csv -o balanced
    """
    with lasting():
        from vesalius.cli._listener import Console
        from vesalius.engine.run import Run
        from vesalius.engine.synthesise import synthesise as work

    opened = Run.open(run)
    if balance:
        if number is not None or label:
            raise UsageError("--balance says itself how many images of which class are made: leave --number and --label out.")
        from vesalius.engine.balance import balance as work_balance

        found = work_balance(opened, balance, output, seed=seed, listener=Console())
        if json:
            answer_json(found)
        else:
            told(found)
        return
    rows = work(opened, output, number=64 if number is None else number, label=label or "", seed=seed, listener=Console())
    warning = copying(opened)
    if json:
        answer_json({"images": rows, "copies": warning or None})
        return
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.get("class", "images")] = counts.get(row.get("class", "images"), 0) + 1
    table(("class", "made"), list(counts.items()))
    answer(f"Table: {output / 'synthetic.csv'}")
    if warning:
        answer(f"Copies: {warning}")


def copying(run: Any) -> str:
    """What the run's own check for copies of training images says; "" where it was not judged."""
    parts = (run.metrics or {}).get("parts") or {}
    told_of = parts.get("test") or parts.get("val") or {}
    return str((told_of.get("copies") or {}).get("verdict", ""))


def told(found: dict[str, Any]) -> None:
    """The counts, the trial and the verdict."""
    counts = [(name, count, found["added"].get(name, 0)) for name, count in found["classes"].items()]
    table(("class", "training images", "made images"), counts)
    ways = (("real images", "real"), ("real images, classes drawn equally often", "rival"), ("real and made images", "both"))
    table(("trained on", "balanced accuracy"), [(words, found[key]) for words, key in ways])
    answer(f"Gain over the better of the first two: {found['gain']:+.3f} [{found['gain_low']:+.3f}, {found['gain_high']:+.3f}], on "
           f"{found['test_images']} images of {found['tried_on']}.")  # fmt: skip
    answer(f"Verdict: {found['verdict']}.")
    answer(f"Table: {found['table']}")
