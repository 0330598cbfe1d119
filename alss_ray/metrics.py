"""Figures of merit that searches and analyses share."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def aulc(guess: float, labels: Sequence[float], values: Sequence[float], until: float | None = None) -> float:
    """Area under the learning curve over the number of labels, by trapezia, divided by the curve's length.

    It is the curve's mean height, in the metric's own unit. Every curve starts at 0 labels with the value of
    the best guess that looks at no image. So curves of one label budget span the same labels whatever their
    round size: without that start, a larger first round would spare a curve its low beginning.

    Args:
        guess: the metric at 0 labels (`Task.guess`).
        labels: labels bought at each evaluation, increasing, the first above 0.
        values: the metric there.
        until: labels at which the curve is cut, at most the last, between two evaluations on the line that joins
            them; so curves of different round sizes can be compared before they have come to their end.
    """
    if until is not None:
        k = bisect_left(labels, until)
        start, low = (labels[k - 1], values[k - 1]) if k else (0.0, guess)
        cut = low + (values[k] - low) * (until - start) / (labels[k] - start)
        return aulc(guess, [*labels[:k], until], [*values[:k], cut])
    area = labels[0] * (guess + values[0]) / 2
    for k in range(1, len(labels)):
        area += (labels[k] - labels[k - 1]) * (values[k] + values[k - 1]) / 2
    return area / labels[-1]


def display_unit(metric: str) -> tuple[float, str]:
    """What people read a metric in: the factor to multiply it by, and the unit behind it.

    An accuracy is read in per cent and the MSE of maps in thousandths, any other in its own unit.
    """
    return {"accuracy": (100.0, " %"), "MSE": (1000.0, " x 10⁻³")}.get(metric, (1.0, ""))
