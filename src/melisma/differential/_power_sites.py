"""Power of the site test from what the engine learned of a pilot.

Sites are drawn one by one from the engine's own model: a level and an expected coverage of the
pilot, a dispersion from the prior, beta-binomial reads of every sample. The engine, its dispersion
and prior held at what they are, tests them. No normal or noncentral t is assumed: at a handful of
samples the score's tails are lighter than theirs, which overstates power by up to .1.

The threshold is the one at which Benjamini and Hochberg's procedure is at rest: alpha times all
tests is q times all rejections, those of sites that differ counted at the power that alpha gives.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import polygamma

from melisma.design import make_design
from melisma.differential._engine import Engine, _groups, can_test
from melisma.differential._moderation import Prior, inverse_trigamma, outlier_limits
from melisma.differential._sheets import group_sheet
from melisma.differential._spread import COVERAGE_SHAPE
from melisma.differential.sites import one_comparison, two_sided
from melisma.errors import MelismaError

Floats = npt.NDArray[np.floating[Any]]

GROUPS = ("a", "b")
CONTRAST = "group[b] - group[a]"
# Sites drawn for a point: so many that the error of a power is below .01.
_DRAWN = 10_000
_FEWEST_DRAWN = 3_000
_MOST_COUNTS = 600_000
# Of sites that do not differ only the share that can be tested is asked.
_DRAWN_NULL = 2_000
_MOST_RHO = 0.95
# Above 2 degrees of freedom a scaled inverse chi-square has a mean.
_HAS_MEAN = 2.5


@dataclass(frozen=True)
class Setting:
    """What the power of a study depends on besides its size.

    engine : of the pilot, whose mean coverage was `pilot_depth`
    level, depth : (sites,) of the pilot; depth over its mean
    paired : pairs as fixed effects; `extra` further columns of the model
    share : of the sites that differ; q : false discovery rate
    """

    engine: Engine
    level: Floats
    depth: Floats
    pilot_depth: float
    paired: bool
    extra: int
    share: float
    q: float
    seed: int


class SitePower(NamedTuple):
    """power : of all sites that differ, found; alpha : the p-value threshold; testable : share."""

    power: float
    alpha: float
    testable: float


def site_power(setting: Setting, delta: float, samples: int, depth: float) -> SitePower:
    """Power of the site test for `samples` a group (or pairs) at a mean coverage of `depth`.

    Parameters
    ----------
    delta : difference of levels, towards the side of 1/2, of the sites that differ
    """
    engine = study_engine(setting, samples, depth)
    if engine is None:
        return SitePower(0.0, 0.0, 0.0)
    p = drawn_p(setting, engine, delta, samples, depth)
    same = drawn_p(setting, engine, 0.0, samples, depth)
    testable = float(np.isfinite(p).mean())
    null = (1 - setting.share) * float(np.isfinite(same).mean())
    tested = setting.share * testable + null
    ordered = np.sort(p[np.isfinite(p)])
    found = np.arange(1, len(ordered) + 1) / len(p)
    meets = ordered * (tested - setting.q * null) <= setting.q * setting.share * found
    if not meets.any():
        return SitePower(0.0, 0.0, testable)
    last = int(np.flatnonzero(meets)[-1])
    return SitePower(float(found[last]), float(ordered[last]), testable)


@cache
def _comparison(samples: int, paired: bool, extra: int) -> Any:
    """The comparison of a study of this size; extra columns are balanced over the groups."""
    sheet = group_sheet(dict.fromkeys(GROUPS, samples), pairs=paired)
    terms = ["group"]
    for k in range(extra):
        name = f"x{k}"
        # A wave over the members of a group: the same values in each, columns unlike each other.
        sheet[name] = [float(np.cos(np.pi * (k + 1) * (j + 0.5) / samples)) for j in range(samples)]
        sheet[name] *= len(GROUPS)
        terms.append(name)
    if paired and extra:
        # The same in both members of a pair would say nothing: the second one's are in reverse.
        for k in range(extra):
            sheet[f"x{k}"] = sheet[f"x{k}"][:samples] + sheet[f"x{k}"][samples:][::-1]
    design = make_design(sheet, f"~ {' + '.join(terms)}", block="pair" if paired else None)
    try:
        return one_comparison(design, CONTRAST)
    except MelismaError:
        return None


def study_engine(setting: Setting, samples: int, depth: float) -> Engine | None:
    """The pilot's engine for a study of another size; None without a degree of freedom."""
    comparison = _comparison(samples, setting.paired, setting.extra)
    if comparison is None:
        return None
    group, n_groups = _groups(comparison.reduced)
    prior = prior_at(setting, depth)
    return replace(
        setting.engine,
        comparison=comparison,
        group=group,
        n_groups=n_groups,
        prior=prior,
        limits=outlier_limits(prior, comparison.n_units),
    )


def prior_at(setting: Setting, depth: float) -> Prior:
    """The prior of a site's dispersion at another coverage.

    rho enters a site's dispersion as (N - 1) rho / (1 + (N - 1) rho), so that sites differ more
    where coverage is higher: the logarithm's variance goes with the square of that.
    """
    prior = setting.engine.prior
    if np.isinf(prior.df):
        return prior
    rho = float(np.mean(_rho(setting, setting.level)))
    now, then = (
        max(reads - 1, 0.0) * rho / (1 + max(reads - 1, 0.0) * rho)
        for reads in (depth, setting.pilot_depth)
    )
    spread = float(polygamma(1, prior.df / 2)) * (max(now, 1e-6) / max(then, 1e-6)) ** 2
    df = 2 * inverse_trigamma(spread)
    # The mean dispersion, scale df / (df - 2), is rho's and stays.
    scale = prior.scale
    if min(df, prior.df) > _HAS_MEAN:
        scale *= prior.df / (prior.df - 2) * (df - 2) / df
    return Prior(df, scale)


def _rho(setting: Setting, level: Floats) -> Floats:
    dispersion = setting.engine.dispersion
    return np.interp(level, dispersion.knots, dispersion.rho)


def drawn_p(setting: Setting, engine: Engine, delta: float, samples: int, depth: float) -> Floats:
    """p-values of drawn sites, (drawn,), NaN where a site cannot be tested."""
    most = int(np.clip(_MOST_COUNTS // (2 * samples), _FEWEST_DRAWN, _DRAWN))
    drawn = most if delta else _DRAWN_NULL
    rng = np.random.default_rng((setting.seed, samples, round(1000 * depth), round(1e6 * delta)))
    pick = rng.integers(0, len(setting.level), drawn)
    low = setting.level[pick]
    high = low + np.where(low < 0.5, delta, -delta)
    scale = _rho_scale(setting, low, rng)
    shape = (drawn, samples)
    expected = (setting.depth[pick] * depth)[:, None]
    methylated, coverage = [], []
    for level in (low, high):
        reads = rng.poisson(rng.gamma(COVERAGE_SHAPE, expected / COVERAGE_SHAPE, shape))
        rho = np.clip(_rho(setting, level) * scale, 1e-6, _MOST_RHO)[:, None]
        odds = (1 - rho) / rho
        own = rng.beta(
            np.maximum(level[:, None] * odds, 1e-3), np.maximum((1 - level)[:, None] * odds, 1e-3),
            shape,
        )  # fmt: skip
        methylated.append(rng.binomial(reads, own))
        coverage.append(reads)
    fit = engine.fit(
        np.hstack(methylated).astype(np.float64), np.hstack(coverage).astype(np.float64)
    )
    variance, df = engine.variance(fit)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(can_test(fit), fit.score / np.sqrt(fit.information * variance), np.nan)
    return two_sided(t, df)


def _rho_scale(setting: Setting, level: Floats, rng: np.random.Generator) -> Floats:
    """Each site's rho over that of its level, from a dispersion drawn from the prior."""
    prior, reads = setting.engine.prior, max(setting.pilot_depth - 1, 0.1)
    common = np.maximum(_rho(setting, level), 1e-6)
    if np.isinf(prior.df):
        dispersion = np.full(len(level), prior.scale)
    else:
        dispersion = prior.scale * prior.df / rng.chisquare(prior.df, len(level))
    return np.maximum((dispersion * (1 + reads * common) - 1) / (reads * common), 0.0)
