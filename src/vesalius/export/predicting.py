"""Answers for new scans by a run: without torch where it holds what that takes (`within.py`) and no GPU waits, by torch otherwise."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vesalius.data.case import Case
from vesalius.engine.answered import Answered, Options, run_at
from vesalius.engine.progress import Listener
from vesalius.export.answering import Answerer, by

if TYPE_CHECKING:
    from vesalius.engine.run import Run


def predict(
    run: "Run | Path | str",
    inputs: Path | str | Sequence[Case],
    output: Path | str,
    *,
    images: Mapping[str, Path] | None = None,
    options: Options | None = None,
    listener: Listener | None = None,
) -> list[Answered]:
    """Answer every case behind `inputs` (see engine/inputs.py) into the folder `output`, one file each.

    Answers that are there already are left alone (a killed job goes on where it stopped) unless `overwrite`. A case that
    cannot be read stops the work, or with `skip_bad` is listed and passed over. All folds of the run answer together.
    """
    options, folder = options or Options(), run_at(run) if isinstance(run, Path | str) else run.path
    if (ask := Answerer.of_run(folder, options.settings)) is not None:
        return by(ask, inputs, output, named=folder, images=images, options=options, listener=listener)
    from vesalius.engine.predict import predict as by_torch

    return by_torch(run, inputs, output, images=images, options=options, listener=listener)
