"""Whether a sample's calls look female or male, by the coverage and the levels of X and Y.

A male has one X and one Y, so X is covered half as deeply as the autosomes and Y as deeply as X; a
female has two X, one of them inactive, whose CpG islands are methylated, so that many X sites lie
near one half. Coverage is compared by the median depth of sites: X / autosomes and Y / autosomes.
Enrichment and target panels shift both ratios for all samples alike, so that with four samples or
more the samples are divided by the widest gap between them rather than by fixed limits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.methylome import CONTEXTS
from melisma.quality._contigs import autosomes, sex_chromosomes
from melisma.quality._sheet import Contradiction
from melisma.quality._walk import Floats, Integers, Stretch

_MOST_DEEP = 511
# Fewer sites than this say nothing of a chromosome.
_FEWEST_SITES = 20
_FEWEST_TO_CLUSTER = 4
_INTERMEDIATE = (0.25, 0.75)
_READS_FOR_LEVEL = 5
# A median depth of the autosomes below this leaves no room for its half.
_SHALLOWEST = 0.5
# log2 ratios: two groups must leave this gap between them.
_GAP_Y, _GAP_X = 0.8, 0.35
# Added to ratios before the logarithm, so that no reads at all are not infinitely few.
_TRACE = 0.05
# Ratios without a group to compare with: nominal are 1 and 0.5 for X, 0 and 0.5 for Y.
_MALE_Y, _FEMALE_Y, _MALE_X, _FEMALE_X = 0.25, 0.4, 0.7, 0.8
# Two groups by Y whose X differs less than this are no sexes: nominal is 2.
_X_DIFFERS = 1.3
# Samples whose X differs by more than this, without a gap, are no group to hold a limit against.
_ONE_GROUP = 1.35
# Share of X probes near one half: shares without a group, and the least gap of two groups.
_MALE_SHARE, _FEMALE_SHARE, _GAP_SHARE = 0.25, 0.4, 0.1
_WORDS = {
    **dict.fromkeys(("m", "male", "man", "boy", "xy"), "male"),
    **dict.fromkeys(("f", "female", "woman", "girl", "xx"), "female"),
}
Method = str


class SexTally:
    """Depth histograms and levels of autosomes, X and Y: sums that every stretch adds to."""

    def __init__(self, n_samples: int, contigs: Sequence[str]) -> None:
        x, y = sex_chromosomes(contigs)
        classes = np.full(len(contigs), -1)
        classes[autosomes(contigs)] = 0
        for k, contig in ((1, x), (2, y)):
            if contig is not None:
                classes[contig] = k
        self._classes, self.has_x = classes, x is not None
        self.sites = np.zeros(3, dtype=np.int64)
        self.depth = np.zeros((3, n_samples, _MOST_DEEP + 1), dtype=np.int64)
        self.known = np.zeros((3, n_samples), dtype=np.int64)
        self.middle = np.zeros((3, n_samples), dtype=np.int64)
        self.seen = np.zeros((3, n_samples), dtype=np.int64)
        self.has_counts = True

    def add(self, stretch: Stretch) -> None:
        """Count one stretch in; nothing where the contigs have no X."""
        if not self.has_x:
            return
        self.has_counts = stretch.coverage is not None
        contig = stretch.contig.astype(np.int64)
        place = np.where(contig >= 0, self._classes[contig], -1)
        cg = np.isin(stretch.context, [CONTEXTS.index("CG"), CONTEXTS.index("unknown")])
        for k in np.unique(place[place >= 0]).tolist():
            rows = place == k
            self.sites[k] += int(rows.sum())
            level = stretch.level[rows]
            self.seen[k] += np.isfinite(level).sum(0)
            usable = np.isfinite(level) & cg[rows][:, None]
            if stretch.coverage is not None:
                deep = stretch.coverage[rows]
                usable &= deep >= _READS_FOR_LEVEL
                for sample, column in enumerate(np.minimum(deep, _MOST_DEEP).T):
                    self.depth[k, sample] += np.bincount(column, minlength=_MOST_DEEP + 1)
            self.known[k] += usable.sum(0)
            inside = (level >= _INTERMEDIATE[0]) & (level <= _INTERMEDIATE[1])
            self.middle[k] += (usable & inside).sum(0)


@dataclass(frozen=True)
class SexCheck:
    """What the calls say of each sample's sex.

    table : sample, x_ratio, y_ratio (median depth against the autosomes'; null without counts),
        x_intermediate, autosome_intermediate (share of CpGs with a level of .25 to .75),
        y_seen (share of Y sites with a value), sex ("female", "male" or null), sheet, reason
    method : how it was told, in one sentence; empty where it cannot be told
    reason : why it cannot be told
    contradictions : samples whose sex the sheet gives otherwise
    """

    table: pl.DataFrame
    method: str
    reason: str
    contradictions: tuple[Contradiction, ...] = ()

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        if self.reason:
            return f"Sex cannot be told: {self.reason}."
        counts = {s: int((self.table["sex"] == s).sum()) for s in ("female", "male")}
        unsure = self.table["sex"].null_count()
        if unsure == self.table.height:
            return f"Sex cannot be told of any sample: {self.table['reason'][0]}."
        words = [f"{n:,} {sex}" for sex, n in counts.items() if n]
        words += [f"{unsure:,} not to be told"] if unsure else []
        return f"By their calls, samples are {' and '.join(words)} ({self.method})."


def grouped_median(depth: Integers) -> Floats:
    """The median of whole numbers, interpolated inside its class, (samples,), at least 0.

    A plain median of shallow depths can only be 0, 1 or 2; each depth d is taken to fill
    d - 1/2 to d + 1/2 (Pearson's median of grouped data).

    depth : (samples, depths), how many sites are that deep

    >>> # Four sites of depth 1 and two of 2: half of six is 3, three quarters into class 1.
    >>> grouped_median(np.array([[0, 4, 2]])).tolist()
    [1.25]
    """
    total = np.cumsum(depth, axis=1)
    half = total[:, -1:] / 2
    at = (total >= np.maximum(half, 1e-9)).argmax(1)
    rows = np.arange(len(depth))
    inside = np.maximum(depth[rows, at], 1)
    below = total[rows, at] - depth[rows, at]
    return np.maximum(at - 0.5 + (half[:, 0] - below) / inside, 0.0)


def two_groups(
    values: Floats, gap: float, clear: float = 0.5
) -> tuple[npt.NDArray[np.bool_], float] | None:
    """Divide values at their widest gap: which are above it, and the gap's middle.

    None where fewer than four values are known, or no gap is as wide as `gap` and wider than
    `clear` times both groups' own spread.

    >>> two_groups(np.array([0.0, 0.1, 2.0, 2.2]), 1.0)[1]
    1.05
    """
    known = np.sort(values[np.isfinite(values)])
    if len(known) < _FEWEST_TO_CLUSTER:
        return None
    steps = np.diff(known)
    at = int(steps.argmax())
    spread = max(known[at] - known[0], known[-1] - known[at + 1])
    if steps[at] < gap or steps[at] < clear * spread:
        return None
    middle = float((known[at] + known[at + 1]) / 2)
    return values > middle, middle


def check_sex(
    tally: SexTally, samples: Sequence[str], sheet: Mapping[str, Sequence[Any]]
) -> SexCheck:
    """What the calls say of each sample's sex, and where the sheet's `sex` says otherwise."""
    told = _sheet_sex(sheet, len(samples))
    measures = _measures(tally)
    reason = _why_not(tally)
    n = len(samples)
    if reason:
        found, why, method = [None] * n, [reason] * n, ""
    elif tally.has_counts:
        found, why, method = _by_coverage(measures, enough_y=tally.sites[2] >= _FEWEST_SITES)
    else:
        found, why, method = _by_levels(measures)
    table = pl.DataFrame(
        {"sample": list(samples)} | measures | {"sex": found, "sheet": told, "reason": why},
        schema_overrides={"sex": pl.String, "sheet": pl.String, "reason": pl.String},
    ).with_columns(pl.selectors.float().fill_nan(None))
    return SexCheck(table, method, reason, _contradictions(table))


def _why_not(tally: SexTally) -> str:
    if not tally.has_x or tally.sites[1] < _FEWEST_SITES:
        return f"the store holds {tally.sites[1]:,} sites of chrX"
    if tally.has_counts and tally.sites[0] < _FEWEST_SITES:
        return f"the store holds {tally.sites[0]:,} sites of numbered chromosomes to compare with"
    return ""


def _measures(tally: SexTally) -> dict[str, Floats]:
    share = tally.middle / np.where(tally.known >= _FEWEST_SITES, tally.known, np.nan)
    seen = tally.seen[2] / (tally.sites[2] or np.nan)
    unknown = np.full(share.shape[1], np.nan)
    x = y = unknown
    if tally.has_counts and tally.sites[0]:
        middle = grouped_median(tally.depth[0])
        base = np.where(middle >= _SHALLOWEST, middle, np.nan)
        x = grouped_median(tally.depth[1]) / base if tally.sites[1] else unknown
        y = grouped_median(tally.depth[2]) / base if tally.sites[2] else unknown
    return {
        "x_ratio": x,
        "y_ratio": y,
        "x_intermediate": share[1],
        "autosome_intermediate": share[0],
        "y_seen": seen,
    }


Told = tuple[list[str | None], list[str], Method]


def _by_coverage(measures: Mapping[str, Floats], *, enough_y: bool) -> Told:
    x, y = measures["x_ratio"], measures["y_ratio"]
    if enough_y:
        between = np.log2((y + _TRACE) / (x + _TRACE))
        divided = two_groups(between, _GAP_Y)
        if divided is not None and _x_agrees(divided[0], x):
            return _with_x(divided[0], x)
        return _by_limits(x, y)
    divided = two_groups(np.log2(x + _TRACE), _GAP_X, clear=1.0)
    if divided is not None:
        female = divided[0]
        found = [
            None if np.isnan(v) else "female" if f else "male"
            for v, f in zip(x, female, strict=True)
        ]
        why = ["" if f else "the autosomes are covered too thinly" for f in found]
        return found, why, "two groups by the coverage of chrX; the store has too little of chrY"
    known = x[np.isfinite(x)]
    if len(known) >= _FEWEST_TO_CLUSTER and known.max() > _ONE_GROUP * known.min():
        return [None] * len(x), ["chrX differs between the samples without a gap"] * len(x), ""
    found = [_one(v, _FEMALE_X, _MALE_X) for v in x]
    why = ["" if f else f"chrX at {v:.2f} of the autosomes" for f, v in zip(found, x, strict=True)]
    return found, why, "fixed limits on the coverage of chrX; the store has too little of chrY"


def _one(value: float, female_from: float, male_to: float) -> str | None:
    return "female" if value >= female_from else "male" if value <= male_to else None


def _medians(male: npt.NDArray[np.bool_], x: Floats) -> tuple[float, float]:
    """The median X of the group without chrY, and of the group with it."""
    known = np.isfinite(x)
    return float(np.median(x[~male & known])), float(np.median(x[male & known]))


def _x_agrees(male: npt.NDArray[np.bool_], x: Floats) -> bool:
    """Whether X is deeper where Y is missing: two groups by a few stray reads of Y are none."""
    without, there = _medians(male, x)
    return without >= _X_DIFFERS * max(there, 1e-9)


def _with_x(male: npt.NDArray[np.bool_], x: Floats) -> Told:
    """Sexes by the gap in Y against X; a sample whose X is the other sex's cannot be told."""
    middles = _medians(male, x)
    found: list[str | None] = []
    why: list[str] = []
    between = float(np.sqrt(middles[0] * middles[1]))
    for is_male, value in zip(male, x, strict=True):
        if np.isnan(value):
            found.append(None)
            why.append("the autosomes are covered too thinly")
        elif is_male == (value > between):
            found.append(None)
            whose, there = ("female", "there") if is_male else ("male", "missing")
            why.append(
                f"chrX at {value:.2f} of the autosomes is a {whose}'s, but chrY is {there}: XXY, "
                "X0, a lost Y or a mixture"
            )
        else:
            found.append("male" if is_male else "female")
            why.append("")
    return found, why, "two groups by the coverage of chrY and chrX"


def _by_limits(x: Floats, y: Floats) -> Told:
    found: list[str | None] = []
    why: list[str] = []
    for a, b in zip(x, y, strict=True):
        male = b >= _MALE_Y and a <= _MALE_X
        female = b <= _FEMALE_Y and a >= _FEMALE_X
        found.append("male" if male else "female" if female else None)
        why.append(
            ""
            if male or female
            else "the autosomes are covered too thinly"
            if np.isnan(a)
            else f"chrX at {a:.2f} and chrY at {b:.2f} of the autosomes fit neither sex"
        )
    return found, why, "fixed limits on the coverage of chrX and chrY"


def _by_levels(measures: Mapping[str, Floats]) -> Told:
    """Levels without counts: X probes near one half, as X inactivation leaves them in females."""
    share = measures["x_intermediate"]
    divided = two_groups(share, _GAP_SHARE)
    if divided is not None:
        found = [
            None if np.isnan(v) else "female" if up else "male"
            for v, up in zip(share, divided[0], strict=True)
        ]
        method = "two groups by the share of chrX probes near one half"
    else:
        found = [_one(v, _FEMALE_SHARE, _MALE_SHARE) for v in share]
        method = "fixed limits on the share of chrX probes near one half"
    why = [
        "" if sex else f"{v:.0%} of the chrX probes near one half fit neither sex"
        for sex, v in zip(found, share, strict=True)
    ]
    return found, why, method


def _sheet_sex(sheet: Mapping[str, Sequence[Any]], n: int) -> list[str | None]:
    """The sheet's column `sex` in the words used here; numbers are ambiguous and not read."""
    name = next((column for column in sheet if column.lower() in ("sex", "gender")), None)
    if name is None:
        return [None] * n
    return [_WORDS.get(str(value).strip().lower()) for value in sheet[name]]


def _contradictions(table: pl.DataFrame) -> tuple[Contradiction, ...]:
    found = []
    for row in table.iter_rows(named=True):
        if row["sex"] is None or row["sheet"] is None or row["sex"] == row["sheet"]:
            continue
        if row["x_ratio"] is None:
            seen = f"{row['x_intermediate']:.0%} of its chrX probes lie near one half"
        else:
            seen = f"chrX is covered {row['x_ratio']:.2f} times as deeply as the autosomes"
            seen += "" if row["y_ratio"] is None else f" and chrY {row['y_ratio']:.2f} times"
        sentence = (
            f"{row['sample']} is {row['sheet']} in the sheet, but looks {row['sex']}: {seen}."
        )
        found.append(Contradiction((row["sample"],), "sex", row["sheet"], row["sex"], sentence))
    return tuple(found)
