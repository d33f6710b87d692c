"""Classification: each case gets one class of several, a grade, or any number of findings."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vesalius.core.card import Card
from vesalius.core.space import Array
from vesalius.data.labels import IGNORE, Labels
from vesalius.metrics._answers import Cut
from vesalius.nets import NETS
from vesalius.tasks import CaseTask, Shallow
from vesalius.tasks._rules import Rules
from vesalius.tasks.classify.decide import Calibration, calibrated, fit, judge, judged_alone
from vesalius.tasks.classify.loss import named
from vesalius.tasks.classify.promises import examined
from vesalius.tasks.classify.scores import answers_of, cuts, definitions, measures, quick, said

CARD = Card(entry="Classify", title="Classification", summary="Say what a case shows: one class of several, a grade, or findings.",
            tasks=("classify",))  # fmt: skip


class Classify(CaseTask):
    """Softmax over classes or grades, a sigmoid per finding; cross entropy, or of grades the ordinal loss. Temperature, thresholds and
    promises are set on validation."""

    nets = ("compact", *(name for name, card in NETS.cards.items() if "classify" in card.tasks and name != "compact"))
    foreground = 0.0
    leading = ("auc", "balanced_accuracy", "accuracy")
    fusions = {"input": ("resnet", {"depth": 18}), "feature": ("feature_fusion", {"depth": 18}),
               "decision": ("decision_fusion", {"depth": 18}), "attention": ("transmed", {"size": "T"})}  # fmt: skip

    def out_channels(self, labels: Labels) -> int:
        return labels.out_channels

    def loss(self, labels: Labels, settings: Mapping[str, Any] | None = None, *, counts: Sequence[int] | None = None) -> nn.Module:
        return named(labels, settings or {}, counts)

    def baseline(self, labels: Labels) -> Shallow:
        from vesalius.tasks.classify.baseline import Baseline

        made: Shallow = Baseline(len(labels.names), labels.one_of)
        return made

    def quick_score(self, answer: Array, truth: Array, labels: Labels) -> float:
        """Area under the ROC curve, mean over classes that can be told; accuracy where none can."""
        return quick(answer, truth, labels)

    def definitions(self, unit: str) -> dict[str, str]:
        return definitions()

    def calibrate(self, logits: Array, truth: Array, labels: Labels, *, names: Sequence[str] | None = None,
                  patients: Sequence[str] | None = None,
                  targets: Mapping[str, Sequence[float]] | None = None) -> dict[str, Any]:  # fmt: skip
        return fit(logits, truth, labels, names=names, patients=patients, targets=targets).model_dump(mode="json")

    def probabilities(self, logits: Array, labels: Labels, calibration: Mapping[str, Any]) -> NDArray[np.float64]:
        return calibrated(logits, labels, _checked(calibration))

    def rows(self, logits: Array, labels: Labels, calibration: Mapping[str, Any], *, names: Sequence[str],
             truth: Array | None = None) -> list[dict[str, Any]]:  # fmt: skip
        """{"said": names, "probabilities": by name, "thresholds": by name of what is said by one}, with rules from validation
        {"possible": names, "answered", "strange"}, and with `truth` {"truth": names, "state": right or wrong}."""
        how = _checked(calibration)
        p = calibrated(logits, labels, how)
        answers = said(answers_of(p, labels, thresholds=how.thresholds))
        limits = dict(zip([labels.names[k] for k in judged_alone(labels)], cuts(labels, how.thresholds), strict=False))
        judged = judge(logits, answers, labels, calibration=how, names=names)
        found = [{"said": words(row, labels), "probabilities": dict(zip(labels.names, np.round(one, 9).tolist(), strict=True)),
                  "thresholds": limits, **(rules.model_dump(mode="json") if rules else {})}
                 for row, one, rules in zip(answers, p, judged, strict=True)]  # fmt: skip
        if truth is None:
            return found
        return [{**row, "truth": words(one, labels), **unknown(one, labels), "state": "right" if _agree(answer, one) else "wrong"}
                for row, answer, one in zip(found, answers, truth, strict=True)]  # fmt: skip

    def measures(
        self, probabilities: Array, truth: Array, labels: Labels, *, thresholds: Mapping[str, Cut]
    ) -> dict[str, dict[str, float]]:
        return measures(answers_of(probabilities, labels, thresholds=thresholds, truth=truth), labels)

    def examined(self, logits: Array, truth: Array, labels: Labels, *, rules: Rules, names: Sequence[str],
                 patients: Sequence[str]) -> dict[str, Any]:  # fmt: skip
        return examined(logits, truth, labels, rules=rules, names=names, patients=patients)


def _checked(calibration: Mapping[str, Any]) -> Calibration:
    return Calibration.checked(dict(calibration), where="calibration.json")


def words(coded: Array, labels: Labels) -> str:
    """A target, (1,) or (K,), as people say it: 'pneumonia', 'effusion; mass', 'none'."""
    if labels.one_of:
        return labels.names[int(coded[0])]
    return "; ".join(name for name, there in zip(labels.names, coded, strict=True) if there == 1) or "none"


def unknown(coded: Array, labels: Labels) -> dict[str, list[str]]:
    """{"unknown": findings that nobody looked for}, empty where all are known."""
    names = [] if labels.one_of else [name for name, there in zip(labels.names, coded, strict=True) if there == IGNORE]
    return {"unknown": names} if names else {}


def _agree(said: Array, truth: Array) -> bool:
    """Whether all that is known was said."""
    return bool(((said == truth) | (truth == IGNORE)).all())
