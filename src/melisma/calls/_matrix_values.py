"""A matrix's values, streamed into a flat file of float32 in bounded memory, and checked."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import progress
from melisma.calls._matrix import (
    MISSING,
    Layout,
    find_layout,
    looks_like_probe,
    missing_samples,
    read_head,
    reading_of_header,
)
from melisma.calls._source import line_number, text_blocks
from melisma.errors import MelismaError

_BLOCK = 1 << 22
# A percent table reaches beyond 10 somewhere; a level that is merely out of range does not.
_PERCENT = (10.0, 100.0)
# Normalised levels reach -0.002 to 1.002 in the 27k brain set.
_OVER = 0.05
# End minus start of a CpG.
_WIDEST = 2


class Piece(NamedTuple):
    """Levels of some samples at some sites, on disk.

    samples : (k,) names
    sites : DataFrame with one row a site: `probe`, or `contig`, `position` (as in the file) and
        `strand` (null where the file has none)
    file : float32, (sites, k), or (k, sites) if `samples_down`
    scale : what a value is multiplied with to be a level
    base, reason : reading of the positions, and why; None for probes
    chosen : whether the reading was asked for by the format's name
    """

    path: Path
    samples: tuple[str, ...]
    sites: pl.DataFrame
    file: Path
    samples_down: bool
    scale: float
    base: int | None = None
    reason: str = ""
    chosen: bool = False

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """Levels at some sites, (rows, k), NaN missing."""
        n, k = self.sites.height, len(self.samples)
        shape = (k, n) if self.samples_down else (n, k)
        stored = np.memmap(self.file, dtype=np.float32, mode="r", shape=shape)
        found = stored[:, rows].T if self.samples_down else stored[rows]
        levels = np.asarray(found, dtype=np.float32) * np.float32(self.scale)
        return np.clip(levels, 0, 1, out=levels)


class _Range:
    """The values' range, how many are missing, and how high each sample's reach."""

    def __init__(self) -> None:
        self.low, self.high, self.seen, self.outside = np.inf, -np.inf, 0, 0
        self.highest: dict[str, float] = {}

    def add(self, values: npt.NDArray[np.float32], samples: Sequence[str]) -> None:
        """Values of some samples, (sites, samples)."""
        highs = np.fmax.reduce(values, axis=0, initial=-np.inf)
        for name, high in zip(samples, highs.tolist(), strict=True):
            self.highest[name] = max(self.highest.get(name, high), high)
        known = values[~np.isnan(values)]
        if known.size:
            self.low = min(self.low, float(known.min()))
            self.high = max(self.high, float(known.max()))
            self.seen += known.size
            self.outside += int(np.count_nonzero((known < 0) | (known > 1)))

    def scale(self, path: Path) -> float:
        """1 for levels, 0.01 for percents (said); what is neither is refused.

        Normalisation can push levels a little over the edge: those are set to 0 and 1, and said.
        """
        if not self.seen:
            raise MelismaError(f"{path} holds no level: every value of the sheet's samples is NA.")
        if self.low >= 0 and self.high <= 1:
            return 1.0
        span = f"{path} has values from {self.low:.4g} to {self.high:.4g}"
        if self.low >= 0 and _PERCENT[0] < self.high <= _PERCENT[1]:
            self._refuse_fractions(path)
            progress.note(f"{span}: they were read as percents and divided by 100.")
            return 0.01
        if self.low >= -_OVER and self.high <= 1 + _OVER:
            progress.note(f"{span}: {self.outside:,} of {self.seen:,} were set to 0 or 1.")
            return 1.0
        if self.low < -_OVER:
            raise MelismaError(
                f"{span}, as M-values have, and levels (beta values, 0 to 1) are read: convert "
                "them with beta = 2^M / (2^M + 1)."
            )
        raise MelismaError(
            f"{span}, and levels lie from 0 to 1 (or, in percent, from 0 to 100): correct the "
            "values outside, or write them as NA."
        )

    def _refuse_fractions(self, path: Path) -> None:
        """Raise where some samples of a file of percents have fractions."""
        top = max(self.highest, key=self.highest.__getitem__)
        small = [name for name, high in self.highest.items() if 0 < high <= 1]
        if small:
            low = small[0]
            raise MelismaError(
                f"{path} has values up to {self.highest[low]:.4g} for sample {low} and up to "
                f"{self.highest[top]:.4g} for sample {top}, as if fractions and percents were "
                "mixed: write all samples' levels in one of the two."
            )


def read_matrix(
    path: Path,
    samples: Sequence[str],
    file: Path,
    *,
    base: int | None = None,
    advance: Callable[[float], Any] | None = None,
) -> Piece:
    """Read the sheet's samples of a matrix into a flat file.

    Parameters
    ----------
    samples : the sheet's samples that this matrix should have
    file : where the values go
    base : how positions are read, 0 or 1; None: as the header says

    Raises
    ------
    MelismaError
        A sample is missing, a value is not a number, or the values are no levels.
    """
    layout = find_layout(path, samples)
    file.parent.mkdir(parents=True, exist_ok=True)
    read = _read_samples_down if layout.samples_down else _read_samples_across
    reach = _Range()
    with file.open("wb") as out:
        sites = read(layout, samples, out, reach, advance)
    _refuse_repeats(layout, sites)
    piece = Piece(path, tuple(samples), sites, file, layout.samples_down, reach.scale(path))
    if not layout.has_positions:
        return piece
    found, reason = reading_of_header(layout, read_head(path).rows[0])
    if base is not None:
        found, reason = base, "as the format says"
    return piece._replace(base=found, reason=reason, chosen=base is not None)


def _blocks(
    layout: Layout, size: int, advance: Callable[[float], Any] | None
) -> Iterator[tuple[bytes, int]]:
    """Whole lines of values, and the first one's offset in the decompressed file."""
    for block in text_blocks(layout.path, size, advance):
        begin = max(0, layout.offset - block.offset)
        if begin >= block.end:
            continue
        text = bytes(block.text[begin : block.end])
        end = 0 if text.startswith(b"!") else text.find(b"\n!") + 1
        if text.startswith(b"!") or end:
            text = text[:end]
        if text.strip():
            yield text, block.offset + begin


def _read_samples_across(
    layout: Layout,
    samples: Sequence[str],
    out: Any,
    reach: _Range,
    advance: Callable[[float], Any] | None,
) -> pl.DataFrame:
    names = layout.names
    others = [n for i, n in enumerate(names) if i not in layout.id_columns]
    if not set(samples) <= set(others):
        raise missing_samples(layout.path, samples, others)
    for name in samples:
        if others.count(name) > 1:
            raise MelismaError(f"{layout.path} has {others.count(name)} columns named {name!r}.")
    _say_left_out(layout.path, len(others) - len(samples), "columns")
    wanted = [f"column_{names.index(name) + 1}" for name in samples]
    ids = {f"column_{i + 1}": _id_name(layout, i) for i in layout.id_columns}
    schema = {f"column_{i + 1}": pl.String for i in range(len(names))}
    schema |= dict.fromkeys(wanted, pl.Float32)
    parts: list[pl.DataFrame] = []
    for text, offset in _blocks(layout, _BLOCK, advance):
        _check_width(layout, text, offset)
        table = _parsed(layout, text, offset, schema, [*ids, *wanted], list(samples))
        values = np.ascontiguousarray(table.select(wanted).to_numpy(), dtype=np.float32)
        reach.add(values, samples)
        out.write(values.data)
        parts.append(table.select(pl.col(column).alias(name) for column, name in ids.items()))
    if not parts:
        raise MelismaError(f"{layout.path} has a header and no rows of levels.")
    return _sites(layout, pl.concat(parts))


def _id_name(layout: Layout, column: int) -> str:
    found = {layout.contig: "contig", layout.position: "position", layout.end: "end"}
    if not layout.has_positions:
        return "probe"
    return found.get(column, "strand")


def _sites(layout: Layout, ids: pl.DataFrame) -> pl.DataFrame:
    """The rows' probes, or their places as numbers."""
    if not layout.has_positions:
        return ids.select(pl.col("probe").str.strip_chars(' "'))
    number = ids["position"].cast(pl.Float64, strict=False)
    position = number.cast(pl.Int32, strict=False).set(number != number.floor(), None)
    if position.null_count() or ids["contig"].null_count():
        row = int((position.is_null() | ids["contig"].is_null()).arg_max() or 0)
        raise MelismaError(
            f"{layout.path} line {layout.header_line + row + 1:,}: "
            f"{ids['contig'][row]}, {ids['position'][row]!r} is no contig and position."
        )
    if "end" in ids.columns:
        _refuse_regions(layout, position, ids["end"].cast(pl.Float64, strict=False))
    strand = (
        ids["strand"].replace_strict({"+": 1, "-": -1}, default=0, return_dtype=pl.Int8)
        if "strand" in ids.columns
        else pl.repeat(0, len(ids), dtype=pl.Int8, eager=True)
    )
    return ids.select(pl.col("contig").str.strip_chars(' "')).with_columns(
        position.alias("position"), strand.alias("strand")
    )


def _refuse_regions(layout: Layout, start: pl.Series, end: pl.Series) -> None:
    """Raise at the first row that is wider than a CpG: a region's level is not its first base's."""
    wrong = (~(end - start).is_between(0, _WIDEST)).fill_null(False)
    if wrong.any():
        row = int(wrong.arg_max() or 0)
        raise MelismaError(
            f"{layout.path} line {layout.header_line + row + 1:,}: start is {start[row]} and end "
            f"is {end[row]:.0f}, and a site is one base, or the two of a CpG: give the levels of "
            "single sites, not of regions."
        )


def _check_width(layout: Layout, text: bytes, offset: int) -> None:
    """Every line has as many fields as the header; a short row would silently read as NA."""
    array = np.frombuffer(text, dtype=np.uint8)
    if b'"' in text:
        # What stands between quotes separates nothing.
        array = np.where(np.cumsum(array == ord('"')) & 1, np.uint8(0), array)
    ends = np.flatnonzero(array == ord("\n"))
    seen = np.searchsorted(np.flatnonzero(array == ord(layout.separator)), ends)
    fields = np.diff(seen, prepend=0) + 1
    lengths = np.diff(ends, prepend=-1) - 1
    wrong = (fields != len(layout.names)) & (lengths > 1)
    if wrong.any():
        k = int(np.argmax(wrong))
        start = int(ends[k - 1]) + 1 if k else 0
        line = line_number(layout.path, offset + start)
        raise MelismaError(
            f"{layout.path} line {line:,}: {fields[k]:,} fields where the header has "
            f"{len(layout.names):,}."
        )


def _parsed(
    layout: Layout,
    text: bytes,
    offset: int,
    schema: dict[str, Any],
    columns: list[str],
    samples: list[str],
) -> pl.DataFrame:
    options: dict[str, Any] = {
        "has_header": False,
        "separator": layout.separator,
        "null_values": list(MISSING),
        "decimal_comma": layout.decimal_comma,
    }
    wanted = [c for c, kind in schema.items() if kind == pl.Float32]
    try:
        table = pl.read_csv(text, schema=schema, columns=columns, **options)
    except pl.exceptions.ComputeError:
        words = pl.read_csv(text, schema=dict.fromkeys(schema, pl.String), **options)
        for column, sample in zip(columns[-len(samples) :], samples, strict=True):
            _refuse_word(layout, words[column], sample, text, offset)
        raise
    for column, sample in zip(columns[-len(samples) :], samples, strict=True):
        if table[column].is_infinite().any():
            _refuse_word(layout, table[column].cast(pl.String), sample, text, offset)
    assert len(wanted) == len(samples)
    return table


def _refuse_word(layout: Layout, words: pl.Series, sample: str, text: bytes, offset: int) -> None:
    cleaned = words.str.replace(",", ".", literal=True) if layout.decimal_comma else words
    number = cleaned.str.strip_chars(" \r").cast(pl.Float64, strict=False)
    wrong = (number.is_null() & words.is_not_null()) | number.is_infinite()
    wrong = wrong.fill_null(False)
    if not wrong.any():
        return
    row = int(wrong.arg_max() or 0)
    start = 0
    for _ in range(row):
        start = text.find(b"\n", start) + 1
    line = line_number(layout.path, offset + start)
    raise MelismaError(
        f"{layout.path} line {line:,}, sample {sample}: {words[row]!r} is not a level: write a "
        "number from 0 to 1, or NA."
    )


def _read_samples_down(
    layout: Layout,
    samples: Sequence[str],
    out: Any,
    reach: _Range,
    advance: Callable[[float], Any] | None,
) -> pl.DataFrame:
    """A row a sample; rows are written in the sheet's order, each at its place."""
    names = np.array(layout.names[1:], dtype=object)
    probes = np.array([looks_like_probe(name) for name in names])
    kept = probes if 2 * probes.sum() > len(probes) else np.ones(len(names), dtype=bool)
    _say_left_out(layout.path, int((~kept).sum()), "columns that are no probes")
    width = int(kept.sum()) * 4
    place = {name: k for k, name in enumerate(samples)}
    found: list[str] = []
    seen: set[str] = set()
    size = max(_BLOCK, 16 * sum(map(len, layout.names)))
    for text, offset in _blocks(layout, size, advance):
        start = 0
        for line in text.splitlines():
            here, start = offset + start, start + len(line) + 1
            if not line.strip():
                continue
            word, _, rest = line.partition(layout.separator.encode())
            sample = word.decode("utf-8", "replace").strip(' "')
            found.append(sample)
            if sample not in place:
                continue
            if sample in seen:
                raise MelismaError(f"{layout.path} has two rows named {sample!r}.")
            seen.add(sample)
            values = _row(layout, rest, sample, here, len(names))[kept]
            reach.add(values[:, None], [sample])
            out.seek(place[sample] * width)
            out.write(np.ascontiguousarray(values).data)
    if len(seen) < len(samples):
        raise missing_samples(layout.path, samples, found)
    _say_left_out(layout.path, len(found) - len(seen), "rows")
    return pl.DataFrame({"probe": names[kept].tolist()}, schema={"probe": pl.String})


def _row(
    layout: Layout, rest: bytes, sample: str, offset: int, width: int
) -> npt.NDArray[np.float32]:
    """One sample's values: a line turned into a column, which polars reads fast."""
    column = rest.replace(layout.separator.encode(), b"\n") + b"\n"
    options: dict[str, Any] = {
        "has_header": False,
        "separator": "\t" if layout.separator != "\t" else ",",
        "null_values": list(MISSING),
        "decimal_comma": layout.decimal_comma,
        "truncate_ragged_lines": True,
    }
    if layout.decimal_comma:
        options["separator"] = ";"
    fields = column.count(b"\n")
    if fields != width:
        raise MelismaError(
            f"{layout.path} line {line_number(layout.path, offset):,}: {fields + 1:,} fields where "
            f"the header has {width + 1:,}."
        )
    try:
        values = pl.read_csv(column, schema={"v": pl.Float32}, **options)["v"]
        words = None if not values.is_infinite().any() else values.cast(pl.String)
    except pl.exceptions.ComputeError:
        values, words = None, pl.read_csv(column, schema={"v": pl.String}, **options)["v"]
    if values is None or words is not None:
        assert words is not None
        number = words.cast(pl.Float64, strict=False)
        wrong = ((number.is_null() & words.is_not_null()) | number.is_infinite()).fill_null(False)
        k = int(wrong.arg_max() or 0)
        raise MelismaError(
            f"{layout.path}, sample {sample}, {layout.names[k + 1]}: {words[k]!r} is not a level: "
            "write a number from 0 to 1, or NA."
        )
    return values.to_numpy().astype(np.float32)


def _refuse_repeats(layout: Layout, sites: pl.DataFrame) -> None:
    twice = sites.filter(sites.is_duplicated())
    if len(twice):
        shown = ":".join(str(word) for word in twice.row(0)[:2]) if layout.has_positions else (
            repr(twice["probe"][0])
        )  # fmt: skip
        raise MelismaError(f"{layout.path} has {shown} more than once: keep one row for each.")


def _say_left_out(path: Path, count: int, what: str) -> None:
    if count > 0:
        noun = what if count > 1 or " " in what else what.removesuffix("s")
        progress.note(f"{path}: {count:,} {noun} that the sheet does not name were left out.")
