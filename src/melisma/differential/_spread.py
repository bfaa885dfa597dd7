"""How much sites differ in their dispersion, from the prior that the engine learned."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import polygamma

from melisma.differential._engine import _ENOUGH_SITES, Engine, can_test
from melisma.differential._moderation import estimate_prior

Floats = npt.NDArray[np.floating[Any]]

# The simulator's coverage of a site varies between samples as a gamma of this shape.
COVERAGE_SHAPE = 8.0
# A log-normal wider than the last has its mean in a few sites, which rho, at most 1, cannot give.
_SPREADS = np.array([0.0, 0.4, 0.8, 1.2, 1.5])
_SITES = 12_000
_SEED = 1
_FEWEST_TO_LEARN = 50


def rho_spread(
    level: Floats, depth: Floats, factors: Floats, engine: Engine, values: Floats
) -> float:
    """The sd of log rho between sites with which drawn sites give the engine's prior.

    Indirect inference: counts make the prior that the engine learns narrower than that of rho, so
    sites are drawn with several spreads and the one that gives the pilot's prior is interpolated.

    Parameters
    ----------
    level, depth : (sites,) of the pilot; factors : (samples,) on the depth
    values : rho at the knots of the engine's dispersion, of which it is a part
    """
    if np.isinf(engine.prior.df):
        return 0.0
    wanted = float(polygamma(1, engine.prior.df / 2))
    found = np.maximum.accumulate(
        [_prior_variance(level, depth, factors, engine, values, s) for s in _SPREADS]
    )
    if wanted <= found[0]:
        return 0.0
    return float(np.interp(wanted, found, _SPREADS))


def _prior_variance(
    level: Floats, depth: Floats, factors: Floats, engine: Engine, values: Floats, spread: float
) -> float:
    """Variance of log dispersion under the prior that the engine learns of drawn sites."""
    rng = np.random.default_rng(_SEED)
    pick = rng.integers(0, len(level), _SITES)
    level = level[pick]
    knots, total = engine.dispersion.knots, np.interp(level, *engine.dispersion[:2])
    own = np.interp(level, knots, values)
    draws = rng.standard_normal(len(level))
    rho = np.maximum(total - own, 0.0) + own * np.exp(spread * draws - spread**2 / 2)
    odds = ((1 - np.minimum(rho, 0.9)) / np.minimum(rho, 0.9))[:, None]
    expected = depth[pick][:, None] * factors
    reads = rng.poisson(rng.gamma(COVERAGE_SHAPE, expected / COVERAGE_SHAPE))
    chance = rng.beta(
        np.maximum(level[:, None] * odds, 1e-3), np.maximum((1 - level)[:, None] * odds, 1e-3),
        reads.shape,
    )  # fmt: skip
    fit = engine.fit(rng.binomial(reads, chance).astype(np.float64), reads.astype(np.float64))
    well = can_test(fit) & (fit.minor >= 2 * len(factors))
    keep = well if well.sum() >= _ENOUGH_SITES else can_test(fit)
    if keep.sum() < _FEWEST_TO_LEARN:
        return 0.0
    prior = estimate_prior(fit.residual[keep] / fit.df[keep], fit.df[keep].astype(float))
    return 0.0 if np.isinf(prior.df) else float(polygamma(1, prior.df / 2))
