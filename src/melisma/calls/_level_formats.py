"""The formats that are no text of calls: matrices, array intensities, bigWig and Parquet."""

from pathlib import Path

from melisma.calls._format import Format
from melisma.calls._matrix import sniff_matrix

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
BINARY_FORMATS: tuple[Format, ...] = MATRICES
# Formats that give levels: a store holds these or counts.
LEVELS: tuple[Format, ...] = MATRICES
# Formats of which one file may hold several samples.
SHARED: tuple[Format, ...] = MATRICES


def sniff_levels(path: Path) -> tuple[Format, str] | None:
    """The format of a matrix, and why; None: the file is none."""
    reason = sniff_matrix(path)
    return None if reason is None else (MATRIX, reason)
