"""How deeply each sample is covered, and how methylated it is by contig and context."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.methylome import CONTEXTS
from melisma.quality._walk import Floats, Integers, Stretch

# Quantiles are exact below this depth; deeper cells count as this deep.
DEEPEST = 4095
# The histogram's last bin holds every deeper site.
HISTOGRAM_BINS = 101


class Tally:
    """Sums over sites that every stretch adds to, so that nothing of site length is kept."""

    def __init__(self, n_samples: int) -> None:
        self.depth = np.zeros((n_samples, DEEPEST + 1), dtype=np.int64)
        self.sites = 0
        self.seen = np.zeros(n_samples, dtype=np.int64)
        self.reads = np.zeros(n_samples, dtype=np.int64)
        self.methylated = np.zeros(n_samples, dtype=np.int64)
        self.levels = np.zeros(n_samples)
        self.shared = np.zeros(n_samples, dtype=np.int64)
        self.has_counts = True
        self.places: dict[tuple[int, int], Floats] = {}

    def add(self, stretch: Stretch) -> None:
        """Count one stretch in."""
        level = np.nan_to_num(stretch.level).astype(np.float64)
        seen = np.isfinite(stretch.level)
        self.sites += len(level)
        self.seen += seen.sum(0)
        self.shared += (seen & (seen.sum(1) > 1)[:, None]).sum(0)
        self.levels += level.sum(0)
        if stretch.coverage is None or stretch.methylated is None:
            self.has_counts = False
            self._add_places(stretch, seen, seen, level)
            return
        self.reads += stretch.coverage.sum(0, dtype=np.int64)
        self.methylated += stretch.methylated.sum(0, dtype=np.int64)
        for sample, column in enumerate(np.minimum(stretch.coverage, DEEPEST).T):
            self.depth[sample] += np.bincount(column, minlength=DEEPEST + 1)
        self._add_places(stretch, seen, stretch.coverage, stretch.methylated)

    def _add_places(
        self,
        stretch: Stretch,
        seen: npt.NDArray[np.bool_],
        weight: Integers | npt.NDArray[np.bool_],
        marked: Integers | Floats,
    ) -> None:
        """Sites seen, weight (reads or sites) and marked weight by contig and context."""
        place = stretch.contig.astype(np.int64) * len(CONTEXTS) + stretch.context
        order = np.argsort(place, kind="stable")
        found, first = np.unique(place[order], return_index=True)
        sums = [
            np.add.reduceat(values[order], first, axis=0, dtype=np.float64)
            for values in (seen, weight, marked)
        ]
        for i, key in enumerate(found.tolist()):
            where = divmod(key, len(CONTEXTS))
            added = np.stack([values[i] for values in sums])
            self.places[where] = self.places[where] + added if where in self.places else added


# A sample shares most of its sites with others of its genome; below this something is off.
_SHARED_LEAST = 0.1


def strangers(tally: Tally, samples: Sequence[str]) -> tuple[str, ...]:
    """A sentence for each sample whose sites no other sample has: another build or offset."""
    if len(samples) < 2:
        return ()
    share = tally.shared / np.maximum(tally.seen, 1)
    return tuple(
        f"{name} shares {part:.0%} of its {seen:,} sites with any other sample: were its calls "
        "made on another genome build, or with positions counted from another base?"
        for name, part, seen in zip(samples, share, tally.seen, strict=True)
        if seen and part < _SHARED_LEAST
    )


def depth_quantile(depth: Integers, share: float) -> Integers:
    """The depth that a share of the seen sites does not exceed, (samples,); 0: nothing seen.

    depth : (samples, depths), how many sites are that deep

    >>> depth_quantile(np.array([[5, 1, 2, 1]]), 0.5).tolist()
    [2]
    """
    seen = np.cumsum(depth[:, 1:], axis=1)
    needed = np.maximum(np.ceil(share * seen[:, -1:]), 1)
    reached = seen >= needed
    return np.where(reached.any(1), reached.argmax(1) + 1, 0)


def sample_table(tally: Tally, samples: Sequence[str]) -> pl.DataFrame:
    """One row a sample: sites seen, coverage over the seen sites, and the global level."""
    none = [None] * len(samples)
    seen = np.maximum(tally.seen, 1)
    means = np.where(tally.seen > 0, tally.levels / seen, np.nan)
    if tally.has_counts:
        quantiles = {
            name: depth_quantile(tally.depth, share).tolist()
            for name, share in (("median", 0.5), ("p05", 0.05), ("p95", 0.95))
        }
        depth = (tally.reads / seen).tolist()
        reads = np.maximum(tally.reads, 1)
        level = np.where(tally.reads > 0, tally.methylated / reads, np.nan)
    else:
        quantiles = dict.fromkeys(("median", "p05", "p95"), none)
        depth, level = none, means
    columns = {
        "sample": list(samples),
        "sites_seen": tally.seen.tolist(),
        "share_seen": (tally.seen / max(tally.sites, 1)).tolist(),
        "coverage_mean": depth,
        "coverage_median": quantiles["median"],
        "coverage_p05": quantiles["p05"],
        "coverage_p95": quantiles["p95"],
        "level": level.tolist(),
        "level_mean": means.tolist(),
    }
    types = {"coverage_mean": pl.Float64} | {f"coverage_{q}": pl.Int64 for q in quantiles}
    return pl.DataFrame(columns, schema_overrides=types).with_columns(
        pl.col("level", "level_mean").fill_nan(None)
    )


def level_table(tally: Tally, samples: Sequence[str], contigs: Sequence[str]) -> pl.DataFrame:
    """Sites seen, reads and level of each sample by contig and context, in genome order.

    `reads` is null, and `level` weighs every site alike, where there are no counts.
    """
    places = sorted(tally.places)
    sums = np.array([tally.places[where] for where in places]).reshape(len(places), 3, -1)
    seen, weight, marked = sums.transpose(1, 0, 2).reshape(3, -1)
    level = np.divide(marked, weight, out=np.full_like(marked, np.nan), where=weight > 0)
    n = len(samples)
    reads = pl.Series("reads", weight.astype(np.int64))
    return pl.DataFrame(
        {
            "sample": list(samples) * len(places),
            "contig": [
                contigs[contig] if contig >= 0 else "" for contig, _ in places for _ in range(n)
            ],
            "context": [CONTEXTS[context] for _, context in places for _ in range(n)],
            "sites": seen.astype(np.int64),
            "reads": reads if tally.has_counts else pl.Series([None] * len(reads), dtype=pl.Int64),
            "level": level,
        }
    ).with_columns(pl.col("level").fill_nan(None))


def coverage_table(tally: Tally, samples: Sequence[str]) -> pl.DataFrame | None:
    """How many sites of each sample are covered by 0, 1, 2, ... reads; None without counts.

    The last bin (100) holds every deeper site.
    """
    if not tally.has_counts:
        return None
    binned = tally.depth[:, :HISTOGRAM_BINS].copy()
    binned[:, -1] += tally.depth[:, HISTOGRAM_BINS:].sum(1)
    return pl.DataFrame(
        {
            "sample": np.repeat(list(samples), HISTOGRAM_BINS),
            "coverage": np.tile(np.arange(HISTOGRAM_BINS), len(samples)),
            "sites": binned.ravel(),
        }
    )
