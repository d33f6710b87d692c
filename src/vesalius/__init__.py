"""vesalius: from a folder of medical images to a trained, tested and audited model.

The public names are loaded when first used, so that `import vesalius` costs nothing and needs no torch.
"""

TYPE_CHECKING = False  # for type checkers true, as in `typing`, whose import takes four times as long as all of this

__version__ = "0.1.0"

_HOME = {
    "Space": "core.space",
    "VesaliusError": "core.errors",
    "Image": "io.image",
    "load": "io",
    "save": "io",
    "Case": "data.case",
    "Dataset": "data.dataset",
    "Plan": "plan.plan",
    "plan": "plan",
    "train": "export.training",
    "Run": "engine.run",
    "predict": "export.predicting",
    "evaluate": "engine.evaluate",
}
__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from typing import Any

    from vesalius.core.errors import VesaliusError
    from vesalius.core.space import Space
    from vesalius.data.case import Case
    from vesalius.data.dataset import Dataset
    from vesalius.engine.evaluate import evaluate
    from vesalius.engine.run import Run
    from vesalius.export.predicting import predict
    from vesalius.export.training import train
    from vesalius.io import load, save
    from vesalius.io.image import Image
    from vesalius.plan import plan
    from vesalius.plan.plan import Plan


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name not in _HOME:
        raise AttributeError(f"module 'vesalius' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"vesalius.{_HOME[name]}"), name)
    if name != "plan":  # the subpackage of that name is itself callable
        globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
