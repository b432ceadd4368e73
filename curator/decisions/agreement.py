"""How far several reviewers agree beyond chance, and how often each of them is right, by what they say together."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from curator.decisions.tally import Labels

REST = 1e-6  # share of a label that the model does not know, as "drop"


def fleiss(counts: np.ndarray) -> float | None:
    """Fleiss' kappa of counts (rows, labels): how many reviewers gave a row a label.

    Rows may have different numbers of reviewers; those with fewer than two tell nothing and are left out. Where all
    rows have as many, it is the kappa of Fleiss (1971). None where all gave one and the same label.
    """
    counts = counts[counts.sum(1) > 1].astype(float)
    each = counts.sum(1)
    if not len(counts) or (counts.sum(0) > 0).sum() < 2:
        return None
    observed = float(((counts * (counts - 1)).sum(1) / (each * (each - 1))).mean())
    chance = float(((counts.sum(0) / each.sum()) ** 2).sum())
    return (observed - chance) / (1 - chance)


def agreement_by_class(named: Labels) -> tuple[float | None, list[tuple[str | None, int, float | None]]]:
    """Fleiss' kappa over all labels, and of each label against all others: (label, rows that anybody gave it, kappa).

    Labels on which reviewers agree least come first; None is the label of rows that are dropped. Only rows that two
    reviewers decided count.
    """
    counts, labels = _counts(named)
    by_label = [
        (label, int((here > 0).sum()), fleiss(np.stack([here, counts.sum(1) - here], axis=1)))
        for label, here in zip(labels, counts.T, strict=True)
    ]
    return fleiss(counts), sorted(by_label, key=lambda found: (found[2] is None, found[2] or 0, -found[1]))


def qualities(
    named: Labels, settled: Mapping[int, str | None], probabilities: Callable[[list[int], Sequence[str]], np.ndarray]
) -> dict[str, dict[str, Any]]:
    """How often each reviewer is right, by the consensus on rows that two decided or somebody ruled on.

    The consensus is that of cleanlab's CROWDLAB: it weighs the reviewers and the run's own probabilities, so that two
    who contradict each other are not both half right. A ruling stands for certain.

    Args:
        named: what every reviewer said.
        settled: row -> label that somebody ruled (None: dropped).
        probabilities: of ids of rows (n) and names of classes (k): (n, k) float, what the run thinks of each.

    Returns:
        Reviewer -> {"rows", "right": of these those that agree with the consensus, "low" and "high": 95 % interval of
        the share, "worst": label of the consensus on which the reviewer is right least often, None for dropped rows}.
    """
    words: dict[int, dict[str, str | None]] = {}
    for who, of in named.items():
        for row, label in of.items():
            words.setdefault(row, {})[who] = label
    judged = {row: of for row, of in sorted(words.items()) if len(of) > 1 or row in settled}
    if not judged:
        return {}
    said = {label for of in judged.values() for label in of.values()}
    labels = sorted(said | {settled[row] for row in judged if row in settled}, key=lambda x: (x is None, x))
    code = {label: i for i, label in enumerate(labels)}
    names = sorted({who for of in judged.values() for who in of})
    given = np.array([[code[of[who]] if who in of else np.nan for who in names] for of in judged.values()])
    ruled = np.array([code[settled[row]] if row in settled else -1 for row in judged])
    best = _consensus(given, _beliefs(labels, list(judged), ruled, probabilities))
    best = np.where(ruled >= 0, ruled, best)
    return {who: _quality(column, best, labels) for who, column in zip(names, given.T, strict=True)}


def _beliefs(labels: list[str | None], rows: list[int], ruled: np.ndarray, probabilities: Callable) -> np.ndarray:
    """(n, labels): what is thought of rows before anybody's word: a ruling for certain, else what the run says."""
    known = [label for label in labels if label is not None]
    found = np.full((len(rows), len(labels)), REST)
    found[:, : len(known)] += probabilities(rows, known)
    found[ruled >= 0] = REST
    found[ruled >= 0, ruled[ruled >= 0]] = 1
    found += REST * np.linspace(0, 1, len(labels))  # no two alike: between equals cleanlab would draw lots
    return found / found.sum(1, keepdims=True)


def _consensus(given: np.ndarray, beliefs: np.ndarray) -> np.ndarray:
    """(n,) codes: what reviewers (n, m; NaN where one said nothing) say together; of one alone, what that one said."""
    best = np.nanmax(given, axis=1)
    several = (~np.isnan(given)).sum(1) > 1
    given = given[several][:, ~np.isnan(given[several]).all(0)]
    if not several.any() or len(np.unique(given[~np.isnan(given)])) < 2:  # of one label there is nothing to weigh
        return best
    from cleanlab.multiannotator import get_label_quality_multiannotator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of few words, which the interval tells
        found = get_label_quality_multiannotator(given, beliefs[several], return_annotator_stats=False, verbose=False)
    best[several] = found["label_quality"]["consensus_label"].to_numpy()
    return best


def _quality(column: np.ndarray, best: np.ndarray, labels: list[str | None]) -> dict[str, Any]:
    from scipy.stats import beta

    said = ~np.isnan(column)
    right, of = column[said] == best[said], best[said].astype(int)
    low, high = beta.ppf((0.025, 0.975), 0.5 + right.sum(), 0.5 + (~right).sum())  # Jeffreys' interval
    missed = Counter(of[~right].tolist())
    worst = max(missed, key=lambda c: (missed[c] / (of == c).sum(), missed[c]), default=None)
    return {
        "rows": int(said.sum()), "right": int(right.sum()), "low": float(low), "high": float(high),
        "worst": None if worst is None else {"label": labels[worst], "rows": int((of == worst).sum()),
                                             "wrong": missed[worst]},
    }  # fmt: skip


def _counts(named: Labels) -> tuple[np.ndarray, list[str | None]]:
    """(rows, labels): how many reviewers gave a row a label, of the rows that two decided; and the labels."""
    times = Counter(row for of in named.values() for row in of)
    rows = {row: i for i, row in enumerate(sorted(row for row, n in times.items() if n > 1))}
    labels = sorted(
        {label for of in named.values() for row, label in of.items() if row in rows}, key=lambda x: (x is None, x)
    )
    code, counts = {label: i for i, label in enumerate(labels)}, np.zeros((len(rows), len(labels)), np.int32)
    for of in named.values():
        for row, label in of.items():
            if row in rows:
                counts[rows[row], code[label]] += 1
    return counts, labels
