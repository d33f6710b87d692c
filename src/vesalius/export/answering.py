"""Answers for new scans by an exported model: what `engine/predict.py` does with a run, without torch."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vesalius.core.environment import threads_wished
from vesalius.core.errors import UsageError
from vesalius.core.files import write_json
from vesalius.core.space import Array
from vesalius.data.case import Case
from vesalius.data.prepare import Prepared
from vesalius.engine.answered import Answered, Options, name_of, no_clash, prediction_path, report, share, volumes, write_apart
from vesalius.engine.inputs import cases_of
from vesalius.engine.outlines import kept, largest
from vesalius.engine.probabilities import on_scan
from vesalius.engine.progress import Listener
from vesalius.engine.reading import Read, read_ahead, taken
from vesalius.export import within
from vesalius.export.correcting import Asked
from vesalius.export.model import Model
from vesalius.export.streaming import Progress, Wanted, stream
from vesalius.io import save
from vesalius.io.image import Image


@dataclass(frozen=True)
class Answerer:
    """A model with its networks, ready to be asked; `mirror`: whether mirrored passes count too."""

    model: Model
    networks: Sequence[Asked]
    mirror: bool = False
    threads: int = 1

    @classmethod
    def load(cls, folder: Path | str, *, mirror: bool = False) -> "Answerer":
        """The model in `folder`."""
        model, threads = Model.load(Path(folder)), threads_wished()
        if mirror and not model.tiles.mirror:
            raise UsageError(f"{folder} was not taught mirrored scans (left and right differ in what it learned). Leave --mirror out.")
        return cls(model, model.loaded(Path(folder), threads=threads), mirror, threads)

    @classmethod
    def of_run(cls, run: Path, settings: Sequence[str] = ()) -> "Answerer | None":
        """The model within `run` (within.py) where that is the better way to answer and there is one; `settings` as those of the plan."""
        if not within.wanted(settings) or (there := within.found(run, settings)) is None:
            return None
        threads = threads_wished()
        return cls(there.model, there.model.fitted(there.weights, run, threads=threads), there.mirror, threads)

    def __call__(self, prepared: Prepared, *, progress: Progress | None = None, probabilities: Path | None = None) -> Array:
        """Classes of a prepared scan on the scan's own grid, (1, *S) numbers or (K, *S) of 0 and 1; `probabilities` names a .npy file
        for those of all classes there, float16 (K, *S), which rules for outlines leave as they are."""
        labels, model = self.model.labels, self.model
        form = (1 if labels.exclusive else len(labels.names), *prepared.native.shape)
        sure = np.zeros(form, np.uint8) if model.levels else None
        tiling, image = model.tiles.tiling(mirrored=self.mirror), model.shown(prepared.image)
        with on_scan(probabilities, prepared, exclusive=labels.exclusive) as file:
            wanted = Wanted(prepared.native.shape, labels.exclusive, sure, file)
            said = stream(self.networks, image, wanted, tiling=tiling, threads=self.threads, progress=progress)
        if sure is not None:
            said = kept(said, sure, model.levels, labels=labels)
        if model.single:
            said = largest(said, model.single, labels=labels)
        return prepared.restore(said)


def answer(
    folder: Path | str,
    inputs: Path | str | Sequence[Case],
    output: Path | str,
    *,
    images: Mapping[str, Path] | None = None,
    options: Options | None = None,
    mirror: bool = False,
    listener: Listener | None = None,
) -> list[Answered]:
    """Answer every case behind `inputs` (see engine/inputs.py) by the model in `folder` into the folder `output`, one file each.

    Answers that are there already are left alone unless `options` say to overwrite them; a case that cannot be read stops the work, or is
    listed and passed over where they say so. `mirror` averages over mirrored scans. Probabilities, where `options` ask for them, lie beside
    each answer.
    """
    return by(Answerer.load(folder, mirror=mirror), inputs, output, named=Path(folder), images=images, options=options, listener=listener)


def by(ask: Answerer, inputs: Path | str | Sequence[Case], output: Path | str, *, named: Path, images: Mapping[str, Path] | None,
       options: Options | None, listener: Listener | None) -> list[Answered]:  # fmt: skip
    """As `answer`, by a model that is loaded and was `named` so."""
    options, listener, target = options or Options(), listener or Listener(), Path(output)
    channels = list(ask.model.preparation.channels)
    cases = cases_of(Path(inputs), channels, images) if isinstance(inputs, Path | str) else list(inputs)
    no_clash(cases, target)
    mine = share(cases, options)
    target.mkdir(parents=True, exist_ok=True)
    done: list[Answered] = []
    with listener.stage("answering") as tick:

        def told(case: Case) -> Progress:
            number = len(done)
            return lambda tile, tiles: tick(number + tile / tiles, len(mine), case.name)

        for case, read in read_ahead(mine, target, ask.model.preparation, ndim=ask.model.ndim, overwrite=options.overwrite):
            done.append(_one(ask, case, read, folder=target, options=options, progress=told(case)))
            tick(len(done), len(mine), case.name)
            if listener.stop():
                listener.say(f"Stopped after {len(done)} of {len(mine)} cases; the same command goes on from there.")
                break
    write_json(target / f"{name_of(options)}.json", report(named, ask.model.labels, done))
    return done


def _one(ask: Answerer, case: Case, read: "Future[Read] | Path", *, folder: Path, options: Options,
         progress: Callable[[int, int], None]) -> Answered:  # fmt: skip
    labels = ask.model.labels
    found = taken(case, read, skip_bad=options.skip_bad)
    if isinstance(found, Answered):
        return found
    image, prepared = found
    beside = folder / f"{case.name}_probabilities.npy" if options.probabilities else None
    said = ask(prepared, progress=progress, probabilities=beside)
    path = prediction_path(folder, image, case)
    save(Image(labels.decode(said)[None], image.space, image.source), path)
    if options.apart:
        write_apart(said, image, labels, beside=path)
    return Answered(case.name, path, volumes=volumes(said, image, labels))
