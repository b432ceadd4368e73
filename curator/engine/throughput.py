"""How much of the card a run uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curator.engine.hardware import forward_flops, peak_flops

if TYPE_CHECKING:
    from curator.engine.run import Run


def mfu(run: Run, shape: tuple[int, ...]) -> float | None:
    """Model FLOPs utilisation of the run so far, of nets that read rows of the shape; None off a known GPU.

    The FLOPs of the training passes are held against the card's dense bf16 peak.
    """
    peak = peak_flops(run.device)
    if peak is None or not run.scorers or not run.steps.seconds:
        return None
    flops = 3 * forward_flops(run.scorers[-1][0], shape) * run.steps.images
    return flops / run.steps.seconds / (peak * run.world)
