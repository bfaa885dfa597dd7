"""A store's sites in the form of one sample's calls, to compare new samples' builds with."""

from itertools import pairwise
from pathlib import Path

import numpy as np

from melisma.calls._records import site_key
from melisma.calls._sample import SampleCalls
from melisma.calls._spool import Calls, Spool
from melisma.methylome import MARKS, open_methylome, parse_mark

# Contigs that are kept whole: those of most sites, as `_builds.compare` looks at few.
_WHOLE = 8


def stored_sites(store: Path, folder: Path) -> SampleCalls:
    """Every site of the contigs with most sites, and the last one of each other contig.

    Parameters
    ----------
    store : of counts, whose sites have positions
    folder : where the sites are written, as reads of coverage 1
    """
    found = open_methylome(store)
    marks = np.array([MARKS.index(parse_mark(code)) for code in found.attrs["marks"]])
    offsets = [int(offset) for offset in found.attrs["contig_offsets"]]
    bounds = dict(zip(found.attrs["contigs"], pairwise(offsets), strict=True))
    by_size = sorted(bounds, key=lambda contig: bounds[contig][0] - bounds[contig][1])
    whole = set(by_size[:_WHOLE])
    contigs: dict[str, tuple[int, int]] = {}
    with Spool(folder, context=False) as spool:
        for contig, (start, stop) in bounds.items():
            if stop == start:
                continue
            rows = slice(start if contig in whole else stop - 1, stop)
            position, strand, mark = (
                found[name][rows].values for name in ("position", "strand", "mark")
            )
            key = np.sort(site_key(position, strand, marks[mark]))
            seen = np.ones(len(key), dtype=np.uint32)
            first = spool.rows
            spool.append(Calls(key, seen, seen, np.empty(0, dtype=np.int8)))
            spool.end_frame()
            contigs[contig] = (first, spool.rows)
    return SampleCalls(
        folder=str(folder),
        contigs=contigs,
        rows=found.sizes["site"],
        calls=found.sizes["site"],
        drops={},
        largest=1,
        marks=0,
        strands=found.attrs["strands"],
        context=False,
        aliases={},
    )
