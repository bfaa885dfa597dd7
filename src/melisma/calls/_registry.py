"""The formats that are read, and which one a file is."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from melisma.calls._format import Format
from melisma.calls._level_formats import BINARY_FORMATS, sniff_binary, sniff_levels
from melisma.calls._lines import content_of, is_integer, is_number, width_of
from melisma.calls._source import check_file, head_lines, open_bytes, read_into
from melisma.calls.allc import ALLC
from melisma.calls.bedmethyl import BEDMETHYL, BEDMETHYL_21
from melisma.calls.biscuit import BISCUIT, BISCUIT_CONTEXT, BISCUIT_MERGED
from melisma.calls.bismark import (
    BISMARK_COV,
    BISMARK_MERGED_COV,
    BISMARK_REPORT,
    BISMARK_ZERO_COV,
)
from melisma.calls.cgmap import CGMAP
from melisma.calls.dnmtools import DNMTOOLS
from melisma.calls.dss import DSS
from melisma.calls.encode import ENCODE_BEDMETHYL, is_nine_and_two
from melisma.calls.methyldackel import METHYLDACKEL, METHYLDACKEL_MERGED
from melisma.calls.methylkit import METHYLKIT
from melisma.calls.modbam2bed import MODBAM2BED
from melisma.errors import MelismaError

MODBAM = Format(
    name="modbam",
    title="BAM with modified-base tags",
    base=0,
    evidence="real file: nanopore reads against the two bedMethyl files of modkit pileup",
    sniff=lambda lines: None,
)
FORMATS = (
    BEDMETHYL,
    BEDMETHYL_21,
    MODBAM2BED,
    ENCODE_BEDMETHYL,
    BISMARK_COV,
    BISMARK_ZERO_COV,
    BISMARK_MERGED_COV,
    BISMARK_REPORT,
    METHYLDACKEL,
    METHYLDACKEL_MERGED,
    METHYLKIT,
    ALLC,
    CGMAP,
    BISCUIT,
    BISCUIT_CONTEXT,
    BISCUIT_MERGED,
    DNMTOOLS,
    DSS,
    MODBAM,
    *BINARY_FORMATS,
)

# What a table of no tool is best written as.
OWN_TABLE = (
    "For a table of your own, write a file a sample, with tabs: chr, pos (1-based), N (reads), X "
    "(methylated), below a line of these four names (dss); or, with strands and contexts, without "
    "a header, chr, pos (1-based), strand, methylated, unmethylated, context, trinucleotide "
    "(bismark-report)."
)


class Sniffed(NamedTuple):
    """A file's format, and why."""

    format: Format
    reason: str


def format_named(name: str) -> Format:
    """The format that `--format` or a sample sheet names.

    Raises
    ------
    MelismaError
        There is no such format.
    """
    for form in FORMATS:
        if form.name == name.strip().lower():
            return form
    known = ", ".join(form.name for form in FORMATS)
    raise MelismaError(f"There is no format {name!r}: the formats are {known}.")


def sniff(path: Path | str) -> Sniffed:
    """Which format a file has, from its first lines, and why.

    Raises
    ------
    MelismaError
        The file is missing or empty, or its first lines are of no format that is read.
    """
    path = Path(path)
    check_file(path)
    _refuse_alignments(path)
    start = _begins(path, 4)
    if start == b"BAM\x01":
        return Sniffed(MODBAM, "the magic number of a BAM file")
    if (binary := sniff_binary(path, start)) is not None:
        return Sniffed(*binary)
    lines = head_lines(path)
    content = content_of(lines)
    found = [Sniffed(form, reason) for form in FORMATS if (reason := form.sniff(lines)) is not None]
    if not found and (levels := sniff_levels(path)) is not None:
        return Sniffed(*levels)
    if not content:
        raise MelismaError(f"{path} holds no calls: it has only blank or comment lines.")
    if len(found) == 1:
        return found[0]
    first = content[0][:80]
    if found:
        names = " or ".join(each.format.name for each in found)
        raise MelismaError(
            f"{path} could be {names} (it begins with {first!r}): name the right one with --format."
        )
    columns = len(content[0].split("\t"))
    raise MelismaError(
        f"{path} is {_known_elsewhere(content)}: its first line has {columns} tab-separated "
        f"{'column' if columns == 1 else 'columns'}, {first!r}; `melisma formats` lists what is "
        f"read. {OWN_TABLE}"
    )


def _begins(path: Path, count: int) -> bytes:
    stream, raw = open_bytes(path)
    with raw, stream:
        buffer = bytearray(count)
        return bytes(buffer[: read_into(path, stream, memoryview(buffer))])


def _refuse_alignments(path: Path) -> None:
    start = _begins(path, 4)
    if start in (b"CRAM", b"@HD\t", b"@SQ\t"):
        raise MelismaError(
            f"{path} is {'a CRAM' if start == b'CRAM' else 'a SAM'} file, and reads are taken from "
            "BAM: convert it with `samtools view -b`."
        )


def _known_elsewhere(content: Sequence[str]) -> str:
    """What a file of no supported format seems to be, and what to give instead."""
    row = content[-1].split("\t")
    wide = content[-1].split()
    bed = len(wide) > 3 and width_of(wide) > 0
    if bed and len(wide) == 4 and is_number(wide[3]):
        return (
            "a bedGraph, which has levels and no counts, so give the file with counts, such as "
            "Bismark's .cov"
        )
    if bed and len(wide) == 5 and is_number(wide[3]) and is_integer(wide[4]):
        return (
            "a level and a depth, which could be biscuit or a bedGraph of percentages with a "
            "depth, so pass --format biscuit if the levels are fractions of the depth"
        )
    if is_nine_and_two(wide):
        return (
            "bedMethyl of 11 columns with a modification in column 4, which could be modbam2bed's "
            "or encode-bedmethyl, so run modbam2bed with --extended, as its column 10 is the whole "
            "depth, or pass --format encode-bedmethyl if it is the valid coverage"
        )
    if len(row) == 7 and is_integer(row[2]) and row[3] in ("F", "R"):
        return "methylKit text without its header, so write the line that names the columns first"
    if len(wide) == 4 and is_integer(*wide[1:]):
        return "perhaps DSS text without its header, so write the line chr, pos, N, X first"
    return "of no format that is read"
