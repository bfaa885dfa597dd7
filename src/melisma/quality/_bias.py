"""Whether the two strands of a CpG agree, and how methylated each context is.

The strands of a CpG are methylated alike (maintenance), so a difference between them is an
artefact: filled-in ends, incomplete conversion of one strand, a caller's fault. The effect is the
Mantel-Haenszel risk difference over CpGs, each a stratum with weight n+ n- / (n+ + n-) (Greenland
& Robins 1985, Biometrics 41, 55-68). Its error is taken from the scatter of the CpGs' own
differences, so that reads which vary together inside a CpG are allowed for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.special import ndtr

from melisma.methylome import CONTEXTS
from melisma.quality._coverage import Tally
from melisma.quality._walk import Floats, Stretch

_ROW = ("contig", "position", "strand", "context", "methylated", "coverage")
# Fewer pairs than this say nothing.
FEWEST_PAIRS = 100
_Z = 1.959963984540054


class StrandPairs:
    """Sums over CpGs whose strands are separate; a pair may lie across two stretches."""

    def __init__(self, n_samples: int, *, separate: bool) -> None:
        self._separate = separate
        self._last: dict[str, npt.NDArray[Any]] | None = None
        self.pairs = np.zeros(n_samples, dtype=np.int64)
        self.reads = np.zeros((2, n_samples), dtype=np.int64)
        # Sums of w, w d, w^2, w^2 d and w^2 d^2.
        self.sums = np.zeros((5, n_samples))

    def add(self, stretch: Stretch) -> None:
        """Count one stretch in."""
        if not self._separate or stretch.coverage is None or not len(stretch.position):
            return
        rows = {name: getattr(stretch, name) for name in _ROW}
        if self._last is not None:
            rows = {name: np.concatenate([self._last[name], rows[name]]) for name in _ROW}
        self._last = {name: values[-1:] for name, values in rows.items()}
        first = np.flatnonzero(_begins_pair(rows))
        if not len(first):
            return
        n = [rows["coverage"][first + k].astype(np.float64) for k in (0, 1)]
        m = [rows["methylated"][first + k].astype(np.float64) for k in (0, 1)]
        both = (n[0] > 0) & (n[1] > 0)
        weight = np.where(both, n[0] * n[1] / np.maximum(n[0] + n[1], 1), 0.0)
        d = m[0] / np.maximum(n[0], 1) - m[1] / np.maximum(n[1], 1)
        self.pairs += both.sum(0)
        # Every CpG counts here: a strand without reads is what an uneven split looks like.
        self.reads += np.stack([n[0].sum(0), n[1].sum(0)]).astype(np.int64)
        square = weight**2
        terms = (weight, weight * d, square, square * d, square * d**2)
        self.sums += np.stack([term.sum(0) for term in terms])

    def difference(self) -> tuple[Floats, Floats]:
        """Level on + minus level on -, and its standard error, (samples,); NaN where unknown."""
        w, wd, w2, w2d, w2d2 = self.sums
        known = self.pairs >= FEWEST_PAIRS
        safe = np.where(known, w, 1.0)
        found = np.where(known, wd / safe, np.nan)
        spread = np.maximum(w2d2 - 2 * found * w2d + found**2 * w2, 0.0)
        return found, np.sqrt(spread) / safe


def _begins_pair(rows: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """Which rows are the + strand of a CpG whose - strand is the next row."""
    contig, position, strand = (
        rows[name].astype(np.int64) for name in ("contig", "position", "strand")
    )
    cg = (rows["context"] == CONTEXTS.index("CG")) | (rows["context"] == CONTEXTS.index("unknown"))
    return (
        (contig[:-1] == contig[1:])
        & (position[:-1] + 1 == position[1:])
        & (strand[:-1] == 1)
        & (strand[1:] == -1)
        & cg[:-1]
        & cg[1:]
    )


def bias_table(pairs: StrandPairs, tally: Tally, samples: Sequence[str]) -> pl.DataFrame:
    """One row a sample: the strands' difference and split, and the level in each context.

    Columns: sample, strand_pairs (CpGs seen on both strands), strand_difference (level on + minus
    on -), strand_low, strand_high (95%), strand_p (two-sided), plus_share (of the reads at CpGs),
    level_cg, level_chg, level_chh (of reads; of sites where there are no counts).
    """
    found, error = pairs.difference()
    z = np.abs(found) / np.where(error > 0, error, np.nan)
    total = pairs.reads.sum(0)
    split = np.where(total > 0, pairs.reads[0] / np.maximum(total, 1), np.nan)
    columns = {
        "strand_difference": found,
        "strand_low": found - _Z * error,
        "strand_high": found + _Z * error,
        "strand_p": 2 * ndtr(-z),
        "plus_share": split,
    } | {f"level_{name.lower()}": _level(tally, name) for name in CONTEXTS[:3]}
    made = pl.DataFrame({"sample": list(samples), "strand_pairs": pairs.pairs} | columns)
    return made.with_columns(pl.selectors.float().fill_nan(None))


def _level(tally: Tally, context: str) -> Floats:
    """The level of each sample's calls in one context, (samples,); NaN where there are none."""
    index = CONTEXTS.index(context)
    total = np.zeros((3, len(tally.seen)))
    for (_, found), sums in tally.places.items():
        if found == index:
            total += sums
    return np.where(total[1] > 0, total[2] / np.maximum(total[1], 1e-12), np.nan)


def strand_sentence(table: pl.DataFrame) -> str:
    """The largest difference between strands, in one sentence."""
    known = table.filter(pl.col("strand_difference").is_not_null())
    if known.is_empty():
        return "Strands cannot be compared: the store does not hold CpGs with both strands apart."
    worst = known.sort(pl.col("strand_difference").abs(), descending=True).row(0, named=True)
    return (
        f"The strands of CpGs differ by {abs(worst['strand_difference']):.3f} at most "
        f"({worst['sample']}, over {worst['strand_pairs']:,} CpGs)."
    )
