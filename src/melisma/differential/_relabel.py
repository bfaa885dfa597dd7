"""Relabellings: the exposure's rows moved among units that the null makes exchangeable.

The exposure is first residualised on the reduced model (Smith's method; Winkler et al. 2014), then
its rows are permuted within exchangeability blocks: whole samples keep their counts. Relabellings
that differ only in sign give the same regions and count as one.
"""

from math import factorial

import numpy as np

from melisma.design import Comparison
from melisma.differential._kernels import Floats


def residual_exposure(comparison: Comparison) -> Floats:
    """The exposure without the reduced model's span, of unit length, (units,)."""
    return comparison.exposure / np.linalg.norm(comparison.exposure)


def count_distinct(comparison: Comparison) -> int:
    """How many distinct relabellings exist, the observed one among them, mirror images as one."""
    values = np.round(residual_exposure(comparison), 9)
    total, symmetric = 1, True
    for block in np.unique(comparison.exchange):
        inside = values[comparison.exchange == block]
        _, counts = np.unique(inside, return_counts=True)
        total *= factorial(len(inside))
        for count in counts:
            total //= factorial(int(count))
        symmetric &= np.allclose(np.sort(-inside), np.sort(inside), atol=1e-8)
    return max(total // 2, 1) if symmetric else total


def draw_relabellings(comparison: Comparison, wanted: int, seed: int) -> Floats:
    """Up to `wanted` distinct relabelled exposures, (relabellings, units), without the observed."""
    rng = np.random.default_rng(seed)
    residual = residual_exposure(comparison)
    # In the order of the names, so that the draw does not depend on the samples' order.
    order = np.argsort(np.array(comparison.names), kind="stable")
    members = sorted(
        (order[comparison.exchange[order] == block] for block in np.unique(comparison.exchange)),
        key=lambda inside: comparison.names[inside[0]],
    )
    seen = {_canonical(residual)}
    drawn: list[Floats] = []
    for _ in range(100 * wanted):
        if len(drawn) == wanted:
            break
        moved = residual.copy()
        for inside in members:
            moved[inside] = residual[rng.permutation(inside)]
        key = _canonical(moved)
        if key not in seen:
            seen.add(key)
            drawn.append(moved)
    return np.array(drawn).reshape(len(drawn), len(residual))


def _canonical(exposure: Floats) -> bytes:
    """The same bytes for an exposure and its mirror image."""
    rounded = np.round(exposure, 9) + 0.0
    first = rounded[np.argmax(rounded != 0)]
    return (rounded * (1.0 if first >= 0 else -1.0) + 0.0).tobytes()
