"""Small real data inside the package, each with its source and licence beside it."""

from pathlib import Path
from typing import NamedTuple

from melisma.errors import MelismaError

__all__ = ["Description", "describe", "folder", "names"]


class Description(NamedTuple):
    """What a data set is, where it was taken from, and under which licence."""

    title: str
    source: str
    licence: str


_DATASETS = {
    "lupus": Description(
        title="RRBS of resting and activated naive B cells, healthy and lupus",
        source="data set RRBS of the Bioconductor package DSS, from Debian's r-bioc-dss 2.46.0",
        licence="GPL (of DSS); melisma's own licence does not cover it",
    ),
    "imr90": Description(
        title="WGBS of IMR90 fibroblasts, 4 Mb of chromosome 22, with its sequence",
        source="Lister et al. 2009, from Debian's r-bioc-bsseq; sequence from maffilter-examples",
        licence="Artistic-2.0 (of bsseq); melisma's own licence does not cover it",
    ),
    "glioma": Description(
        title="Array levels of 60 CpGs in 560 gliomas, with IDH mutation, expression and survival",
        source="TCGA, from Debian's r-bioc-tcgabiolinksgui.data and r-bioc-tcgabiolinks",
        licence="GPL-3 (of these packages); melisma's own licence does not cover it",
    ),
}


def names() -> tuple[str, ...]:
    """The names of the data sets.

    >>> names()
    ('lupus', 'imr90', 'glioma')
    """
    return tuple(_DATASETS)


def folder(name: str) -> Path:
    """The folder of a data set: its files, samples.tsv, study.toml and NOTICE.md.

    >>> folder("lupus").name
    'lupus'

    Raises
    ------
    MelismaError
        There is no such data set.
    """
    describe(name)
    return Path(__file__).parent / name


def describe(name: str) -> Description:
    """Title, source and licence of a data set; NOTICE.md in its folder tells more.

    >>> describe("lupus").title
    'RRBS of resting and activated naive B cells, healthy and lupus'

    Raises
    ------
    MelismaError
        There is no such data set.
    """
    if name not in _DATASETS:
        raise MelismaError(f"There is no data set {name!r}: there is {', '.join(names())}.")
    return _DATASETS[name]
