"""The formats that are read, and which one a file is."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from melisma.calls._format import Format
from melisma.calls._lines import content_of, is_integer, is_number
from melisma.calls._source import check_file, head_lines, open_bytes, read_into
from melisma.calls.bedmethyl import BEDMETHYL, BEDMETHYL_21
from melisma.calls.bismark import BISMARK_COV
from melisma.calls.cgmap import CGMAP
from melisma.calls.dss import DSS
from melisma.calls.methylkit import METHYLKIT
from melisma.errors import MelismaError

MODBAM = Format(
    name="modbam",
    title="BAM with modified-base tags",
    base=0,
    evidence="real file: nanopore reads against the two bedMethyl files of modkit pileup",
    sniff=lambda lines: None,
)
FORMATS = (BEDMETHYL, BEDMETHYL_21, BISMARK_COV, METHYLKIT, DSS, CGMAP, MODBAM)


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
    if _begins(path, 4) == b"BAM\x01":
        return Sniffed(MODBAM, "the magic number of a BAM file")
    lines = head_lines(path)
    content = content_of(lines)
    if not content:
        raise MelismaError(f"{path} holds no calls: it has only blank or comment lines.")
    found = [Sniffed(form, reason) for form in FORMATS if (reason := form.sniff(lines)) is not None]
    if len(found) == 1:
        return found[0]
    first = content[0][:80]
    if found:
        names = " and ".join(each.format.name for each in found)
        raise MelismaError(
            f"{path} could be {names} (it begins with {first!r}): name one with --format."
        )
    columns = len(content[0].split("\t"))
    raise MelismaError(
        f"{path} is {_known_elsewhere(content)}: its first line has {columns} tab-separated "
        f"{'column' if columns == 1 else 'columns'}, {first!r}; `melisma formats` lists what is "
        "read."
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
    bed = len(wide) > 3 and is_integer(wide[1], wide[2]) and int(wide[1]) < int(wide[2])
    if bed and len(wide) == 4 and is_number(wide[3]):
        return (
            "a bedGraph, which has levels and no counts, so give the file with counts, such as "
            "Bismark's .cov"
        )
    if bed and len(wide) == 6 and is_integer(wide[4], wide[5]):
        return (
            "a 0-based table of counts (MethylDackel, or Bismark's .zero.cov), which is not read "
            "yet, so write Bismark's .cov"
        )
    if bed and len(wide) == 11:
        return "ENCODE bedMethyl of 9+2 columns, which is not read yet, so write modkit's 18"
    if bed and len(wide) == 15:
        return "bedMethyl of modbam2bed, which is not read, so write it with modkit pileup"
    if len(row) == 7 and is_integer(row[1]) and row[2] in ("+", "-"):
        return (
            "a cytosine report of Bismark or an ALLC table, which is not read yet, so write "
            "Bismark's .cov"
        )
    return "of no format that is read"
