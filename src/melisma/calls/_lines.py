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
