"""BED files, as tables of intervals: any set of regions that sites are to be compared with."""

from collections.abc import Collection, Mapping
from pathlib import Path

import polars as pl

from melisma import _contigs, progress
from melisma._text_rows import read_lines, refuse_first
from melisma.errors import MelismaError

WHAT = "intervals in BED"
_COLUMNS = ("contig", "start", "end", "name", "score", "strand")
_MOST = 12


def read_bed(
    path: Path | str, *, contigs: Collection[str] | Mapping[str, int] | None = None
) -> pl.DataFrame:
    """Read the intervals of a BED file of 3 to 12 columns, or one that begins as BED does.

    Comments, `track` and `browser` lines are skipped; columns are separated by tabs or, where the
    first row has no tab, by spaces. Columns after the sixth are not kept.

    Parameters
    ----------
    path : plain, gzip or bgzip
    contigs : the contigs of a store or a genome, whose names win over the file's, and whose
        lengths, where given, the intervals must fit

    Returns
    -------
    contig, start, end (0-based, half open), strand (1, -1; 0 where the file has none), name (its
    place `chr1:start-end` where the file has none), score (null where there is none); in file order

    Raises
    ------
    MelismaError
        A row is broken or empty, lies outside its contig, the file counts from 1, or none of its
        contigs is one of `contigs`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".bed") as file:
    ...     _ = file.write("track name=x\\nchr1\\t10\\t20\\nchr1\\t30\\t50\\tpeak\\t7\\t-\\n")
    ...     file.flush()
    ...     read_bed(file.name).rows()
    [('chr1', 10, 20, 0, 'chr1:10-20', None), ('chr1', 30, 50, -1, 'peak', 7.0)]
    """
    path = Path(path)
    tables: list[pl.DataFrame] = []
    tabs: bool | None = None
    text = pl.col("text")
    for lines in read_lines(path, WHAT):
        rows = lines.filter(
            ~text.str.contains(r"^(#|track[ \t]|browser[ \t]|track$|browser$)")
            & (text.str.strip_chars() != "")
        )
        if tabs is None and len(rows):
            tabs = "\t" in rows["text"][0]
        if not tabs:
            rows = rows.with_columns(text.str.strip_chars().str.replace_all(r"\s+", "\t"))
        tables.append(_fields(rows))
    table = pl.concat(tables)
    if not len(table):
        raise MelismaError(f"{path} has no rows: it should hold {WHAT}.")
    _check(path, table)
    return _named_as(path, table, contigs)


def _fields(rows: pl.DataFrame) -> pl.DataFrame:
    fields = pl.col("text").str.split_exact("\t", _MOST)
    names = [*_COLUMNS, *(f"more{k}" for k in range(_MOST + 1 - len(_COLUMNS)))]
    split = rows.select("line", fields.struct.rename_fields(names)).unnest("text")
    return split.select("line", *_COLUMNS).with_columns(
        pl.col(_COLUMNS).str.strip_chars(),
        first=pl.col("start").str.strip_chars().cast(pl.Int64, strict=False),
        last=pl.col("end").str.strip_chars().cast(pl.Int64, strict=False),
    )


def _check(path: Path, table: pl.DataFrame) -> None:
    first, last = pl.col("first"), pl.col("last")
    fault = pl.col("end").is_null() | (pl.col("contig") == "")
    refuse_first(path, table, fault, "a BED row has contig, start and end, at least three columns.")
    refuse_first(
        path,
        table,
        first.is_null() | last.is_null(),
        "the start and end are {start!r} and {end!r}, and should be whole numbers; put a # before "
        "a line of column names.",
    )
    # Tables of GRanges and the like: contig, start, end, width, both ends included.
    width = table.select(pl.col("name").cast(pl.Int64, strict=False)).to_series()
    if width.null_count() == 0 and (width == table["last"] - table["first"] + 1).all():
        raise MelismaError(
            f"{path} counts from 1, as its fourth column is end - start + 1 in every row: subtract "
            "1 from the starts, and write a name in the fourth column."
        )
    refuse_first(path, table, first < 0, "the start is {start}, and BED counts from 0.")
    refuse_first(path, table, first > last, "start {start} is after end {end}.")
    refuse_first(
        path,
        table,
        first == last,
        "start and end are both {start}, which is no base in BED: if the file counts from 1, "
        "subtract 1 from the starts.",
    )


def _named_as(
    path: Path, table: pl.DataFrame, contigs: Collection[str] | Mapping[str, int] | None
) -> pl.DataFrame:
    """The table as it is returned, with another file's contig names and within its contigs."""
    found = table["contig"].unique(maintain_order=True).to_list()
    if contigs is not None:
        aliases = _contigs.match(found, contigs)
        if not any(aliases.get(name, name) in contigs for name in found):
            raise MelismaError(
                f"{path} has intervals on {', '.join(found[:3])} and no contig in common with "
                f"{', '.join(list(contigs)[:3])}: is it of another genome?"
            )
        if aliases:
            progress.note(f"Contigs renamed in {path}: {_contigs.describe(aliases)}.")
            table = table.with_columns(pl.col("contig").replace(aliases))
    if isinstance(contigs, Mapping):
        length = pl.col("contig").replace_strict(dict(contigs), default=None, return_dtype=pl.Int64)
        refuse_first(
            path,
            table.with_columns(length=length).filter(pl.col("length").is_not_null()),
            pl.col("last") > pl.col("length"),
            "it ends at {last:,} and {contig} has {length:,} bases: is this the right genome "
            "build?",
        )
    place = pl.format("{}:{}-{}", "contig", "first", "last")
    named = ~pl.col("name").is_in(["", "."]).fill_null(True)
    return table.select(
        "contig",
        start="first",
        end="last",
        strand=pl.col("strand")
        .replace_strict({"+": 1, "-": -1}, default=0, return_dtype=pl.Int8)
        .fill_null(0),
        name=pl.when(named).then("name").otherwise(place),
        score=pl.col("score").cast(pl.Float64, strict=False),
    )
