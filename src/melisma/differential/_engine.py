"""The site fit over a methylome: dispersion and prior from a part of it, then every site.

`Engine` holds what is common to all sites of one comparison, and turns a block of counts into
statistics; sites and regions both use it.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.special import chdtrc, fdtrc, ndtr, ndtri, stdtr

from melisma.design import Comparison
from melisma.differential import _arcsine, _consensus, _effects, _factors, _kernels, _saddlepoint
from melisma.differential._arcsine_tails import arcsine_tail_scores
from melisma.differential._checks import MAX_VARIANCE_RATIO as MAX_VARIANCE_RATIO
from melisma.differential._checks import check_assumptions
from melisma.differential._effects import Effects
from melisma.differential._kernels import MIN_MINOR_READS, ROUNDING, Floats, SiteFit
from melisma.differential._learning import _ENOUGH_SITES as _ENOUGH_SITES
from melisma.differential._learning import Counts, learning_counts
from melisma.differential._moderation import (
    NO_DISPERSION,
    Dispersion,
    Prior,
    estimate_dispersion,
    estimate_prior,
    moderate,
    outlier_limits,
)
from melisma.errors import MelismaError

_CHECKED_SITES = 50_000
NO_PRIOR = Prior(np.inf, 1.0)


@dataclass(frozen=True)
class Engine:
    """A comparison with its dispersion and prior.

    `group` (units,) and `n_groups` describe a reduced model of one mean a group; `n_groups` is
    0 for others. `prior` is of dispersions about the reduced model's means as the test takes
    them, `full_prior` about the full model's, for intervals. `notes` says what a reader of the
    p-values must know. With `arcsine`, the moments of arcsine levels, site tests are by least
    squares of these. `correlation` is that of a block's members where blocks are incomplete.
    """

    comparison: Comparison
    group: npt.NDArray[np.int64]
    n_groups: int
    dispersion: Dispersion
    prior: Prior
    limits: Floats
    full_prior: Prior
    learned_from: int
    notes: tuple[str, ...] = ()
    arcsine: _arcsine.Moments | None = None
    correlation: float = 0.0

    def pool(self, methylated: Counts, coverage: Counts) -> tuple[Floats, Floats]:
        """M and N of the units, (sites, units) float64, from counts of the samples.

        A block that is a unit has the mean of its members' levels, whatever their coverage, and
        k^2 / sum(1 / N) effective reads; where a member is unseen, the block is.
        """
        marked, reads = methylated.astype(np.float64), coverage.astype(np.float64)
        if self.comparison.unit != "blocks":
            return marked, reads
        shape = (len(reads), self.comparison.n_units)
        level, inverse, seen = np.zeros(shape), np.zeros(shape), np.ones(shape, dtype=bool)
        size = np.bincount(self.comparison.pool)
        for sample, unit in enumerate(self.comparison.pool):
            covered = reads[:, sample] > 0
            n = np.where(covered, reads[:, sample], 1.0)
            level[:, unit] += marked[:, sample] / n / size[unit]
            inverse[:, unit] += 1.0 / n
            seen[:, unit] &= covered
        effective = np.where(seen, size**2 / inverse, 0.0)
        return level * effective, effective

    def fit(self, methylated: Floats, coverage: Floats) -> SiteFit:
        """Score test of the exposure at every site of a block of unit counts."""
        return _fit(self, methylated, coverage, self.dispersion)

    def variance(self, fit: SiteFit) -> tuple[Floats, Floats]:
        """Moderated dispersion of each site for the test, and its degrees of freedom."""
        return moderate(fit.residual, fit.df, self.prior, self.limits)

    def effect_variance(self, effects: Effects) -> tuple[Floats, Floats]:
        """Moderated dispersion of each site for intervals, and its degrees of freedom."""
        limits = outlier_limits(self.full_prior, self.comparison.n_units)
        return moderate(effects.residual, effects.df, self.full_prior, limits)

    def coefficients(self, methylated: Floats, coverage: Floats) -> Floats:
        """The contrast's k coefficients on the 0-1 scale at every site, (sites, k)."""

        def kernel(m: Floats, n: Floats) -> Any:
            return (
                _factors.coefficients(
                    m, n, self.comparison.reduced, self.comparison.exposures,
                    self.dispersion.knots, self.dispersion.rho,
                ),
            )  # fmt: skip

        return in_threads(kernel, methylated, coverage)[0]

    @property
    def has_saddlepoint(self) -> bool:
        """Whether p in the tails is the saddlepoint's."""
        return self.has_tails and self.arcsine is None

    @property
    def has_tails(self) -> bool:
        """Whether p in the tails allows for the score's skewness."""
        blocked = self.comparison.unit == "samples within blocks"
        return not blocked and self.comparison.correlated is None

    def p_values(
        self,
        methylated: Floats,
        coverage: Floats,
        statistic: Floats,
        df: Floats,
        keep: npt.NDArray[np.bool_],
    ) -> Floats:
        """p of every site's t, or F where several coefficients are asked about.

        The tails of t, where the score may be skewed, are by the saddlepoint, those of the fast
        test by the Cornish-Fisher expansion; not within blocks, whose own means two or three units
        cannot tell well enough for it.

        Parameters
        ----------
        statistic, df : (sites,) t or F and the moderated variance's degrees of freedom
        keep : (sites,) the sites that are tested; others have NaN
        """
        comparison = self.comparison
        if comparison.k > 1:
            return np.where(keep, f_tail(statistic, comparison.k, df), np.nan)
        # stdtr does not take infinite degrees of freedom; 1e10 is the normal to 10 digits.
        tail = stdtr(np.minimum(df, 1e10), -np.abs(statistic))
        if not self.has_tails:
            return np.where(keep, 2.0 * tail, np.nan)
        score = -np.sign(statistic) * ndtri(np.maximum(tail, 1e-300))

        def kernel(
            m: Floats, n: Floats, z: Floats, d: Floats, k: npt.NDArray[np.bool_]
        ) -> tuple[Floats]:
            if self.arcsine is not None:
                return (
                    arcsine_tail_scores(
                        m, n, comparison.reduced, _directions(comparison), *self.arcsine,
                        _arcsine.first_level(), z, d, k,
                    ),
                )  # fmt: skip
            return (
                _saddlepoint.tail_scores(
                    m, n, comparison.reduced, self.group, self.n_groups, comparison.exposure,
                    self.dispersion.knots, self.dispersion.rho, z, d, k,
                ),
            )  # fmt: skip

        moved = in_threads(kernel, methylated, coverage, score, df, keep)[0]
        changed = np.where(moved == score, tail, ndtr(-np.abs(moved)))
        return np.where(keep, 2.0 * changed, np.nan)

    def effects(self, methylated: Floats, coverage: Floats) -> Effects:
        """The contrast on the 0-1 scale at every site, with what its interval needs.

        Of a contrast of several coefficients, the first.
        """
        comparison = self.comparison
        side = comparison.side
        sides = np.zeros(comparison.n_units, np.int8) if side is None else side

        def kernel(m: Floats, n: Floats) -> Any:
            return _effects.effects(
                m, n, comparison.reduced, comparison.exposure, sides,
                self.dispersion.knots, self.dispersion.rho,
            )  # fmt: skip

        return Effects(*in_threads(kernel, methylated, coverage))

    def relabelled(
        self, methylated: Floats, coverage: Floats, exposures: Floats, keep: npt.NDArray[np.bool_]
    ) -> tuple[Floats, Floats]:
        """z and a, (relabellings, sites), of `_kernels.relabelled_scores`.

        Where the contrast asks about several coefficients, exposures are (relabellings, units, k)
        and z is the normal score of 1 - p, large where levels differ.
        """
        if exposures.ndim == 3:
            return self._relabelled_ratios(methylated, coverage, exposures, keep)
        if self.comparison.k > 1:
            raise MelismaError(
                f"{self.comparison.contrast.name} compares {self.comparison.k + 1} levels at once, "
                "which relabelled data do not exist for: ask for pairwise"
                f"({self.comparison.contrast.name}) or for one difference."
            )

        def kernel(m: Floats, n: Floats, k: npt.NDArray[np.bool_]) -> Any:
            return _kernels.relabelled_scores(
                m, n, self.comparison.reduced, self.group, self.n_groups, exposures,
                self.dispersion.knots, self.dispersion.rho, self.prior.df, self.prior.scale,
                self.limits, k,
            )  # fmt: skip

        z, a = in_threads(kernel, methylated, coverage, keep, axis=(1, 1))
        return z, a

    def _relabelled_ratios(
        self, methylated: Floats, coverage: Floats, exposures: Floats, keep: npt.NDArray[np.bool_]
    ) -> tuple[Floats, Floats]:
        moved = np.ascontiguousarray(np.swapaxes(exposures, 1, 2))
        moved /= np.linalg.norm(moved, axis=2, keepdims=True)

        def kernel(m: Floats, n: Floats, k: npt.NDArray[np.bool_]) -> Any:
            return _factors.relabelled_ratios(
                m, n, self.comparison.reduced, self.group, self.n_groups, moved,
                self.dispersion.knots, self.dispersion.rho, self.prior.df, self.prior.scale,
                self.limits, k,
            )  # fmt: skip

        ratio, df = in_threads(kernel, methylated, coverage, keep, axis=(1, 1))
        z = -ndtri(np.maximum(f_tail(ratio, self.comparison.k, df), 1e-300))
        return z.astype(np.float32), np.isfinite(ratio).astype(np.float32)

    def residuals(
        self, methylated: Floats, coverage: Floats, keep: npt.NDArray[np.bool_]
    ) -> Floats:
        """Whitened full-model residuals, (sites, units), rows of unit length or zero."""
        if self.comparison.k > 1:
            return _factors.residual_rows_of_several(
                methylated, coverage, self.comparison.reduced, self.group, self.n_groups,
                _directions(self.comparison), self.dispersion.knots, self.dispersion.rho, keep,
            )  # fmt: skip
        return _kernels.residual_rows(
            methylated, coverage, self.comparison.reduced, self.group, self.n_groups,
            self.comparison.exposure, self.dispersion.knots, self.dispersion.rho, keep,
        )  # fmt: skip


def f_tail(ratio: Floats, k: int, df: Floats) -> Floats:
    """p of F on (k, df); df may be infinite.

    >>> f_tail(np.array([3.0, 3.0]), 2, np.array([10.0, np.inf])).round(4).tolist()
    [0.0954, 0.0498]
    """
    finite = fdtrc(k, np.where(np.isinf(df), 1.0, df), ratio)
    return np.where(np.isinf(df), chdtrc(k, k * ratio), finite)


UNTESTABLE = (
    f"fewer than {MIN_MINOR_READS} methylated or {MIN_MINOR_READS} unmethylated reads",
    "too few samples with reads",
    "a score too skewed",
)


def untestable(fit: SiteFit) -> tuple[int, int, int]:
    """How many sites cannot be tested for each reason of `UNTESTABLE`, the first that applies."""
    rare = fit.minor < MIN_MINOR_READS - ROUNDING
    few = ~rare & ((fit.information <= 0) | (fit.df < 1))
    skewed = ~rare & ~few & (np.abs(fit.skewness) > fit.max_skewness + ROUNDING)
    return int(rare.sum()), int(few.sum()), int(skewed.sum())


def can_test(fit: SiteFit) -> npt.NDArray[np.bool_]:
    """Sites with enough minor reads, a residual degree of freedom and a score not too skewed."""
    enough = (fit.minor >= MIN_MINOR_READS - ROUNDING) & (fit.information > 0) & (fit.df >= 1)
    return enough & (np.abs(fit.skewness) <= fit.max_skewness + ROUNDING)


def build_engine(
    methylome: xr.Dataset, comparison: Comparison, *, arcsine: bool = False, unequal: bool = False
) -> Engine:
    """Learn dispersion and prior of a comparison from evenly spaced stretches of the methylome.

    With `arcsine` its site tests are least squares of arcsine levels, else score tests; with
    `unequal` the notes are those of a test that allows for unequal variances.

    Raises
    ------
    MelismaError
        The methylome holds no site that can be tested.
    """
    group, n_groups = _groups(comparison.reduced)
    engine = Engine(
        comparison, group, n_groups, NO_DISPERSION, NO_PRIOR, np.full(1, np.inf), NO_PRIOR, 0
    )
    methylated, coverage = learning_counts(methylome, engine.pool)
    # rho is that of samples taken one by one, whatever they have in common.
    alone = replace(engine, comparison=replace(comparison, correlated=None))
    binomial = alone.fit(methylated, coverage)
    keep = can_test(binomial)
    if not keep.any():
        raise MelismaError(
            "No site can be tested: none has at least 5 methylated and 5 unmethylated reads over "
            "all samples and coverage in enough of them."
        )
    dispersion = estimate_dispersion(binomial, keep)
    if comparison.correlated is not None:
        *_, products = _fit_correlated(engine, methylated[keep], coverage[keep], dispersion)
        across, within = products.sum(axis=0)
        shared = float(np.clip(across / max(within, 1e-300), 0.0, 0.95))
        engine = replace(engine, correlation=shared)
    if arcsine:
        engine = replace(engine, arcsine=_arcsine.moments_of_arcsine(dispersion))
    fit = _fit(engine, methylated, coverage, dispersion)
    keep = can_test(fit)
    prior = estimate_prior(fit.residual[keep] / fit.df[keep], fit.df[keep].astype(float))
    engine = replace(
        engine,
        dispersion=dispersion,
        prior=prior,
        limits=outlier_limits(prior, comparison.n_units),
        learned_from=int(keep.sum()),
    )
    if comparison.k == 1:
        effects = engine.effects(methylated[keep], coverage[keep])
        own = effects.df >= 1
        about_full = estimate_prior(
            effects.residual[own] / effects.df[own], effects.df[own].astype(float)
        )
        engine = replace(engine, full_prior=about_full)
    step = max(1, len(coverage) // _CHECKED_SITES)
    # Contiguous, as everywhere: for other strides numba would compile its kernel anew.
    some = np.ascontiguousarray(methylated[::step]), np.ascontiguousarray(coverage[::step])
    residuals = engine.residuals(*some, keep[::step].copy())
    notes = check_assumptions(comparison, residuals, some[1], unequal=unequal)
    return replace(engine, notes=notes)


def _groups(reduced: Floats) -> tuple[npt.NDArray[np.int64], int]:
    """Group of each unit when the reduced model is one mean a group; else (zeros, 0)."""
    group = np.full(len(reduced), -1, dtype=np.int64)
    n_groups = 0
    for unit in range(len(reduced)):
        if group[unit] < 0:
            alike = np.abs(reduced - reduced[unit]).max(axis=1, initial=0.0) < 1e-7
            group[alike & (group < 0)] = n_groups
            n_groups += 1
    if n_groups == reduced.shape[1]:
        return group, n_groups
    return np.zeros(len(reduced), dtype=np.int64), 0


def _directions(comparison: Comparison) -> Floats:
    """The columns of exposure as rows of unit length, (k, units)."""
    columns = comparison.exposures
    return np.ascontiguousarray((columns / np.linalg.norm(columns, axis=0)).T)


def _fit(engine: Engine, methylated: Floats, coverage: Floats, dispersion: Dispersion) -> SiteFit:

    moments = engine.arcsine
    limit = _kernels.MAX_SKEWNESS if engine.has_saddlepoint else _kernels.MAX_SKEWNESS_WITHIN
    if engine.comparison.correlated is not None:
        columns = _fit_correlated(engine, methylated, coverage, dispersion)[:-1]
        return SiteFit(*columns, max_skewness=limit)

    def kernel(m: Floats, n: Floats) -> Any:
        if moments is not None:
            return _arcsine.fit_arcsine(
                m, n, engine.comparison.reduced, _directions(engine.comparison), *moments[:3],
                _arcsine.first_level(),
            )  # fmt: skip
        if engine.comparison.k > 1:
            return _factors.fit_several(
                m, n, engine.comparison.reduced, engine.group, engine.n_groups,
                _directions(engine.comparison), dispersion.knots, dispersion.rho,
            )  # fmt: skip
        return _kernels.fit_sites(
            m, n, engine.comparison.reduced, engine.group, engine.n_groups,
            engine.comparison.exposure, dispersion.knots, dispersion.rho,
        )  # fmt: skip

    return SiteFit(*in_threads(kernel, methylated, coverage), max_skewness=limit)


def _fit_correlated(
    engine: Engine, methylated: Floats, coverage: Floats, dispersion: Dispersion
) -> tuple[npt.NDArray[Any], ...]:
    """Columns of `_consensus.fit_consensus` at the engine's correlation."""
    comparison = engine.comparison
    block = comparison.correlated
    assert block is not None

    def kernel(m: Floats, n: Floats) -> Any:
        return _consensus.fit_consensus(
            m, n, comparison.reduced, engine.group, engine.n_groups, comparison.exposure, block,
            int(block.max()) + 1, engine.correlation, dispersion.knots, dispersion.rho,
        )  # fmt: skip

    return in_threads(kernel, methylated, coverage)


def in_threads(
    kernel: Callable[..., Any], *arrays: npt.NDArray[Any], axis: tuple[int, ...] | None = None
) -> tuple[npt.NDArray[Any], ...]:
    """Run a kernel on stretches of sites in threads (kernels release the GIL), results joined."""
    sites = len(arrays[0])
    workers = min(os.cpu_count() or 1, max(1, sites // 2048))
    arrays = tuple(np.ascontiguousarray(array) for array in arrays)
    if workers == 1:
        return kernel(*arrays)
    cuts = [(k * sites // workers, (k + 1) * sites // workers) for k in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        parts = list(pool.map(lambda cut: kernel(*(a[cut[0] : cut[1]] for a in arrays)), cuts))
    axes = axis or (0,) * len(parts[0])
    return tuple(
        np.concatenate(pieces, axis=along)
        for pieces, along in zip(zip(*parts, strict=True), axes, strict=True)
    )
