"""Fitting a mixture to losses: how long it takes, and what a guard against clean data sees.

    python -m bench.mixtures           # both tables; cells that are there are skipped

The first table: the Beta mixture of Arazo et al. (10 iterations) on synthetic losses, half of them noisy. Against ours
stand the straightforward numpy and scipy version (two densities a component and iteration, as published) and
scikit-learn's Gaussian mixture (10 iterations at most, its defaults). Best of 20 runs, all cores.
Posteriors are compared with the straightforward ones where these rise with the loss: elsewhere ours are repaired.

The second: digits with symmetric noise, the small net after 24 epochs of mixup. BIC of two Beta components against one
is the textbook's guard; ours bounds w by the net's own doubt.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import numpy as np
import torch

from bench.table import Table, processor, today
from curator.signals.bmm import EPS, LossMixture
from curator.signals.em import BETA, binned, fit

SIZES = {"50k": 50_000, "1M": 1_000_000}
RUNS = 20
SPEED = Table(
    "Mixtures: the time of a fit",
    ["EM ms", "against straightforward", "whole call ms", "largest difference of posteriors", "date", "machine"],
)
GUARD = Table(
    "Mixtures: what a guard sees",
    [
        "wrong", "net agrees", "BIC for two, 10 iterations", "converged", "w > 0.5 without guard", "with guard",
        "F1 without", "F1 with", "date", "machine",
    ],
)  # fmt: skip


def losses_of(n: int) -> np.ndarray:
    """Losses (n,) float32 of a net after a warm-up, half of the labels wrong."""
    rng = np.random.default_rng(0)
    noisy = rng.random(n) < 0.5
    return np.where(noisy, rng.normal(3, 0.8, n).clip(0.01), rng.exponential(0.4, n)).astype(np.float32)


def scaled(losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The released normalisation: the losses to fit, and all of them, in (0, 1) float64."""
    losses = losses.astype(np.float64)
    low, high = np.percentile(losses, [5, 95])
    inside = (losses >= low) & (losses <= high)
    low = low + 1e-5
    x = (losses - low) / (high - low + 1e-6)
    x = np.where(x >= 1, 0.999, np.where(x <= 0, 0.001, x)).clip(EPS, 1 - EPS)
    return x[inside], x


class Straightforward:
    """Densities by scipy, floored and normalised, as in the released code."""

    def __init__(self) -> None:
        self.alphas, self.betas, self.weights = [1.0, 2.0], [2.0, 1.0], [0.5, 0.5]

    def weighted(self, x: np.ndarray) -> np.ndarray:
        from scipy.stats import beta

        parts = zip(self.weights, self.alphas, self.betas, strict=True)
        return np.array([w * beta.pdf(x, a, b) for w, a, b in parts]).clip(1e-12)

    def fit(self, x: np.ndarray, iterations: int = 10) -> Straightforward:
        for _ in range(iterations):
            r = self.weighted(x)
            r = r / r.sum(0)
            for k in (0, 1):
                mean = np.average(x, weights=r[k])
                var = np.average((x - mean) ** 2, weights=r[k])
                self.alphas[k] = mean * (mean * (1 - mean) / var - 1)
                self.betas[k] = self.alphas[k] * (1 - mean) / mean
                self.weights[k] = r[k].mean()
        return self

    def posterior(self, x: np.ndarray) -> np.ndarray:
        r = self.weighted(x)
        return r[1] / r.sum(0)


def speed() -> None:
    """The table of times."""
    for size, n in SIZES.items():
        names = ("numpy + scipy", "torch, exact", "torch, binned", "scikit-learn, Gaussian", "torch, binned, converged")
        if all(f"{size} {name}" in SPEED for name in names):
            continue
        losses = losses_of(n)
        inside, x = scaled(losses)
        reference = Straightforward().fit(inside)
        expected, given = reference.posterior(x), torch.from_numpy(losses)
        torch_inside = torch.from_numpy(inside).float()

        def exact_em(part: torch.Tensor = torch_inside) -> None:
            values = part.double()
            fit(BETA, values, torch.ones_like(values), values, rounds=9)

        def binned_em(part: torch.Tensor = torch_inside) -> None:
            values, count = binned(part, 0.0, 1.0)
            fit(BETA, values, count, values, rounds=9)

        def converged_em(part: torch.Tensor = torch_inside) -> None:
            values, count = binned(part, 0.0, 1.0)
            fit(BETA, values, count, values, rounds=10_000, settled=1e-8)

        def ours(exact: int, converge: bool = False, losses: torch.Tensor = given) -> np.ndarray:
            mixture = LossMixture(exact=exact, converge=converge)
            mixture.fit(losses)
            return mixture(losses).numpy()

        cells: dict[str, tuple[Callable, Callable]] = {
            names[0]: (lambda part=inside: Straightforward().fit(part), lambda part=losses: straightforward(part)),
            names[1]: (exact_em, lambda: ours(10**9)),
            names[2]: (binned_em, lambda: ours(0)),
            names[3]: (lambda part=inside: gaussian(part), lambda part=losses: gaussian(scaled(part)[0])),
            names[4]: (converged_em, lambda: ours(0, True)),
        }
        slow = None
        for name, (em, whole) in cells.items():
            seconds = best(em)
            slow = slow or seconds
            difference = "–"
            if name.startswith("torch"):
                found = whole()
                rises = monotone(reference, x)  # elsewhere ours is repaired
                difference = f"{np.abs(found - expected.clip(EPS, 1 - EPS))[rises].max():.1e}"
            row = [f"{1e3 * seconds:.2f}", f"{slow / seconds:.0f} x", f"{1e3 * best(whole):.1f}", difference]
            SPEED.append(f"{size} {name}", [*row, today(), processor()])


def monotone(reference: Straightforward, x: np.ndarray) -> np.ndarray:
    """Where the posterior has not turned: ours is the same there."""
    a, b = (float(np.diff(p)[0]) for p in (reference.alphas, reference.betas))
    turns = a / (a + b) if a * b > 0 else None
    return np.ones(len(x), bool) if turns is None else x <= turns if a > 0 else x >= turns


def straightforward(losses: np.ndarray) -> np.ndarray:
    """Percentiles, fit and scores."""
    inside, x = scaled(losses)
    return Straightforward().fit(inside).posterior(x)


def gaussian(x: np.ndarray) -> np.ndarray:
    """scikit-learn's Gaussian mixture with its defaults."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return GaussianMixture(2, max_iter=10, random_state=0).fit(x[:, None]).means_


def best(work: Callable, runs: int = RUNS) -> float:
    """Least seconds of so many runs, after one that does not count."""
    work()
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)


def guards() -> None:
    """The table of guards."""
    from bench.cleaners import of_digits
    from curator.engine.run import Run
    from curator.engine.views import Views
    from curator.methods.bootstrap import Bootstrap
    from curator.result.metrics import precision_recall_f1

    for noise in ("sym:0", "sym:0.05", "sym:0.1", "sym:0.2", "sym:0.4", "sym:0.8", "asym:0.4"):
        if noise in GUARD:
            continue
        data, truth = of_digits(noise)
        run = Run(seed=1, net="small", views=Views(flip=False))
        method = Bootstrap(
            target="given", epochs=24, warmup=24, first_drop=8, second_drop=20, batch_size=64, reading="paper"
        )
        for found in method(data, run):  # noqa: B007 (the last one is the result)
            run.close_epoch()
        losses = torch.nn.functional.cross_entropy(run.registered["logits"], data.labels, reduction="none")
        wrong, flagged = data.labels.numpy() != truth, []
        for guard in (False, True):
            mixture = LossMixture(guard=guard)
            mixture.fit(losses)
            flagged.append((mixture(losses) > 0.5).numpy())
        inside, _ = scaled(losses.numpy())
        f1 = [precision_recall_f1(part, wrong)[2] if wrong.any() else None for part in flagged]
        GUARD.append(noise, [
            f"{wrong.mean():.3f}", f"{float((found.probs.argmax(1) == data.labels).float().mean()):.3f}",
            *(f"{bic_gain(inside, iterations):+.0f}" for iterations in (10, 1000)),
            *(f"{part.mean():.3f}" for part in flagged),
            *("–" if value is None else f"{value:.3f}" for value in f1), today(), processor(),
        ])  # fmt: skip


def bic_gain(x: np.ndarray, iterations: int) -> float:
    """BIC of one Beta component less that of two, on scaled losses: above 0 two are held to be there."""
    from scipy.stats import beta

    two, n = Straightforward().fit(x, iterations), len(x)
    mean, var = x.mean(), x.var()
    a = mean * (mean * (1 - mean) / var - 1)
    one = beta.logpdf(x, a, a * (1 - mean) / mean).sum()
    return float(2 * (np.log(two.weighted(x).sum(0)).sum() - one) - 3 * np.log(n))


if __name__ == "__main__":
    speed()
    guards()
