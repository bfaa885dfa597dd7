"""Who wrote six columns of contig, start, end, percentage and both counts.

Four tools write such rows. The end says whether a row is a base or a CpG, a percentage with
decimals that it is not MethylDackel, which writes whole ones, and two neighbouring bases that the
strands are not merged. What is left open is the user's to name.
"""

from collections.abc import Sequence
from itertools import pairwise

from melisma.calls._lines import fits_counts, is_integer, mostly, rows_of, width_of

BASES, MERGED = "methyldackel", "methyldackel-merged"
ZERO_COV, MERGED_COV = "bismark-zero-cov", "bismark-merged-cov"
_WHOLE = 1e-6


def writers(lines: Sequence[bytes]) -> dict[str, str]:
    """The formats that six such columns can be, each with the reason."""
    rows = rows_of(lines)
    fits = [row for row in rows if _is_counted(row)]
    if not mostly(rows, _is_counted):
        return {}
    if mostly(rows, lambda row: _is_counted(row) and width_of(row) in (2, 3)):
        return {MERGED: "6 columns: an end two or three bases on, a percentage, two counts"}
    if not mostly(rows, lambda row: _is_counted(row) and width_of(row) == 1):
        return {}
    shape = "6 columns: an end one base on, a percentage, two counts"
    if any(line.startswith(b"track") for line in lines):
        return {BASES: f"a track line, then {shape}"}
    whole = all("." not in row[3] for row in fits)
    exact = all(fits_counts(row[3], row[4], row[5], error=_WHOLE) for row in fits if row[3])
    if whole and not exact:
        return {BASES: f"{shape}, the percentage cut to a whole number"}
    found = {BASES: shape} if whole else {}
    if _has_neighbours(fits):
        return found | {ZERO_COV: f"{shape}, and calls on neighbouring bases"}
    return found | {ZERO_COV: shape, MERGED_COV: shape}


def _is_counted(row: Sequence[str]) -> bool:
    """Whether a row has two counts and the percentage that they give."""
    return len(row) == 6 and is_integer(row[4], row[5]) and fits_counts(*row[3:], error=1)


def _has_neighbours(rows: Sequence[Sequence[str]]) -> bool:
    """Whether two rows in turn are for a base and the next."""
    return any(
        one[0] == two[0] and abs(int(two[1]) - int(one[1])) == 1 for one, two in pairwise(rows)
    )
