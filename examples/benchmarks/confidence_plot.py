"""The picture of how far the confidence can be trusted: shares that were right, and expected beside true errors."""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.figure import Figure

Array = np.ndarray
# Confidences between which runs are counted together.
EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def draw_plot(truth: Array, errors: Array, confidence: Array, expected: Array, path: pathlib.Path) -> None:
    """The reliability plot, and the expected beside the true error."""
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, other = figure.subplots(1, 2)
    cells = np.digitize(confidence, EDGES[1:-1])
    for cell in np.unique(cells):
        mine = cells == cell
        share, count = truth[mine].mean(), int(mine.sum())
        left.errorbar(
            confidence[mine].mean(),
            share,
            1.96 * ((share * (1 - share) + 1 / (4 * count)) / count) ** 0.5,
            fmt="o",
            color="#0f7a9c",
        )
        left.annotate(f" {count}", (confidence[mine].mean(), share), color="#66727f", fontsize=8)
    left.plot([0, 1], [0, 1], color="#c0c8d0", zorder=0)
    left.set(
        xlabel="confidence",
        ylabel="share that was right",
        title="On patients not used for calibration",
        ylim=(-0.05, 1.05),
    )
    for wanted, colour, label in ((True, "#0b7d57", "right"), (False, "#b3261e", "wrong")):
        mine = truth == wanted
        other.loglog(expected[mine], errors[mine], ".", color=colour, alpha=0.6, label=label)
    ends = [0.05, 300]
    other.plot(ends, ends, color="#c0c8d0", zorder=0)
    other.set(
        xlabel="expected error, mm", ylabel="true error, mm", title="Mean over the foreground", xlim=ends, ylim=ends
    )
    other.legend(frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
