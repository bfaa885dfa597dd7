"""Keep the best rows of a walk, a bounded number, whatever the order in which they come."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from melisma.quality._walk import Stretch

Rows = Mapping[str, npt.NDArray[Any]]


def site_hash(stretch: Stretch, seed: int = 0) -> npt.NDArray[np.uint64]:
    """A random-looking number of each site's place, (sites,), the same in every run.

    The finaliser of SplitMix64 (Steele, Lea & Flood 2014) over contig, position and strand.
    """
    place = stretch.position.astype(np.uint64) << np.uint64(2)
    place |= (stretch.strand.astype(np.int64) + 1).astype(np.uint64)
    place |= stretch.contig.astype(np.uint64) << np.uint64(34)
    mixed = place + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


class Pool:
    """The rows with the smallest keys offered so far, ties by hash, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rows: dict[str, npt.NDArray[Any]] | None = None

    def add(
        self, key: npt.NDArray[Any], tie: npt.NDArray[np.uint64], rows: Rows, chosen: Any
    ) -> None:
        """Offer the `chosen` ones of some rows.

        Parameters
        ----------
        key, tie : (rows,)
        rows : arrays whose first dimension is rows
        chosen : (rows,), boolean
        """
        if self._rows is not None and len(self._rows["key"]) == self._limit:
            worst = self._rows["key"].max()
            last = self._rows["tie"][self._rows["key"] == worst].max()
            chosen = chosen & ((key < worst) | ((key == worst) & (tie <= last)))
            if not chosen.any():
                return
        offered = {"key": key, "tie": tie, **rows}
        picked = {name: values[chosen] for name, values in offered.items()}
        if self._rows is not None:
            picked = {
                name: np.concatenate([self._rows[name], values]) for name, values in picked.items()
            }
        if len(picked["key"]) > self._limit:
            best = np.lexsort((picked["tie"], picked["key"]))[: self._limit]
            picked = {name: values[best] for name, values in picked.items()}
        self._rows = picked

    def rows(self) -> dict[str, npt.NDArray[Any]]:
        """The kept rows, best first; empty if nothing was offered."""
        if self._rows is None:
            return {}
        order = np.lexsort((self._rows["tie"], self._rows["key"]))
        return {name: values[order] for name, values in self._rows.items()}
