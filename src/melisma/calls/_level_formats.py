"""The formats that are no text of calls: matrices, array intensities, bigWig and Parquet."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from melisma.calls._format import Format
from melisma.calls._idat import IDAT, both_channels
from melisma.calls._matrix import sniff_matrix
from melisma.calls._records import ContigCalls
from melisma.calls._sample import Options, Source
from melisma.calls.bigwig import (
    BIGWIG,
    BIGWIG_COUNTS,
    bigwig_format,
    coverage_beside,
    is_bigwig,
    read_bigwig_counts,
)
from melisma.calls.parquet import PARQUET, has_samples, parquet_format, read_parquet
from melisma.errors import MelismaError

MATRIX = Format(
    name="matrix",
    title="matrix of levels (beta values): probes or sites × samples",
    base=1,
    evidence="real files: 27k, 450k and TCGA matrices, both ways round; positions by literals",
    sniff=lambda lines: None,
)
MATRIX_0 = MATRIX._replace(
    name="matrix-0",
    title="matrix of levels, sites × samples, positions 0-based",
    base=0,
    evidence="literals",
    tested="literals and round trips",
)
MATRIX_1 = MATRIX._replace(
    name="matrix-1",
    title="matrix of levels, sites × samples, positions 1-based",
    evidence="literals",
    tested="literals and round trips",
)
MATRICES = (MATRIX, MATRIX_0, MATRIX_1)
BINARY_FORMATS: tuple[Format, ...] = (*MATRICES, IDAT, BIGWIG, BIGWIG_COUNTS, PARQUET)


def has_levels(form: Format) -> bool:
    """Whether a format gives levels without counts: a store holds these or counts."""
    return form.name in {each.name for each in (*MATRICES, IDAT, BIGWIG)}


def is_shared(form: Format, path: Path) -> bool:
    """Whether a file of this format may hold several samples."""
    return form in MATRICES or (form.name == PARQUET.name and has_samples(path))


def with_strands(form: Format, path: Path, *, genome: bool) -> Format:
    """The format with what this file says of strands, where a binary format says it."""
    if form in (BIGWIG, BIGWIG_COUNTS):
        return bigwig_format(path, form, genome=genome)
    return parquet_format(path) if form is PARQUET else form


def file_beside(form: Format, path: Path, coverage: Path | None) -> Path | None:
    """The file that belongs to a sample's file.

    Raises
    ------
    MelismaError
        The format needs one, and it is not there.
    """
    if form is IDAT:
        green, red = both_channels(path)
        return red if path == green else green
    if form is not BIGWIG_COUNTS:
        return None
    beside = coverage or coverage_beside(path)
    if beside is None:
        raise MelismaError(
            f"{path} has no track of coverage beside it: name the two X.level.bw and "
            "X.coverage.bw, or give the sheet a column coverage_path."
        )
    return beside


def own_calls(
    source: Source, options: Options, advance: Callable[[float], Any]
) -> Iterator[ContigCalls] | None:
    """The calls of a binary format's own reader; None: the format is text."""
    if source.form.name == PARQUET.name:
        return read_parquet(source.path, source.sample, mark=options.mark, advance=advance)
    if source.form.name == BIGWIG_COUNTS.name and source.beside is not None:
        return read_bigwig_counts(source.path, source.beside, mark=options.mark, advance=advance)
    return None


def sniff_binary(path: Path, start: bytes) -> tuple[Format, str] | None:
    """The format of a binary file by its magic number (its first four bytes), and why."""
    if start == b"IDAT":
        return IDAT, "the magic word of an IDAT file"
    if start == b"PAR1":
        return PARQUET, "the magic number of a Parquet file"
    if not is_bigwig(start):
        return None
    beside = coverage_beside(path)
    if beside is None:
        return BIGWIG, "the magic number of a bigWig file, and no track of coverage beside it"
    return BIGWIG_COUNTS, f"the magic number of a bigWig file, and {beside.name} beside it"


def sniff_levels(path: Path) -> tuple[Format, str] | None:
    """The format of a matrix, and why; None: the file is none."""
    reason = sniff_matrix(path)
    return None if reason is None else (MATRIX, reason)
