"""What the sniffers ask about a file's first lines."""

import re
from collections.abc import Callable, Sequence

_HEADINGS = (b"#", b"track ", b"track\t", b"browser ", b"browser\t")


def content_of(lines: Sequence[bytes]) -> list[str]:
    """The lines that are neither blank nor comments nor track headers."""
    return [
        line.decode("utf-8", "replace")
        for line in lines
        if line.strip() and not line.startswith(_HEADINGS)
    ]


def rows_of(lines: Sequence[bytes], *, spaces_from: int | None = None) -> list[list[str]]:
    """The content's fields at tabs, and from column `spaces_from` (0-based) on at white space.

    >>> rows_of([b"#x", b"a\\tb\\tc d"], spaces_from=2)
    [['a', 'b', 'c', 'd']]
    """
    if spaces_from is None:
        return [line.split("\t") for line in content_of(lines)]
    rows = [line.split("\t", spaces_from) for line in content_of(lines)]
    return [[*row[:spaces_from], *" ".join(row[spaces_from:]).split()] for row in rows]


def header_of(lines: Sequence[bytes]) -> tuple[str, ...]:
    """The first content line's words, lower case, without quotes."""
    content = content_of(lines)
    return tuple(word.strip('"').lower() for word in content[0].split()) if content else ()


def mostly(rows: Sequence[Sequence[str]], fits: Callable[[Sequence[str]], bool]) -> bool:
    """Whether at least half of the rows fit: a bad row is the parser's to name.

    >>> mostly([["1"], ["2"], ["x"]], lambda row: is_integer(row[0]))
    True
    """
    return bool(rows) and 2 * sum(map(fits, rows)) >= len(rows)


def is_integer(*fields: str) -> bool:
    """Whether all fields are whole numbers."""
    return all(re.fullmatch(r"-?\d+", field) for field in fields)


def is_number(text: str) -> bool:
    """Whether a field is a decimal number."""
    return bool(re.fullmatch(r"-?\d+(\.\d*)?([eE][-+]?\d+)?", text))


def width_of(row: Sequence[str]) -> int:
    """End minus start of a row that begins as BED does; -1 where it does not.

    >>> width_of(["chr1", "4", "5"]), width_of(["chr1", "5", "+"])
    (1, -1)
    """
    if len(row) < 3 or not is_integer(row[1], row[2]):
        return -1
    return int(row[2]) - int(row[1])


def is_share(level: str, coverage: str, *, scale: float, error: float) -> bool:
    """Whether a level is that of some count among the reads, to within `error` of `scale`.

    >>> is_share("0.333", "3", scale=1, error=0.001), is_share("0.5", "3", scale=1, error=0.001)
    (True, False)
    """
    if not is_number(level) or not is_integer(coverage):
        return level == "." and coverage == "0"
    count, reads = float(level) / scale * int(coverage), int(coverage)
    return 0 <= count <= reads and abs(count - round(count)) <= error * reads + 1e-9


def fits_counts(level: str, methylated: str, unmethylated: str, *, error: float) -> bool:
    """Whether a percentage is that of the counts, to within `error` percent.

    >>> fits_counts("33", "1", "2", error=1), fits_counts("0.33", "1", "2", error=1)
    (True, False)
    """
    if not is_number(level) or not is_integer(methylated, unmethylated):
        return False
    reads = int(methylated) + int(unmethylated)
    return reads == 0 or abs(float(level) - 100 * int(methylated) / reads) <= error
