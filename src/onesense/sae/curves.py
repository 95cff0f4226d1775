"""The picture of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from onesense.sae.train import CurvePoint
from onesense.store.atomic import atomic_path


def draw_curves(curve: Sequence[CurvePoint], target: Path, title: str) -> Path:
    """Draw loss, L0, FVU and dead share over the steps.

    Args:
        curve: Logged steps.
        target: PNG file to write.
        title: Above the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True).flat
    steps = [point.step for point in curve]
    series = {
        "loss": [point.loss for point in curve],
        "L0 (active latents per token)": [point.l0 for point in curve],
        "FVU (share of variance unexplained)": [point.fvu for point in curve],
        "dead share of features": [point.dead_share for point in curve],
    }
    for panel, (name, values) in zip(panels, series.items(), strict=True):
        panel.plot(steps, values, linewidth=1.2)
        panel.set_title(name, fontsize=10)
        panel.grid(alpha=0.3)
        if name == "loss":
            panel.set_yscale("log")
        else:
            panel.set_ylim(bottom=0)
        panel.set_xlabel("step")
    figure.suptitle(f"Training at {title}")
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return target
