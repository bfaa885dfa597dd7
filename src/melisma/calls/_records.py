"""What every reader yields: one contig's calls as plain arrays."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class ContigCalls(NamedTuple):
    """The calls of one contig, each array of length n; positions are 0-based.

    `strand` is +1, -1 or 0 (merged or unknown), `mark` an index into `methylome.MARKS`,
    `methylated` the reads that carry the mark and `coverage` the valid reads.
    """

    contig: str
    position: npt.NDArray[np.int32]
    strand: npt.NDArray[np.int8]
    mark: npt.NDArray[np.int8]
    methylated: npt.NDArray[np.uint32]
    coverage: npt.NDArray[np.uint32]
