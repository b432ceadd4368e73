"""How likely a label is wrong by its row's loss: Arazo et al. (ICML 2019), section 3.1, and its Gaussian alternative.

Losses are stretched between their 5th and 95th percentile, a mixture of two Beta (or Gaussian) distributions is fitted
to those between, and a loss is judged by the posterior of the component with the larger mean.

Where the released code differs from what is done here, an option has it (see LossMixture): it reads the posterior from
a table of 100 entries, which can turn into ones from end to end, and takes the second component for the noisy one,
which it need not be. In the fit its densities are floored at 1e-12; this moves no posterior by more than 1e-8 and is
not followed.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from curator.signals.em import BETA, EXACT, Components, Family, binned, fit, gaussian, log_odds
from curator.signals.gmm import two_means

EPS = 1e-4  # scaled losses, and posteriors, keep so far from 0 and 1
ENTRIES = 100  # of the released code's table


class LossMixture(nn.Module):
    """A mixture fitted to losses that turns losses into posteriors of a wrong label; its state is a checkpoint's.

    Until it is fitted every posterior is 1/2 (or what the guard leaves of it). Losses that cannot be fitted (fewer than
    two distinct ones, or one that is not a number) leave it as it was.
    """

    window: Tensor  # (2,), a loss is scaled as (loss - window[0]) / window[1]
    clip: Tensor  # (2,), where scaled losses are clipped before they are judged
    line: Tensor  # (3,), log-odds of the noisy component by the family's statistics
    mean: Tensor  # (2,) of the clean and the noisy component, as their variances and weights
    var: Tensor
    weight: Tensor
    table: Tensor  # (ENTRIES,)

    def __init__(
        self,
        family: Literal["beta", "gaussian"] = "beta",
        *,
        iterations: int = 10,  # M-steps: the published fit, which is not converged
        converge: bool = False,  # iterate until means and weights stand still
        scale: Literal["percentile", "max"] = "percentile",  # released code, or the paper's division by the maximum
        ordering: Literal["mean", "index"] = "mean",  # what makes a Beta component the noisy one
        posterior: Literal[
            "exact", "table"
        ] = "exact",  # with its monotone repair, or as released: Beta's table, or none
        guard: bool = False,  # no label is flagged more surely than the net itself doubts it
        exact: int = EXACT,  # rows up to which the fit sees every loss
    ):
        super().__init__()
        self.kind, self.iterations, self.converge = family, iterations, converge
        self.scale, self.ordering, self.posterior, self.guard = scale, ordering, posterior, guard
        self.exact = exact
        # scikit-learn's defaults, which the reproduction of the paper used
        self.family: Family = BETA if family == "beta" else gaussian(1e-6)
        for name, start in {
            "window": [0.0, 1.0], "clip": [EPS, 1 - EPS], "line": [0.0] * 3, "table": [0.5] * ENTRIES,
            "mean": [0.0, 0.0], "var": [0.0, 0.0], "weight": [1.0, 0.0],
        }.items():  # fmt: skip
            self.register_buffer(name, torch.tensor(start, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, losses: Tensor) -> None:
        """Fit to losses (n,) >= 0, from scratch."""
        losses = losses.to(self.line.device)
        if len(losses) < 2 or not torch.isfinite(losses).all():
            return
        if self.scale == "percentile":
            low, high = percentiles(losses, 5, 95)
            window = [low + 1e-5, high - (low + 1e-5) + 1e-6]  # the released constants
        else:
            low, high = 0.0, float(losses.max())
            window = [0.0, high]
        if not high > low:
            return
        before = self.window.clone()
        self.put(window=window)
        if len(losses) <= self.exact:
            x = self.scaled(losses[(losses >= low) & (losses <= high)].double())
            count = torch.ones_like(x)
        else:
            x, count = binned((losses - window[0]) / window[1], 0.0, 1.0)
            if self.scale == "percentile":  # between the percentile and the window's start
                edge = ((losses >= low) & (losses < window[0])).sum()[None]
                x, count = torch.cat([x, x.new_tensor([0.001])]), torch.cat([count, edge.double()])
            x = x.clamp(EPS, 1 - EPS)
        if len(x) < 2 or x.min() == x.max():
            self.window.copy_(before)
            return
        # Densities 2 (1 - x) and 2 x of the released start make x itself the first responsibility.
        upper = x if self.kind == "beta" else two_means(x, count).double()
        if self.converge:
            components = fit(self.family, x, count, upper, rounds=10_000, settled=1e-8)
        elif self.kind == "beta":
            components = fit(self.family, x, count, upper, rounds=self.iterations - 1)
        else:  # scikit-learn takes the first M-step for a start
            components = fit(self.family, x, count, upper, rounds=self.iterations, tol=1e-3)
        if not all(torch.isfinite(part).all() for part in components):
            self.window.copy_(before)
            return
        self.take(components if self.ordering == "index" and self.kind == "beta" else components.ordered())

    def take(self, components: Components) -> None:
        """Judge by these components, the second of which is the noisy one."""
        for name in ("mean", "var", "weight"):
            getattr(self, name).copy_(getattr(components, name))
        self.line.copy_(components.line())
        self.put(clip=rising(self.kind, self.line) if self.posterior == "exact" else [EPS, 1 - EPS])
        self.table.copy_(released_table(components, self.family))

    def summary(self) -> dict[str, Any]:
        """The fit as JSON values; the share of the noisy component counts hard rows, too."""
        return {
            "mixture_noisy_share": round(float(self.weight[1]), 4),
            "mixture_means": [round(float(value), 4) for value in self.mean],  # of scaled losses: clean, noisy
        }

    def put(self, **values: list[float]) -> None:
        """Set buffers by name."""
        for name, value in values.items():
            buffer = getattr(self, name)
            buffer.copy_(torch.tensor(value, dtype=buffer.dtype))

    def scaled(self, losses: Tensor) -> Tensor:
        """Losses on the mixture's scale, in [EPS, 1 - EPS]; those outside the window are put at its ends."""
        start, width = self.window.to(losses.dtype)
        x = (losses - start) / width
        if self.scale == "percentile":
            x = torch.where(x >= 1, 0.999, torch.where(x <= 0, 0.001, x))  # released: not 1 and 0
        return x.clamp(EPS, 1 - EPS)

    @torch.no_grad()
    def forward(self, losses: Tensor) -> Tensor:
        """Posterior (n,) float32 of a wrong label, in [EPS, 1 - EPS]."""
        losses = losses.to(self.line.device)
        x = self.scaled(losses)
        if self.posterior == "table" and self.kind == "beta":
            found = self.table[(ENTRIES * x).long().clamp_max(ENTRIES - 1)]
        else:
            low, high = self.clip.to(x.dtype)
            found = log_odds(self.line.to(x.dtype), self.family.statistics(x.clamp(low, high))).sigmoid()
        if self.guard:
            found = found.minimum(1 - (-losses).exp())
        return found.float().clamp(EPS, 1 - EPS)


def released_table(components: Components, family: Family) -> Tensor:
    """Posterior (ENTRIES,) of the second component between 0 and 1; from its largest entry on it stays that.

    Densities are divided by their sum + 1e-12: where both vanish, as next to 0 late in training, no row is noisy.
    Without it such a table begins with a 1, and is ones from end to end.
    """
    grid = torch.linspace(1e-12, 1 - 1e-12, ENTRIES, dtype=torch.float64, device=components.mean.device)
    clean, noisy = (components.slope @ family.statistics(grid) + components.constant[:, None]).exp()
    table = noisy / (clean + noisy + 1e-12)
    table[int(table.argmax()) :] = table.max()
    return table


def rising(kind: str, line: Tensor) -> list[float]:
    """[low, high] within (0, 1) between which the log-odds rise; clipped there a posterior is monotone.

    The log-odds have one stationary point at most. Where they fall behind it, high losses would look clean, and where
    they fall before it, low losses noisy.
    """
    a, b, _ = line.tolist()
    # Beta: a ln x + b ln(1 - x) turns at a / (a + b). Gaussian: a x + b x^2 turns at -a / 2b.
    if kind == "beta":
        turns, falls_after = (a / (a + b), a > 0) if a * b > 0 else (None, a >= 0)
    else:
        turns, falls_after = (-a / (2 * b), b < 0) if b != 0 else (None, a >= 0)
    if turns is None or not EPS < turns < 1 - EPS:
        return [EPS, 1 - EPS]
    return [EPS, turns] if falls_after else [turns, 1 - EPS]


def percentiles(values: Tensor, *shares: float) -> list[float]:
    """Percentiles of values (n,), with linear interpolation."""
    return cast(list[float], np.percentile(values.cpu().numpy(), shares).tolist())
