"""Many mediators at a stated false discovery rate: simulated z scores, the truth known.

The sizes were set before a result was seen: 10,000 mediators, effects of 3 to 5 standard errors of
either sign, drawn anew for each mediator and side; 5% asked for. In correlated nulls blocks of 20
mediators share half of their variance on either side.
"""

from typing import Any

import numpy as np

from melisma.differential.sites import benjamini_hochberg
from melisma.trace.composite import composite_null

MEDIATORS, BLOCK, SHARED = 10_000, 20, 0.5
LOW, HIGH = 3.0, 5.0
RATE = 0.05
# Shares with neither effect, the exposure's only, the outcome's only, both.
REGIMES = {
    "usual": (0.88, 0.05, 0.05, 0.02),
    "sparse": (0.98, 0.008, 0.008, 0.004),
    "dense": (0.60, 0.30, 0.05, 0.05),
}
NULLS = {
    "global": ((1.0, 0.0, 0.0, 0.0), False),
    "only_exposure": ((0.9, 0.1, 0.0, 0.0), False),
    "only_outcome": ((0.9, 0.0, 0.1, 0.0), False),
    "one_sided_both": ((0.9, 0.05, 0.05, 0.0), False),
    "global_correlated": ((1.0, 0.0, 0.0, 0.0), True),
    "only_exposure_correlated": ((0.9, 0.1, 0.0, 0.0), True),
    "one_sided_both_correlated": ((0.9, 0.05, 0.05, 0.0), True),
}


def measure(quick: bool, seed: int) -> dict[str, Any]:
    """Realised rates and power of the composite null beside the max-p rule."""
    many, nulls = (20, 40) if quick else (400, 2000)
    seed += 2025
    return {
        "mediation": {
            name: _regime(shares, many, seed + k)
            for k, (name, shares) in enumerate(REGIMES.items())
        },
        "mediation_null": {
            name: _any_call(*told, nulls, seed + 100 + k)
            for k, (name, told) in enumerate(NULLS.items())
        },
    }


def draw(
    rng: np.random.Generator, shares: tuple[float, ...], correlated: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p-values of the two sides, (m,) each, and which mediators have both effects."""
    from scipy.special import ndtr

    state = rng.choice(4, size=MEDIATORS, p=shares)
    sides = []
    for has in (np.isin(state, (1, 3)), np.isin(state, (2, 3))):
        noise = rng.normal(size=MEDIATORS)
        if correlated:
            common = np.repeat(rng.normal(size=MEDIATORS // BLOCK), BLOCK)
            noise = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * noise
        size = rng.uniform(LOW, HIGH, MEDIATORS) * rng.choice([-1, 1], MEDIATORS)
        sides.append(2 * ndtr(-np.abs(noise + has * size)))
    return sides[0], sides[1], state == 3


def _regime(shares: tuple[float, ...], many: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    false, power, old, old_false = [], [], [], []
    for _ in range(many):
        a, b, true = draw(rng, shares, False)
        ours = composite_null(a, b, q=RATE).called
        theirs = benjamini_hochberg(np.maximum(a, b)) <= RATE
        for called, rates, powers in ((ours, false, power), (theirs, old_false, old)):
            rates.append((called & ~true).sum() / max(called.sum(), 1))
            powers.append((called & true).sum() / max(true.sum(), 1))
    spread = 1.96 * float(np.std(false, ddof=1)) / np.sqrt(many)
    mean = float(np.mean(false))
    return {
        "fdr": {"value": mean, "low": mean - spread, "high": mean + spread},
        "power": float(np.mean(power)),
        "power_max_p": float(np.mean(old)),
        "fdr_max_p": float(np.mean(old_false)),
        "power_ratio": float(np.mean(power) / max(np.mean(old), 1e-9)),
        "replicates": many,
    }


def _any_call(shares: tuple[float, ...], correlated: bool, many: int, seed: int) -> dict[str, Any]:
    from scipy.stats import beta

    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(many):
        a, b, _true = draw(rng, shares, correlated)
        hits += bool(composite_null(a, b, q=RATE).called.any())
    low = float(beta.ppf(0.025, hits, many - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, many - hits))
    return {"value": hits / many, "low": low, "high": high}
