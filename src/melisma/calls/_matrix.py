"""What a matrix of levels is: its separator, its header, and which way round it lies.

Three shapes are read: probes down and samples across (GEO, R), samples down and probes across,
and sites down with position columns (metilene, BED-like tables). Which one a file has is told by
where the sheet's samples stand, by names that look like probes, and by the header's columns.
"""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from melisma.calls._lines import is_number
from melisma.calls._source import check_file, open_bytes
from melisma.errors import MelismaError

_PROBE = re.compile(r"(cg\d{6,}|ch\.(\d|X|Y)|rs\d{3,}|nv-|ctl[-_.])")
_CONTIG = ("chr", "chrom", "#chr", "#chrom", "chromosome", "contig", "seqnames", "cpg_chrm")
_ONE_BASED = ("pos", "position", "mapinfo", "base", "bp")
_ZERO_BASED = ("start", "chromstart", "cpg_beg", "beg")
_END = ("end", "stop", "chromend", "cpg_end")
_WORDS = ("", "na", "nan", "n/a", "null", "-", ".")
_FEW_ROWS = 8
MISSING = ("", "NA", "NaN", "nan", "N/A", "null", "NULL", "-", ".")


class Layout(NamedTuple):
    """How a matrix is read.

    names : header, one name a column of the data ("" for row names that the header leaves out)
    separator : one character; decimal_comma : numbers are written 0,5
    offset : bytes of the decompressed file before the first row of values
    rows : how the first rows begin (id or contig)
    samples_down : a row a sample, a column a probe
    contig, position, end, strand : columns of positions, None for probes
    """

    path: Path
    names: tuple[str, ...]
    separator: str
    decimal_comma: bool
    offset: int
    header_line: int
    samples_down: bool
    contig: int | None = None
    position: int | None = None
    end: int | None = None
    strand: int | None = None

    @property
    def has_positions(self) -> bool:
        """Whether rows are sites with coordinates, not probes."""
        return self.contig is not None

    @property
    def id_columns(self) -> tuple[int, ...]:
        """The columns that name a row."""
        found = (self.contig, self.position, self.end, self.strand)
        return tuple(i for i in found if i is not None) or (0,)


class Head(NamedTuple):
    """A matrix's header and first rows, split."""

    names: list[str]
    rows: list[list[str]]
    separator: str
    offset: int
    header_line: int


def looks_like_probe(name: str) -> bool:
    """Whether a name is that of an Illumina methylation probe."""
    return _PROBE.match(name) is not None


def read_head(path: Path, rows: int = _FEW_ROWS) -> Head:
    """The header, however long, and the first rows; lines of # and ! before it are skipped.

    Raises
    ------
    MelismaError
        The file has no header or no row of values.
    """
    check_file(path)
    stream, raw = open_bytes(path)
    offset = number = 0
    header: list[str] | None = None
    separator = "\t"
    read: list[list[str]] = []
    with raw, stream, io.BufferedReader(stream, 1 << 16) as lines:  # type: ignore[arg-type]
        for line in lines:
            text = line.decode("utf-8-sig", "replace").rstrip("\r\n")
            if header is None:
                number += 1
                offset += len(line)
                if _is_comment(text):
                    continue
                separator = max("\t,;", key=text.count)
                header = _split(text, separator)
            elif text and not text.startswith("!"):
                read.append(_split(text, separator))
            if len(read) == rows:
                break
    if header is None or not read:
        raise MelismaError(f"{path} is no matrix of levels: it has no row under a header.")
    if len(read[0]) == len(header) + 1:
        # R's write.table leaves the row names' column out of the header.
        header = ["", *header]
    return Head(header, read, separator, offset, number)


def _is_comment(text: str) -> bool:
    first = re.split(r"[\t,; ]", text.lower(), maxsplit=1)[0]
    return not text.strip() or text[0] == "!" or (text[0] == "#" and first not in _CONTIG)


def _split(text: str, separator: str) -> list[str]:
    # A carriage return inside is no line's end of a table: csv would raise.
    if '"' in text and "\r" not in text:
        return [field.strip() for field in next(csv.reader([text], delimiter=separator))]
    return [field.strip() for field in text.split(separator)]


def find_layout(path: Path, samples: Sequence[str]) -> Layout:
    """Which way round a matrix lies, given the sheet's samples.

    Raises
    ------
    MelismaError
        Neither axis, or both, can be the samples'.
    """
    head = read_head(path)
    comma = head.separator != "," and any(
        re.fullmatch(r"\d+,\d+", field) for row in head.rows for field in row[1:]
    )
    made = Layout(path, tuple(head.names), head.separator, comma, head.offset, head.header_line,
                  samples_down=False)  # fmt: skip
    places = _position_columns(head.names)
    if places is not None:
        return made._replace(**places)
    wanted = set(samples)
    across = bool(wanted & set(head.names)) or _are_probes([row[0] for row in head.rows])
    down = bool(wanted & {row[0] for row in head.rows}) or _are_probes(head.names[1:])
    if across != down:
        return made._replace(samples_down=down)
    first = f"its header begins {', '.join(head.names[:4])}, its first row {head.rows[0][0]}"
    raise MelismaError(
        f"{path}: {'both axes' if across else 'neither axis'} could be the samples ({first}): name "
        "the sheet's samples on one axis, as the matrix names them, and probes or positions on the "
        "other."
    )


def _are_probes(names: Sequence[str]) -> bool:
    return 2 * sum(looks_like_probe(name) for name in names) > len(names)


def _position_columns(names: Sequence[str]) -> dict[str, int | None] | None:
    lower = [name.lower() for name in names]

    def first(known: Sequence[str]) -> int | None:
        return next((i for i, name in enumerate(lower[:6]) if name in known), None)

    contig, position = first(_CONTIG), first((*_ONE_BASED, *_ZERO_BASED))
    if contig is None or position is None:
        return None
    end, strand = first(_END), first(("strand",))
    return {"contig": contig, "position": position, "end": end, "strand": strand}


def reading_of_header(layout: Layout, row: Sequence[str]) -> tuple[int, str]:
    """The coordinate of a contig's first base, 0 or 1, that a header and row speak for, and why."""
    assert layout.contig is not None
    assert layout.position is not None
    name = layout.names[layout.position]
    if name.lower() in _ONE_BASED:
        return 1, f"the header says {name}"
    if layout.names[layout.contig].lower() == "seqnames":
        return 1, "the header says seqnames, as R's GRanges do"
    if layout.end is not None and row[layout.end] == row[layout.position]:
        return 1, "start equals end"
    return 0, f"the header says {name}" + (
        f" and {layout.names[layout.end]}" if layout.end is not None else ""
    )


def sniff_matrix(path: Path) -> str | None:
    """Why a file looks like a matrix of levels; None where it does not."""
    try:
        head = read_head(path)
    except MelismaError:
        return None
    if len(head.names) < 2 or any(len(row) != len(head.names) for row in head.rows):
        return None
    places = _position_columns(head.names)
    others = [i for i in range(len(head.names)) if i not in _known_columns(head.names, places)]
    numbers = [row[i] for row in head.rows for i in others if row[i].lower() not in _WORDS]
    if not others or sum(is_number(word.replace(",", ".")) for word in numbers) < len(numbers):
        down = _are_probes(head.names[1:])
        return f"a row a sample and {_count(head)} probes across" if down else None
    if places is not None:
        return f"position columns and {len(others)} columns of numbers"
    if _are_probes([row[0] for row in head.rows]):
        return f"probes down ({head.rows[0][0]}) and {_count(head)} columns across"
    if _are_probes(head.names[1:]):
        return f"a row a sample and {_count(head)} probes across"
    return None


def _count(head: Head) -> str:
    return f"{len(head.names) - 1:,}"


def _known_columns(names: Sequence[str], places: dict[str, int | None] | None) -> set[int | None]:
    return {0} if places is None else set(places.values())


def missing_samples(path: Path, wanted: Sequence[str], found: Sequence[str]) -> MelismaError:
    """The error for samples of the sheet that a matrix does not have."""
    lacking = [name for name in wanted if name not in found]
    named = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
    mangled = {make_names(name): name for name in lacking}
    close = next((name for name in found if name in mangled), None)
    if close is not None:
        remedy = (
            f"it has {close!r}, as R's make.names writes {mangled[close]!r}: read the table in R "
            "with check.names=FALSE, or write the sheet's samples so"
        )
    else:
        some = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
        remedy = f"its samples are {some or 'none'}: name them in the sheet as the matrix does"
    return MelismaError(f"{path} lacks {named} of the sample sheet; {remedy}.")


def make_names(name: str) -> str:
    """A name as R's make.names writes it.

    >>> make_names("9721365-R01"), make_names("a b")
    ('X9721365.R01', 'a.b')
    """
    dotted = re.sub(r"[^\w.]", ".", name)
    return dotted if re.match(r"[A-Za-z]|\.(?!\d)", dotted) else f"X{dotted}"
