"""Site tests of two levels that vary unlike: each side its own dispersion and its own prior."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import ndtr, ndtri, stdtr

from melisma.design import Comparison
from melisma.differential import _effects, _unequal
from melisma.differential._effects import Effects
from melisma.differential._engine import (
    NO_PRIOR,
    UNTESTABLE,
    Engine,
    build_engine,
    can_test,
    in_threads,
)
from melisma.differential._kernels import MAX_SKEWNESS, ROUNDING, Floats, SiteFit
from melisma.differential._learning import _ENOUGH_SITES as ENOUGH_SITES
from melisma.differential._learning import learning_counts
from melisma.differential._moderation import (
    NO_DISPERSION,
    Dispersion,
    Prior,
    estimate_dispersion,
    estimate_prior,
    moderate,
    outlier_limits,
)
from melisma.differential._unequal import SIDES, SidesFit, satterthwaite, sides_of
from melisma.errors import MelismaError

# A side that is to expect fewer reads of the rarer state says nothing about its variance.
MIN_SIDE_READS = 2
UNTESTABLE_SIDES = (
    f"{UNTESTABLE[0]}, or fewer than {MIN_SIDE_READS} to be expected in a level",
    "too few samples of a level with reads",
    UNTESTABLE[2],
)


@dataclass(frozen=True)
class UnequalEngine(Engine):
    """A comparison of two sides, each with its own rho by level and prior of dispersions.

    `dispersions` and `priors` have one for each of the higher level, the lower and other units;
    `full_prior` is of dispersions about the full model's means at these, for intervals. What else
    is there is that of equal variances.
    """

    dispersions: tuple[Dispersion, ...] = (NO_DISPERSION,) * SIDES
    priors: tuple[Prior, ...] = (NO_PRIOR,) * SIDES

    @property
    def sides(self) -> npt.NDArray[np.int64]:
        """(units,) 0 for the higher level, 1 for the lower, 2 for other units."""
        return sides_of(_side(self.comparison))

    def effective(self, methylated: Floats, coverage: Floats) -> tuple[Floats, Floats]:
        """Effective reads by each side's own rho at a site's pooled level, and the methylated."""
        reads = coverage.sum(axis=1)
        level = methylated.sum(axis=1) / np.maximum(reads, 1e-300)
        rho = np.stack([np.interp(level, *own) for own in self.dispersions], axis=1)
        share = 1.0 / (1.0 + np.maximum(coverage - 1.0, 0.0) * rho[:, self.sides])
        return methylated * share, coverage * share

    def fit_sides(self, methylated: Floats, coverage: Floats) -> tuple[SiteFit, SidesFit]:
        """Score test at every site of a block of unit counts; `df` is that of the poorer side."""
        comparison = self.comparison

        def kernel(m: Floats, n: Floats, reads: Floats) -> Any:
            return _unequal.fit_sides(
                m, n, reads, comparison.reduced, self.group, self.n_groups,
                comparison.exposure, self.sides,
            )  # fmt: skip

        by_side = SidesFit(*in_threads(kernel, *self.effective(methylated, coverage), coverage))
        reads, marked = coverage.sum(axis=1), methylated.sum(axis=1)
        counts = by_side.information > 0
        poorest = np.where(counts, by_side.df, np.inf).min(axis=1)
        said = np.where(counts, by_side.minor, np.inf).min(axis=1) >= MIN_SIDE_READS - ROUNDING
        # Both sides are estimated, whatever a site's covariates leave of one.
        poorest = np.where(counts[:, :2].all(axis=1), poorest, 0.0)
        fit = SiteFit(
            score=by_side.score,
            information=by_side.information.sum(axis=1),
            residual=by_side.residual.sum(axis=1),
            df=np.floor(poorest).astype(np.int32),
            used=(coverage > 0).sum(axis=1, dtype=np.int32),
            minor=np.where(said, np.minimum(marked, reads - marked), 0.0),
            level=np.where(reads > 0, marked / np.maximum(reads, 1e-300), np.nan),
            excess=by_side.excess.sum(axis=1),
            skewness=by_side.skewness,
            max_skewness=MAX_SKEWNESS,
        )
        return fit, by_side

    def test(self, methylated: Floats, coverage: Floats) -> tuple[SiteFit, Floats, Floats, Floats]:
        """The fit, and t, its degrees of freedom and p, NaN where a site is not tested."""
        fit, by_side = self.fit_sides(methylated, coverage)
        keep = can_test(fit)
        units = self.comparison.n_units
        moderated = [
            moderate(by_side.residual[:, k], by_side.df[:, k], prior, outlier_limits(prior, units))
            for k, prior in enumerate(self.priors)
        ]
        variance, df, weight = satterthwaite(
            by_side.information,
            np.maximum(
                np.stack([dispersion for dispersion, _ in moderated], axis=1), by_side.least
            ),
            np.stack([own for _, own in moderated], axis=1),
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            statistic = np.where(keep, fit.score / np.sqrt(variance), np.nan)
        # stdtr does not take infinite degrees of freedom; 1e10 is the normal to 10 digits.
        tail = stdtr(np.minimum(df, 1e10), -np.abs(statistic))
        score = -np.sign(statistic) * ndtri(np.maximum(tail, 1e-300))
        moved = self._tails(methylated, coverage, score, weight, keep)
        changed = np.where(moved == score, tail, ndtr(-np.abs(moved)))
        return fit, statistic, df, np.where(keep, 2.0 * changed, np.nan)

    def _tails(
        self,
        methylated: Floats,
        coverage: Floats,
        score: Floats,
        weight: Floats,
        keep: npt.NDArray[np.bool_],
    ) -> Floats:
        comparison = self.comparison

        def kernel(
            m: Floats, n: Floats, z: Floats, w: Floats, k: npt.NDArray[np.bool_]
        ) -> tuple[Floats]:
            return (
                _unequal.tails_of_sides(
                    m, n, comparison.reduced, self.group, self.n_groups,
                    comparison.exposure, self.sides, z, w, k,
                ),
            )  # fmt: skip

        return in_threads(kernel, *self.effective(methylated, coverage), score, weight, keep)[0]

    def effects(self, methylated: Floats, coverage: Floats) -> Effects:
        """The contrast on the 0-1 scale at every site, by each side's own effective reads."""
        comparison = self.comparison

        def kernel(m: Floats, n: Floats) -> Any:
            return _effects.effects(
                m, n, comparison.reduced, comparison.exposure, _side(comparison), *NO_DISPERSION
            )

        return Effects(*in_threads(kernel, *self.effective(methylated, coverage)))


def check_unequal(comparison: Comparison) -> None:
    """Variances of two sides are for a difference of two levels between independent units."""
    if comparison.unit == "samples within blocks" or comparison.correlated is not None:
        raise MelismaError(
            "Unequal variances are not for comparisons within blocks, where each block is compared "
            "with itself."
        )
    if comparison.k > 1 or comparison.side is None or comparison.contrast.levels is None:
        raise MelismaError(
            f"{comparison.contrast.name} is not a difference of two levels: unequal variances are "
            "for contrasts such as cell[b] - cell[a]."
        )
    along = comparison.exposure / np.linalg.norm(comparison.exposure)
    left = 1.0 - (comparison.reduced**2).sum(axis=1) - along**2
    for level, sign in zip(comparison.contrast.levels, (1, -1), strict=True):
        if left[comparison.side == sign].sum() < 1.0 - 1e-6:
            raise MelismaError(
                f"The {level} side has too few samples for a variance of its own: not one degree "
                "of freedom is left."
            )


def _side(comparison: Comparison) -> npt.NDArray[np.int8]:
    assert comparison.side is not None
    return comparison.side


def build_unequal(methylome: xr.Dataset, comparison: Comparison) -> UnequalEngine:
    """Learn each side's rho and prior, from that side's units, at the sites that teach.

    Raises
    ------
    MelismaError
        `check_unequal` refuses the comparison, or no site can be tested.
    """
    check_unequal(comparison)
    common = build_engine(methylome, comparison, unequal=True)
    engine = UnequalEngine(**{f.name: getattr(common, f.name) for f in fields(common)})
    methylated, coverage = learning_counts(methylome, engine.pool)
    fit, by_side = engine.fit_sides(methylated, coverage)
    keep = can_test(fit)
    if not keep.any():
        raise MelismaError("No site can be tested: none has reads in two samples of each level.")
    dispersions = [_dispersion_of_side(fit, by_side, keep, k) for k in range(SIDES)]
    engine = replace(engine, dispersions=tuple(dispersions))
    fit, by_side = engine.fit_sides(methylated, coverage)
    keep = can_test(fit)
    priors = [
        _prior_of_side(by_side, keep, k, int((engine.sides == k).sum())) for k in range(SIDES)
    ]
    effects = engine.effects(methylated[keep], coverage[keep])
    return replace(
        engine,
        priors=tuple(priors),
        full_prior=_prior(effects.residual, effects.df.astype(float)),
        learned_from=int(keep.sum()),
    )


def _dispersion_of_side(
    fit: SiteFit, by_side: SidesFit, keep: npt.NDArray[np.bool_], k: int
) -> Dispersion:
    """rho by level from one side's residuals at rho = 0."""
    df = by_side.df[:, k]
    alone = fit._replace(residual=by_side.residual[:, k], df=df, excess=by_side.excess[:, k])
    return estimate_dispersion(alone, keep & (df >= 1))


def _prior_of_side(by_side: SidesFit, keep: npt.NDArray[np.bool_], k: int, units: int) -> Prior:
    """From sites where the side expects two reads of the rarer state a unit, if there are enough.

    Of fewer reads its levels often agree by chance, and its dispersion is then 0.
    """
    well = keep & (by_side.minor[:, k] >= 2 * units - ROUNDING)
    rows = well if well.sum() >= ENOUGH_SITES else keep
    return _prior(by_side.residual[rows, k], by_side.df[rows, k])


def _prior(residual: Floats, df: Floats) -> Prior:
    own = df >= 1
    return estimate_prior(residual[own] / df[own], df[own])
