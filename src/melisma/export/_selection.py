"""What of a store is exported: samples, a region, a mark, contexts."""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from melisma.errors import MelismaError
from melisma.methylome import CONTEXTS, parse_mark, select

_MOST_NAMED = 5


class Selection(NamedTuple):
    """Sites first:last of a store, and what is kept of them.

    samples : indices of the samples, in the order asked for; names : theirs
    mark : index into the store's marks, None: all
    contexts : indices into `CONTEXTS`, None: all
    """

    methylome: xr.Dataset
    samples: list[int]
    names: list[str]
    first: int
    last: int
    mark: int | None
    contexts: tuple[int, ...] | None

    @property
    def has_counts(self) -> bool:
        """Whether the store holds counts (else levels)."""
        return "coverage" in self.methylome

    @property
    def marks(self) -> list[str]:
        """Codes of the marks that are exported."""
        codes: list[str] = self.methylome.attrs["marks"]
        return codes if self.mark is None else [codes[self.mark]]


def make_selection(
    methylome: xr.Dataset,
    *,
    samples: Sequence[str] | None = None,
    region: str | None = None,
    mark: str | None = None,
    contexts: Sequence[str] | None = None,
) -> Selection:
    """Find what is asked for.

    Raises
    ------
    MelismaError
        A sample, contig, mark or context is not there, or no site is left.
    """
    chosen, names = _samples(methylome, samples)
    first, last = _site_range(methylome, region)
    return Selection(
        methylome, chosen, names, first, last, _mark(methylome, mark), _contexts(contexts)
    )


def _samples(methylome: xr.Dataset, wanted: Sequence[str] | None) -> tuple[list[int], list[str]]:
    names = [str(name) for name in methylome["sample"].values]
    if not wanted:
        return list(range(len(names))), names
    for number, name in enumerate(wanted):
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            some = ", ".join(names[:_MOST_NAMED])
            more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
            hint = f"did you mean {near[0]!r}?" if near else f"it has {some}{more}."
            raise MelismaError(f"The store has no sample {name!r}: {hint}")
        if name in wanted[:number]:
            raise MelismaError(f"The sample {name!r} is asked for twice: name each once.")
    return [names.index(name) for name in wanted], list(wanted)


def _site_range(methylome: xr.Dataset, region: str | None) -> tuple[int, int]:
    sites = methylome.sizes["site"]
    if region is None:
        if not sites:
            raise MelismaError("The store holds no sites: there is nothing to export.")
        return 0, sites
    part = select(methylome, region=region)
    if not part.sizes["site"]:
        raise MelismaError(
            f"The store has no site in {region} (0-based, half open): name another region."
        )
    contig = int(part["contig"][0])
    start, stop = methylome.attrs["contig_offsets"][contig : contig + 2]
    positions = methylome["position"][start:stop].values
    first = int(start + np.searchsorted(positions, int(part["position"][0])))
    return first, first + part.sizes["site"]


def _mark(methylome: xr.Dataset, mark: str | None) -> int | None:
    codes = methylome.attrs["marks"]
    if mark is None:
        return 0 if len(codes) == 1 else None
    code = parse_mark(mark).code
    if code not in codes:
        raise MelismaError(
            f"The store has no mark {mark!r}; it has "
            f"{', '.join(f'{each} ({parse_mark(each).name})' for each in codes)}."
        )
    return codes.index(code)


def _contexts(contexts: Sequence[str] | None) -> tuple[int, ...] | None:
    if not contexts:
        return None
    for word in contexts:
        if word not in CONTEXTS:
            raise MelismaError(f"There is no context {word!r}: use {', '.join(CONTEXTS)}.")
    return tuple(CONTEXTS.index(word) for word in dict.fromkeys(contexts))
