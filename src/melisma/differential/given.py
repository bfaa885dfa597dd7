"""Tests of given regions: promoters, islands, tiles, any intervals."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma import progress
from melisma.design import Comparison, Design
from melisma.differential import _given_kernels, _segments, _vectors
from melisma.differential._engine import Engine, build_engine, can_test, f_tail
from melisma.differential._kernels import Floats
from melisma.differential._moderation import moderate_regions
from melisma.differential._region_effects import region_between, region_effects
from melisma.differential._relabel import Moves, draw_moves, draw_moves_of_several
from melisma.differential._search import Levelled, Null, learn_null, levels_of, strata_of
from melisma.differential._stretches import Stretch, map_spans
from melisma.differential.sites import benjamini_hochberg, check_samples, one_comparison, two_sided
from melisma.errors import MelismaError
from melisma.methylome import contig_offsets, single_mark

NO_SITE = "no site of the methylome"
NOT_TESTABLE = "no site that can be tested"
# Regions within this many sites of each other are read together.
_SPAN = 1 << 15
# Moves that teach the strata's scales.
_LEARNING_MOVES = 20

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class GivenRegionTests:
    """What `region_tests` found.

    `table` has a row a given region, in their order: region, contig, start, end, name, mark,
    sites, tested (sites that can be), statistic (t), df, delta_beta, ci_low, ci_high, p, q,
    reason (why p is null; else null). Of several coefficients at once the statistic is F on
    (comparison.k, df), and delta_beta and `between` are as in `RegionTests`.
    """

    table: pl.DataFrame
    comparison: Comparison
    engine: Engine
    tested: int
    notes: tuple[str, ...]

    def significant(self, q: float = 0.05) -> pl.DataFrame:
        """The regions with a q-value below `q`, the smallest p first."""
        return self.table.filter(pl.col("q") < q).sort("p", "contig", "start")


class _Sums(NamedTuple):
    """A row a region: `_given_kernels.region_sums`, and M and N of the units."""

    region: Ints
    total: Floats
    freedom: Floats
    tested: Ints
    methylated: Floats
    coverage: Floats


def region_tests(
    methylome: xr.Dataset,
    design: Design,
    contrast: str,
    *,
    regions: pl.DataFrame,
    mark: str | None = None,
) -> GivenRegionTests:
    """Which of given regions differ along a contrast.

    A region's statistic is the information-weighted sum of its sites' scores. The same sum of the
    residuals in the directions that are not the exposure's gives its variance, whatever the
    correlation of its sites; variances are squeezed across regions of about as many sites
    (Smyth 2004), and t, or F of several coefficients, has the residual and the prior's degrees of
    freedom.

    Parameters
    ----------
    methylome, design, contrast, mark : as for `site_tests`
    regions : contig, start, end (0-based, half open) and, if wanted, name; they may overlap

    Returns
    -------
    GivenRegionTests; q by Benjamini & Hochberg over the regions that can be tested.

    Raises
    ------
    MelismaError
        As `site_tests`, and where no region can be tested.
    """
    comparison = one_comparison(design, contrast, several=True)
    check_samples(methylome, design)
    methylome = single_mark(methylome, mark)
    engine = build_engine(methylome, comparison)
    if comparison.k == 1:
        moves = draw_moves(comparison, _LEARNING_MOVES, seed=1)
    else:
        moves = draw_moves_of_several(comparison, _LEARNING_MOVES, seed=1, judged=False)
    null = learn_null(methylome, engine, moves)
    first, last = _sites_of(methylome, regions)
    sums = _sum_regions(methylome, engine, moves, null, first, last)
    if not len(sums.region):
        raise MelismaError(
            f"None of the {len(regions):,} regions holds a site that can be tested: are they of "
            "this genome, and do enough samples cover them?"
        )
    return _results(methylome, engine, moves, regions, last - first, sums)


def tiles(methylome: xr.Dataset, size: int) -> pl.DataFrame:
    """The windows of `size` bases, from each contig's first base on, that hold sites.

    Returns
    -------
    contig, start, end
    """
    contigs = methylome.attrs["contigs"]
    position = methylome["position"].values.astype(np.int64) // size
    contig = methylome["contig"].values
    new = np.ones(len(position), dtype=bool)
    new[1:] = (np.diff(position) != 0) | (np.diff(contig) != 0)
    start = position[new] * size
    names = pl.Series(contigs, dtype=pl.String).gather(contig[new])
    return pl.DataFrame({"contig": names, "start": start, "end": start + size})


def _sites_of(methylome: xr.Dataset, regions: pl.DataFrame) -> tuple[Ints, Ints]:
    """[first, last) of the methylome's sites in each region; equal where there is none."""
    contigs = methylome.attrs["contigs"]
    offsets = contig_offsets(methylome["contig"].values, len(contigs))
    position = methylome["position"].values
    first, last = np.zeros((2, len(regions)), dtype=np.int64)
    names = regions["contig"].to_numpy()
    start, end = regions["start"].to_numpy(), regions["end"].to_numpy()
    for k, contig in enumerate(contigs):
        rows = np.flatnonzero(names == contig)
        own = position[offsets[k] : offsets[k + 1]]
        first[rows] = offsets[k] + np.searchsorted(own, start[rows])
        last[rows] = offsets[k] + np.searchsorted(own, end[rows])
    return first, last


def _batches(methylome: xr.Dataset, first: Ints, last: Ints) -> Iterator[Ints]:
    """Rows of regions with sites, in the genome's order, in lots that are read together."""
    contig = methylome["contig"].values
    rows = np.flatnonzero(last > first)
    rows = rows[np.argsort(first[rows], kind="stable")]
    begin = 0
    for k in range(1, len(rows) + 1):
        if (
            k == len(rows)
            or contig[first[rows[k]]] != contig[first[rows[begin]]]
            or last[rows[k]] - first[rows[begin]] > _SPAN
        ):
            yield rows[begin:k]
            begin = k


def _sum_regions(
    methylome: xr.Dataset, engine: Engine, moves: Moves, null: Null, first: Ints, last: Ints
) -> _Sums:
    lots = list(_batches(methylome, first, last))
    spans = [(int(first[rows].min()), int(last[rows].max())) for rows in lots]

    def work(stretch: Stretch, k: int) -> _Sums:
        rows = lots[k]
        start, end = first[rows] - stretch.first, last[rows] - stretch.first
        return _sum_lot(stretch, engine, moves, null, rows, start, end)

    parts: list[_Sums] = []
    with progress.stage("Testing regions", sum(map(len, lots))) as advance:
        for part, rows in zip(map_spans(methylome, engine, work, spans), lots, strict=True):
            parts.append(part)
            advance(len(rows))
    units = engine.comparison.n_units
    empty = np.zeros(0, dtype=np.int64)
    nothing = np.zeros((0, units))
    parts.append(_Sums(empty, nothing, np.zeros(0), empty, nothing, nothing))
    joined = _Sums(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return _Sums(*(column[joined.tested > 0] for column in joined))


def _sum_lot(
    stretch: Stretch,
    engine: Engine,
    moves: Moves,
    null: Null,
    rows: Ints,
    start: Ints,
    end: Ints,
) -> _Sums:
    """Sums over the regions [start, end) of one stretch; sites outside them are left out."""
    sites = len(stretch.position)
    steps = np.zeros(sites + 1, dtype=np.int64)
    np.add.at(steps, start, 1)
    np.add.at(steps, end, -1)
    inside = np.cumsum(steps[:-1]) > 0
    where = np.concatenate([[0], np.cumsum(inside)])
    start, end = where[start], where[end]
    stretch = Stretch(
        stretch.first,
        stretch.position[inside],
        stretch.methylated[inside],
        stretch.coverage[inside],
    )
    keep = can_test(engine.fit(stretch.methylated, stretch.coverage))
    error = np.zeros(stretch.coverage.shape)
    root, df = np.zeros((2, len(keep)))
    common = (engine.group, engine.n_groups, engine.dispersion.knots, engine.dispersion.rho, keep)
    counts, k = (stretch.methylated, stretch.coverage), engine.comparison.k
    if k > 1:
        _vectors.aligned_vectors(*counts, moves.anchor, k, *common, error, root, df)
    else:
        _given_kernels.aligned_residuals(*counts, moves.anchor, *common, error, root, df)
    strata = strata_of(stretch, null.coverage_edges)
    total, freedom, tested = _given_kernels.region_sums(
        error, root, df, null.scale[strata], null.shared[strata],
        _segments.decays(stretch.position, null.length), start, end,
    )  # fmt: skip
    levels = levels_of(stretch, start, end, engine)
    return _Sums(rows, total, freedom, tested, *levels)


def _moderated(
    total: Floats, freedom: Floats, tested: Ints, along: Floats, units: int
) -> tuple[Floats, Floats]:
    """t or F and its degrees of freedom, variances squeezed among regions of about as many sites.

    along : (k, units) orthonormal exposures. Where regions are few each keeps its own variance.
    """
    u = total @ along.T
    residual = np.maximum((total**2).sum(axis=1) - (u**2).sum(axis=1), 0.0)
    variance, df = moderate_regions(residual, freedom, tested, units)
    with np.errstate(divide="ignore"):
        if len(along) > 1:
            return (u**2).mean(axis=1) / variance, df
        return u[:, 0] / np.sqrt(variance), df


def _results(
    methylome: xr.Dataset,
    engine: Engine,
    moves: Moves,
    regions: pl.DataFrame,
    sites: Ints,
    sums: _Sums,
) -> GivenRegionTests:
    k, levelled = engine.comparison.k, Levelled(sums.methylated, sums.coverage)
    statistic, df = _moderated(
        sums.total, sums.freedom, sums.tested, moves.anchor[-k:], engine.comparison.n_units
    )
    effects = region_effects(engine, levelled)
    values = {"statistic": statistic, "df": df}
    values |= dict(zip(("delta_beta", "ci_low", "ci_high"), effects, strict=True))
    values["p"] = two_sided(statistic, df) if k == 1 else f_tail(statistic, k, df)
    columns = {}
    for name, column in values.items():
        columns[name] = np.full(len(regions), np.nan)
        columns[name][sums.region] = column
    tested = np.zeros(len(regions), dtype=np.int64)
    tested[sums.region] = sums.tested
    place = pl.format("{}:{}-{}", "contig", "start", "end")
    table = regions.select(
        place.alias("region"),
        "contig",
        "start",
        "end",
        pl.col("name") if "name" in regions.columns else place.alias("name"),
        mark=pl.lit(methylome.attrs["marks"][int(methylome["mark"][:1].values[0])]),
    ).with_columns(
        pl.Series("sites", sites),
        pl.Series("tested", tested),
        *(pl.Series(name, column) for name, column in columns.items()),
        pl.Series("q", benjamini_hochberg(columns["p"])),
        reason=pl.when(pl.lit(pl.Series(sites == 0)))
        .then(pl.lit(NO_SITE))
        .when(pl.lit(pl.Series(tested == 0)))
        .then(pl.lit(NOT_TESTABLE)),
    )
    if engine.comparison.contrast.among:
        rows = np.full(len(regions), None, dtype=object)
        rows[sums.region] = region_between(engine, levelled).to_numpy()
        between = pl.Series("between", rows.tolist(), dtype=pl.String)
        table = table.insert_column(table.get_column_index("delta_beta"), between)
    return GivenRegionTests(
        table=table.with_columns(pl.col(pl.Float64).fill_nan(None)),
        comparison=engine.comparison,
        engine=engine,
        tested=len(sums.region),
        notes=(*engine.comparison.notes, *engine.notes),
    )
