"""What each measure is called, which way is better, and what it means in plain words."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """`better` is +1 where more is better, -1 where less is, 0 where zero is. `size` is "", "length" or "volume"."""

    title: str
    text: str
    better: int = 1
    digits: int = 3
    size: str = ""

    def unit(self, unit: str, ndim: int) -> str:
        """mm or px for a length, mm³ (in 2D mm²) for a volume, '' for a ratio."""
        return {"length": unit, "volume": unit + {2: "²"}.get(ndim, "³")}.get(self.size, "")

    @property
    def share(self) -> bool:
        """Whether it lies between 0 and 1, more being better."""
        return self.better > 0 and not self.size


MEASURES = {
    "dice": Measure("Dice", "Overlap of two outlines: twice what they share, divided by the sum of both. 1 is the same, 0 nothing shared."),
    "iou": Measure("IoU", "What two outlines share, divided by what they cover together (Jaccard). Below Dice, except at 0 and 1."),
    "nsd": Measure("NSD", "Normalised surface Dice: the share of both surfaces that lies within a tolerance of the other surface."),
    "hd": Measure("HD", "The distance of the single worst surface point (Hausdorff): one stray voxel decides it.", -1, 2, "length"),
    "hd95": Measure("HD95", "The distance that 95 % of the surface points stay below: how bad the bad places are.", -1, 2, "length"),
    "assd": Measure("ASSD", "Average distance from one surface to the other, both ways: how far off the outline is.", -1, 2, "length"),
    "sensitivity": Measure("Sensitivity", "The share of the true structure that was found (recall)."),
    "precision": Measure("Precision", "The share of what was marked that is really there (positive predictive value)."),
    "volume": Measure("Volume", "Size of the predicted structure.", 0, 0, "volume"),
    "true_volume": Measure("True volume", "Size of the structure as the rater outlined it.", 0, 0, "volume"),
    "volume_error": Measure("Volume error", "Predicted size minus true size: below 0 is too small. Its mean is the bias.", 0, 0, "volume"),
    "lesion_sensitivity": Measure("Lesion sensitivity", "The share of separate lesions that were found at all."),
    "lesion_precision": Measure("Lesion precision", "The share of separate marked spots that are lesions."),
    "auc": Measure(
        "AUC", "The chance that a case of the class gets a higher probability than one that is not: 1 tells all apart, 0.5 is chance."
    ),
    "accuracy": Measure("Accuracy", "The share of cases that were named rightly. Where one class is common it is high without any skill."),
    "balanced_accuracy": Measure(
        "Balanced accuracy", "The share of each class that was recognised, averaged over classes: rare ones count as much."
    ),
    "specificity": Measure("Specificity", "The share of the other cases that were rightly not said to be of the class."),
    "ppv": Measure(
        "PPV", "The share of those said to be of the class that are (positive predictive value); it falls where the class is rare."
    ),
    "f1": Measure("F1", "Harmonic mean of sensitivity and positive predictive value."),
    "brier": Measure("Brier score", "Mean squared distance of the probabilities to the truth: 0 is perfect.", -1),
    "ece": Measure("Calibration error", "How far stated probabilities are from how often they come true.", -1),
    "kappa": Measure("Kappa", "Agreement with the reference beyond chance (Cohen)."),
    "kappa_linear": Measure("Kappa, linear", "Agreement beyond chance, where grades further apart weigh more."),
    "kappa_quadratic": Measure("Kappa, quadratic", "Agreement beyond chance, where grades further apart weigh much more."),
    "mcc": Measure("MCC", "Correlation of what was said with what is (Matthews): 0 is chance, also where one class is common."),
    "average_precision": Measure("Average precision", "Precision averaged over all sensitivities; by chance it is the share of the class."),
    "npv": Measure("NPV", "The share of those said not to be of the class that are not (negative predictive value)."),
    "f1_macro": Measure("F1, all classes", "F1 of every class, also of the first of two, averaged."),
    "log_loss": Measure("Log loss", "Mean negative logarithm of the probability that the truth was given: 0 is perfect.", -1),
    "ece_mass": Measure("Calibration error, even bins", "The calibration error over bins that hold equally many cases.", -1),
    "aurc": Measure("AURC", "Share of wrong answers among the surest cases, averaged over how many are answered.", -1),
    "excess_aurc": Measure("Excess AURC", "That share beyond what is unavoidable at this accuracy.", -1),
    "kid": Measure("KID", "Kernel distance of made from real images: 0 where they cannot be told apart, below 0 by chance.", -1),
    "coverage": Measure("Coverage", "The share of real images with a made one nearer than their fifth real neighbour."),
    "recall": Measure("Recall", "The share of real images within reach of made ones; noisy images reach far, so that it can be too kind."),
    "distance": Measure("Distance", "Mean squared difference between a real image, scaled to 0..1, and the nearest made one.", -1, 4),
    "strangeness": Measure(
        "Strangeness", "The score of a method that has seen normal images only; differences alone mean something.", 0, 4
    ),
    "pixel_auroc": Measure("Pixel AUC", "The chance that an abnormal pixel is hotter on the map than a normal one."),
    "pixel_ap": Measure(
        "Pixel average precision", "Precision of hot pixels averaged over all sensitivities; by chance the share that is abnormal."
    ),
    "aupro": Measure(
        "AUPRO", "How much of each abnormal region the map covers at few false alarms; small regions weigh as much as large ones."
    ),
    "best_dice": Measure("Ceiling of Dice", "The best Dice that any one threshold on the map reaches, chosen on the truth itself."),
    "neighbours": Measure(
        "Accuracy by neighbours",
        "Balanced accuracy of the commonest class among the ten training images that are nearest by features; of the baseline, by pixels.",
    ),
    "explained": Measure(
        "Explained variance", "How much of what images do not have in common is given back: 1 is all, 0 as much as their mean has."
    ),
    "error": Measure("Error", "Mean squared difference between an image, as the method sees it, and what is given back.", -1, 4),
    "strange": Measure("Loss on unseen images", "What the method loses on images that it did not learn from, at its own task.", -1, 4),
    "lesion_f1": Measure("Lesion F1", "Finding lesions without inventing any: harmonic mean of lesion sensitivity and precision."),
}

WORDS = {
    "95 % interval": "Had other patients of the same kind been tested, the mean would likely lie in this range. It is found by drawing "
    "patients, not images, again and again (bootstrap), so that several scans of one patient are not counted as independent.",
    "Shallow baseline": "A simple method without a deep network, trained on the same cases; the difference to it is what depth adds.",
    "Patient-level split": "All scans of one patient lie on one side: no model is tested on a patient that it has learned from.",
    "Missed": "The structure is there, and the model marked nothing.",
    "Hallucinated": "The structure is not there, and the model marked something.",
    "Both empty": "The structure is not there, and the model marked nothing: right, and counted as full agreement.",
    "Validation": "Cases held back from learning but watched meanwhile. Scores on them may be a little too good.",
    "Fold": "One of several trainings, each of which holds back other patients (cross-validation).",
}


def measure(name: str) -> Measure:
    """The measure called `name`; an unknown one goes by its own name."""
    return MEASURES.get(name) or Measure(name.replace("_", " ").capitalize(), "")
