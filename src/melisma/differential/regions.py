"""Region tests: where neighbouring sites differ together, with an FDR from moved data."""

from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
import xarray as xr

from melisma.design import Comparison, Contrast, Design, NoReplicates, make_contrasts
from melisma.differential import _no_replicates
from melisma.differential._engine import Engine, build_engine
from melisma.differential._judge import judge
from melisma.differential._kernels import Floats
from melisma.differential._region_effects import known_interval, region_between, region_effects
from melisma.differential._relabel import draw_moves, draw_moves_of_several
from melisma.differential._search import (
    Candidates,
    Levelled,
    Search,
    learn_null,
    search_regions,
)
from melisma.differential._shift import (
    GLOBAL_SHIFT,
    Shift,
    against_shift,
    learn_shift,
    moving_share,
    shift_note,
)
from melisma.differential.sites import check_samples, one_comparison
from melisma.errors import MelismaError
from melisma.methylome import CONTEXTS, single_mark

# Labellings times sites kept in reach of a minute: 999 up to 50,000 sites, 100 at half a
# million, 10 at 5 million and above.
_WORK = 5e7
_MOST_RELABELLINGS = 999
_FEWEST_RELABELLINGS = 10
_ADJECTIVES = {
    "relabellings": "relabelled",
    "rotations": "rotated",
    "exchanges of reads": "exchanged",
}


@dataclass(frozen=True)
class RegionTests:
    """What `find_regions` found.

    `table` has a row a candidate region: region, contig, start, end, mark, context, sites,
    statistic, delta_beta, ci_low, ci_high, p, q, p_family, and where the genome moves as a whole
    delta_shift and p_shift. `null` says what stands for no effect, `relabellings` how many of it;
    `called_by_relabelling` how many regions each would have called at the same cut; `distinct` is
    the number of distinct relabellings. Where the contrast asks about several coefficients at once
    the statistic has no sign, there is no interval, and for a factor delta_beta is the largest
    difference between two of its levels, which the column `between` names. Where contexts are
    searched apart `relabellings` is the fewest of them and `by_context` has each one's.
    `comparison` and `engine` are None without replicates. `notes` says what a reader of the result
    must know.
    """

    table: pl.DataFrame
    contrast: Contrast
    comparison: Comparison | None
    engine: Engine | None
    null: Literal["relabellings", "rotations", "exchanges of reads"]
    relabellings: int
    distinct: int
    null_regions: float
    called_by_relabelling: tuple[int, ...]
    q: float
    seed: int
    search: Search
    notes: tuple[str, ...]
    by_context: dict[str, int] = field(default_factory=dict)

    @property
    def null_words(self) -> str:
        """What the regions were judged against: `999 relabellings of 6,435`."""
        if self.null == "relabellings":
            return f"{self._drawn} relabellings of {self.distinct:,}"
        if self.comparison is None:
            return f"{self._drawn} exchanges of reads, without replicates"
        relabellings = "relabelling" if self.distinct == 1 else "relabellings"
        units = f"{self.comparison.n_units} {self.comparison.unit}"
        if self.comparison.side is not None and self.comparison.unit == "samples":
            units = " against ".join(str((self.comparison.side == s).sum()) for s in (1, -1))
        return f"{self._drawn} rotations: {units} allow {self.distinct} {relabellings}"

    @property
    def _drawn(self) -> str:
        """How many relabellings, of each context where they differ: `991 (CG) and 189 (CHH)`."""
        if len(set(self.by_context.values())) < 2:
            return str(self.relabellings)
        *most, last = (f"{drawn} ({name})" for name, drawn in self.by_context.items())
        return f"{', '.join(most)} and {last}"

    @property
    def null_adjective(self) -> str:
        """What the null's data are: `relabelled`, `rotated` or `exchanged`."""
        return _ADJECTIVES[self.null]

    def significant(self) -> pl.DataFrame:
        """The regions with a q-value below the asked one, the smallest p first."""
        return self.table.filter(pl.col("q") < self.q).sort("p", "start")


class _Asked(NamedTuple):
    """What a search is asked for, in every context the same."""

    design: Design
    contrast: str
    q: float
    relabellings: int | None
    seed: int
    search: Search

    def moves(self, methylome: xr.Dataset) -> int:
        """How many relabellings, rotations or exchanges; fewer on more sites by default."""
        affordable = int(_WORK / max(methylome.sizes["site"], 1))
        fewest, most = _FEWEST_RELABELLINGS, _MOST_RELABELLINGS
        return self.relabellings or min(max(affordable, fewest), most)


def find_regions(
    methylome: xr.Dataset,
    design: Design,
    contrast: str,
    *,
    mark: str | None = None,
    context: str | None = None,
    q: float = 0.05,
    relabellings: int | None = None,
    seed: int = 1,
    no_replicates: bool = False,
    search: Search = Search(),
) -> RegionTests:
    """Which regions' marks differ along a contrast, judged against relabelled or rotated data.

    Signed site scores are smoothed along the genome; stretches beyond a threshold become
    candidates, their boundaries the stretch of largest likelihood ratio; a candidate's statistic
    is its information-weighted score over its standard deviation, the residuals'
    autocorrelation allowed for. The same search runs on relabelled data (whole samples, within
    exchangeability blocks) or, where fewer than 200 distinct relabellings exist, on rotated
    residuals, and q is the expected number of null regions outside called regions over the
    observed number. Contexts (CG, CHG, CHH) are searched apart, each with its own q. Of several
    coefficients (a factor, a term) the scores are vectors, and the statistic is their sum's length
    as a normal score; they are judged by relabellings only.

    Parameters
    ----------
    methylome, design, contrast, mark : as for `site_tests`
    context : search this one only
    q : the false discovery rate at which regions are called (and masked from the null)
    relabellings : how many, or how many rotations; default 999 up to 50,000 sites, fewer on
        more, 10 at the least
    seed : of their choice
    no_replicates : without replicates, take the variance from reads and neighbouring sites

    Returns
    -------
    RegionTests. A region's FDR concerns "no site in it differs", not its boundaries; its
    interval for delta_beta does not allow for the region's having been selected.

    Raises
    ------
    MelismaError
        As `site_tests`; without replicates, unless `no_replicates` asks for it; of several
        coefficients, fewer than 200 distinct relabellings.
    """
    check_samples(methylome, design)
    asked = _Asked(design, contrast, q, relabellings, seed, search)
    methylome = single_mark(methylome, mark)
    try:
        comparison = one_comparison(design, contrast, several=True)
    except NoReplicates as error:
        if len(make_contrasts(design, contrast)[0].vectors) > 1:
            raise
        if not no_replicates:
            raise NoReplicates(
                f"{error} Or ask for regions without replicates (--no-replicates): their variance "
                "is then that of reads and neighbouring sites only."
            ) from error
        comparison = None
    if no_replicates and comparison is not None:
        raise MelismaError(
            f"{contrast} has replicates: leave out --no-replicates, and their variation counts."
        )
    found: list[RegionTests] = []
    empty: dict[str, str] = {}
    parts = _by_context(methylome, context)
    for name, part in parts.items():
        try:
            if comparison is None:
                found.append(_without_replicates(part, asked))
            else:
                found.append(_with_replicates(part, asked, comparison))
        except MelismaError as error:
            if len(parts) == 1:
                raise
            empty[name] = f"{name}: {error}"
    if not found:
        raise MelismaError(next(iter(empty.values())))
    return _joined(found, list(parts), empty)


def _by_context(methylome: xr.Dataset, context: str | None) -> dict[str, xr.Dataset]:
    """The methylome's contexts, or the one asked for, each with its sites."""
    held = methylome["context"].values
    present = [CONTEXTS[k] for k in np.unique(held)]
    if context is not None and context not in present:
        raise MelismaError(
            f"The methylome has no sites of context {context!r}; it has {', '.join(present)}."
        )
    if len(present) < 2:
        return dict.fromkeys(present or ["unknown"], methylome)
    return {
        name: methylome.isel(site=np.flatnonzero(held == CONTEXTS.index(name)))
        for name in ([context] if context else present)
    }


def _with_replicates(methylome: xr.Dataset, asked: _Asked, comparison: Comparison) -> RegionTests:
    draw = draw_moves if comparison.k == 1 else draw_moves_of_several
    moves = draw(comparison, asked.moves(methylome), asked.seed)
    engine = build_engine(methylome, comparison)
    null = learn_null(methylome, engine, moves)
    candidates, levelled = search_regions(methylome, engine, moves, null, asked.search)
    shift = None
    notes = (*comparison.notes, *engine.notes)
    moving = moving_share(null.scores)
    if moving > GLOBAL_SHIFT and comparison.k == 1:
        shift = learn_shift(methylome, engine, null.scores)
    elif moving > GLOBAL_SHIFT:
        notes += (
            f"About {moving:.0%} of {len(null.scores):,} tested sites move: a global shift, which "
            "single regions do not explain.",
        )
    found = RegionTests(
        table=pl.DataFrame(),
        contrast=comparison.contrast,
        comparison=comparison,
        engine=engine,
        null=moves.kind,
        relabellings=moves.drawn,
        distinct=moves.distinct,
        null_regions=0.0,
        called_by_relabelling=(),
        q=asked.q,
        seed=asked.seed,
        search=asked.search,
        notes=notes,
    )
    effects = region_effects(engine, levelled)
    judged = _judged(methylome, found, candidates, levelled, effects, shift)
    if not comparison.contrast.among:
        return judged
    table = judged.table
    place = table.get_column_index("delta_beta")
    return replace(judged, table=table.insert_column(place, region_between(engine, levelled)))


def _without_replicates(methylome: xr.Dataset, asked: _Asked) -> RegionTests:
    contrast = make_contrasts(asked.design, asked.contrast)[0]
    sides = _no_replicates.sides_of(asked.design, contrast)
    learned = _no_replicates.learn(methylome, sides, asked.search)
    draws = asked.moves(methylome)
    candidates, levelled = _no_replicates.search_without_replicates(
        methylome, sides, learned.dispersion, draws, asked.seed, asked.search
    )
    found = RegionTests(
        table=pl.DataFrame(),
        contrast=contrast,
        comparison=None,
        engine=None,
        null="exchanges of reads",
        relabellings=draws,
        distinct=1,
        null_regions=0.0,
        called_by_relabelling=(),
        q=asked.q,
        seed=asked.seed,
        search=asked.search,
        notes=(_no_replicates.note(contrast, sides, learned),),
    )
    effects = _no_replicates.effects(levelled, learned.dispersion)
    shift = learned.shift if learned.shift.moving > GLOBAL_SHIFT else None
    return _judged(methylome, found, candidates, levelled, known_interval(effects), shift)


def _judged(
    methylome: xr.Dataset,
    found: RegionTests,
    candidates: Candidates,
    levelled: Levelled,
    effects: tuple[Floats, Floats, Floats],
    shift: Shift | None,
) -> RegionTests:
    """The tests with their table, judged, and set against a global shift where there is one."""
    judged = judge(candidates, methylome.sizes["site"], found.relabellings, found.q)
    table = _places(methylome, candidates).with_columns(
        pl.Series(name, values)
        for name, values in (
            ("statistic", candidates.statistic[candidates.labelling == 0]),
            *zip(("delta_beta", "ci_low", "ci_high"), effects, strict=True),
            ("p", judged.p),
            ("q", judged.q),
            ("p_family", judged.p_family),
        )
    )
    notes = found.notes
    if shift is not None:
        table = against_shift(table, shift, levelled, candidates, found.relabellings)
        notes = (*notes, shift_note(shift, table.filter(pl.col("q") < found.q), found.q))
    return replace(
        found,
        table=table.with_columns(pl.col(pl.Float64).fill_nan(None)),
        null_regions=float((candidates.labelling > 0).sum() / found.relabellings),
        called_by_relabelling=judged.called_by_relabelling,
        notes=notes,
    )


def _joined(found: list[RegionTests], contexts: list[str], empty: dict[str, str]) -> RegionTests:
    """The contexts' tests as one; what is said of one context names it."""
    if len(found) == 1 and not empty:
        return found[0]
    searched = [name for name in contexts if name not in empty]
    by_context = {name: one.relabellings for name, one in zip(searched, found, strict=True)}
    against = replace(found[0], by_context=by_context).null_words
    order = pl.concat([one.table for one in found], how="diagonal").sort(
        "contig", "start", maintain_order=True
    )
    fewest = min(one.relabellings for one in found)
    calls = [one.called_by_relabelling[:fewest] for one in found]
    said = [
        (note if all(note in one.notes for one in found) else f"{name}: {note}")
        for name, one in zip(searched, found, strict=True)
        for note in one.notes
    ]
    return replace(
        found[0],
        table=order,
        relabellings=fewest,
        null_regions=sum(one.null_regions for one in found),
        called_by_relabelling=tuple(int(n) for n in np.sum(calls, axis=0)),
        by_context=by_context,
        notes=(
            f"The contexts {', '.join(contexts)} were searched apart, each with its own q, against "
            f"{against}.",
            *dict.fromkeys(said),
            *empty.values(),
        ),
    )


def _places(methylome: xr.Dataset, candidates: Candidates) -> pl.DataFrame:
    """Where the observed candidates lie: region, contig, start, end, mark, context, sites."""
    own = candidates.labelling == 0
    start, end = candidates.start[own], candidates.end[own]
    names = {
        name: pl.Series(words, dtype=pl.String)
        for name, words in (
            ("contig", methylome.attrs["contigs"]),
            ("mark", methylome.attrs["marks"]),
            ("context", CONTEXTS),
        )
    }
    position = methylome["position"].values
    first, last = position[start].astype(np.int64), position[end - 1].astype(np.int64) + 1
    code = {name: methylome[name][:1].values.repeat(len(start)) for name in ("mark", "context")}
    code["contig"] = methylome["contig"].values[start]
    columns = {name: words.gather(code[name].astype(np.int64)) for name, words in names.items()}
    return pl.DataFrame({"contig": columns["contig"], "start": first, "end": last}).select(
        pl.format("{}:{}-{}", "contig", "start", "end").alias("region"),
        "contig",
        "start",
        "end",
        columns["mark"].alias("mark"),
        columns["context"].alias("context"),
        pl.Series("sites", end - start),
    )
