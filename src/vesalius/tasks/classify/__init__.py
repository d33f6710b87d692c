"""Classification: each case gets one class of several, a grade, or any number of findings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vesalius.core.card import Card
from vesalius.core.space import Array
from vesalius.data.labels import Labels
from vesalius.nets import NETS
from vesalius.tasks import CaseTask, Shallow
from vesalius.tasks.classify.decide import Calibration, calibrated, decided, fit
from vesalius.tasks.classify.loss import ClassLoss, LossSettings
from vesalius.tasks.classify.scores import DEFINITIONS, measures, quick

CARD = Card(entry="Classify", title="Classification", summary="Say what a case shows: one class of several, a grade, or findings.",
            tasks=("classify",))  # fmt: skip


class Classify(CaseTask):
    """Softmax over classes or grades, a sigmoid per finding; cross entropy. Thresholds and temperature are set on validation."""

    nets = ("compact", *(name for name, card in NETS.cards.items() if "classify" in card.tasks and name != "compact"))
    foreground = 0.0
    leading = ("auc", "balanced_accuracy", "accuracy")
    fusions = {"input": ("resnet", {"depth": 18}), "feature": ("feature_fusion", {"depth": 18}),
               "decision": ("decision_fusion", {"depth": 18}), "attention": ("transmed", {"size": "T"})}  # fmt: skip

    def out_channels(self, labels: Labels) -> int:
        return labels.out_channels

    def loss(self, labels: Labels, settings: Mapping[str, Any] | None = None) -> nn.Module:
        return ClassLoss(labels.one_of, LossSettings.checked(dict(settings or {}), where="train.loss"))

    def baseline(self, labels: Labels) -> Shallow:
        from vesalius.tasks.classify.baseline import Baseline

        made: Shallow = Baseline(len(labels.names), labels.one_of)
        return made

    def quick_score(self, answer: Array, truth: Array, labels: Labels) -> float:
        """Area under the ROC curve, mean over classes that can be told; balanced accuracy where none can."""
        return quick(answer, truth, labels)

    def definitions(self, unit: str) -> dict[str, str]:
        return dict(DEFINITIONS)

    def calibrate(self, logits: Array, truth: Array, labels: Labels) -> dict[str, Any]:
        return fit(logits, truth, labels).model_dump(mode="json")

    def probabilities(self, logits: Array, labels: Labels, calibration: Mapping[str, Any]) -> NDArray[np.float64]:
        return calibrated(logits, labels, Calibration.checked(dict(calibration), where="calibration.json"))

    def rows(self, probabilities: Array, labels: Labels, calibration: Mapping[str, Any], *,
             truth: Array | None = None) -> list[dict[str, Any]]:  # fmt: skip
        """{"said": names, "probabilities": by name}, and with `truth` {"truth": names, "state": right or wrong}."""
        said = decided(probabilities, labels, Calibration.checked(dict(calibration), where="calibration.json"))
        found = [{"said": words(row, labels), "probabilities": dict(zip(labels.names, np.round(p, 6).tolist(), strict=True))}
                 for row, p in zip(said, probabilities, strict=True)]  # fmt: skip
        if truth is None:
            return found
        return [{**row, "truth": words(one, labels), "state": "right" if _agree(answer, one) else "wrong"}
                for row, answer, one in zip(found, said, truth, strict=True)]  # fmt: skip

    def measures(
        self, probabilities: Array, truth: Array, labels: Labels, *, calibration: Mapping[str, Any]
    ) -> dict[str, dict[str, float]]:
        how = Calibration.model_validate(dict(calibration))
        return measures(probabilities, truth, labels, said=decided(probabilities, labels, how))


def words(coded: Array, labels: Labels) -> str:
    """A target, (1,) or (K,), as people say it: 'pneumonia', 'effusion; mass', 'none'."""
    if labels.one_of:
        return labels.names[int(coded[0])]
    return "; ".join(name for name, there in zip(labels.names, coded, strict=True) if there == 1) or "none"


def _agree(said: Array, truth: Array) -> bool:
    """Whether all that is known was said."""
    return bool(((said == truth) | (truth == 255)).all())
