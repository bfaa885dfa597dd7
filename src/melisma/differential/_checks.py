"""What a reader of the p-values must know: assumptions that the data do not bear out."""

import numpy as np

from melisma.design import Comparison
from melisma.differential._whitening import Floats

MAX_VARIANCE_RATIO = 1.5
MAX_COVERAGE_R2 = 0.6
_ASSUMED = (
    "p-values assume equal variances and, where the groups' sizes differ, are too small if the "
    "smaller group varies more; relabelled data cannot show this."
)
_OFFER = " melisma sites --variance unequal gives each group a variance of its own."
_ALLOWED = "each group has a variance of its own here."


def check_assumptions(
    comparison: Comparison, residuals: Floats, coverage: Floats, *, unequal: bool = False
) -> tuple[str, ...]:
    """Sentences for groups of unlike variance and an exposure that goes with coverage.

    Parameters
    ----------
    residuals : (sites, units) whitened full-model residuals, rows of unit length or zero
    coverage : (sites, units)
    unequal : the test allows for sides of unlike variance
    """
    notes: list[str] = []
    if comparison.side is not None and comparison.contrast.levels is not None:
        along = comparison.exposure / np.linalg.norm(comparison.exposure)
        leverage = (comparison.reduced**2).sum(axis=1) + along**2
        sides = [comparison.side == 1, comparison.side == -1]
        varies = [(residuals[:, s] ** 2).sum() / max((1 - leverage[s]).sum(), 1e-9) for s in sides]
        order = np.argsort(varies)
        quiet, noisy = (comparison.contrast.levels[k] for k in order)
        within = comparison.unit == "samples within blocks" or comparison.correlated is not None
        ratio = varies[order[1]] / max(varies[order[0]], 1e-9)
        if ratio > MAX_VARIANCE_RATIO:
            notes.append(
                f"The {noisy} samples vary {ratio:.1f} times as much as the {quiet} ones: "
                + (_ALLOWED if unequal else _ASSUMED)
                + ("" if unequal or within else _OFFER)
            )
    depth = np.log(np.maximum(coverage.mean(axis=0), 1e-9))
    depth = depth - comparison.reduced @ (comparison.reduced.T @ depth)
    along = np.linalg.qr(comparison.exposures)[0]
    length = np.linalg.norm(depth)
    share = float(np.sum((depth @ along / length) ** 2)) if length > 1e-9 else 0.0
    if share > MAX_COVERAGE_R2:
        notes.append(
            f"{comparison.contrast.name} goes with coverage (R2 = {share:.2f}): a difference may "
            "come from depth."
        )
    return tuple(notes)
