"""How well flags and corrections agree with the truth, where it is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

SURE = 0.95

if TYPE_CHECKING:
    from curator.result.columns import Columns


def precision_recall_f1(predicted: np.ndarray, actual: np.ndarray) -> tuple[float, float, float]:
    """Of two bool arrays (n,); 0 where a ratio has no rows to count."""
    hit = float((predicted & actual).sum())
    precision = hit / predicted.sum() if predicted.any() else 0.0
    recall = hit / actual.sum() if actual.any() else 0.0
    return precision, recall, 2 * hit / (predicted.sum() + actual.sum()) if hit else 0.0


def reliability(score: np.ndarray, right: np.ndarray, bins: int = 20) -> list[dict[str, float | None]]:
    """Rows, their mean score and the share of right labels in equally wide bins of the score (None in an empty one).

    Args:
        score: (n,) in [0, 1].
        right: (n,) bool, whether labels are right.
        bins: how many.
    """
    place = np.minimum((score * bins).astype(np.int64), bins - 1)
    rows = np.bincount(place, minlength=bins)
    means = (np.bincount(place, weights, bins) / np.maximum(rows, 1) for weights in (score, right))
    return [
        {"rows": int(n), "score": round(float(s), 4) if n else None, "right": round(float(r), 4) if n else None}
        for n, s, r in zip(rows, *means, strict=True)
    ]


def calibration_error(score: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error (Guo et al. 2017; 20 bins), in [0, 1].

    It is the mean over rows of how far the mean score of their bin is from its share of right labels.
    """
    found = [row for row in reliability(score, right) if row["rows"]]
    return sum(row["rows"] * abs(row["score"] - row["right"]) for row in found) / max(1, len(score))  # type: ignore


def metrics(columns: Columns, given: np.ndarray, truth: np.ndarray, trusted: np.ndarray) -> dict[str, float | None]:
    """The figures of curation.json over the rows that are not trusted (label_accuracy_after_all: over all).

    clean_*: selected against given == truth; noisy_*: not selected against given != truth; auroc: clean_score as a
    detector of right labels; average_precision: 1 - clean_score as a detector of wrong ones (both None where all labels
    are right, or all wrong); calibration_error: how far clean_score is from the share of right labels; wrong_above_95:
    share of wrong labels among rows of a clean score of at least .95 (None where there is none).
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    keep = ~trusted
    after_all = float((columns.corrected == truth).mean())
    selected, corrected, score = columns.selected[keep], columns.corrected[keep], columns.clean_score[keep]
    right = given[keep] == truth[keep]
    both = right.any() and not right.all()
    clean, noisy = precision_recall_f1(selected, right), precision_recall_f1(~selected, ~right)
    out: dict[str, float | None] = {f"clean_{n}": v for n, v in zip(("precision", "recall", "f1"), clean, strict=True)}
    out |= {f"noisy_{n}": v for n, v in zip(("precision", "recall", "f1"), noisy, strict=True)}
    out["auroc"] = float(roc_auc_score(right, score)) if both else None
    out["average_precision"] = float(average_precision_score(~right, 1 - score)) if both else None
    out["calibration_error"] = calibration_error(score, right)
    sure = score >= SURE
    out["wrong_above_95"] = float((~right)[sure].mean()) if sure.any() else None
    out["label_accuracy_before"] = float(right.mean()) if len(right) else None
    out["label_accuracy_after"] = float((corrected == truth[keep]).mean()) if len(right) else None
    out["label_accuracy_after_all"] = after_all
    return out
