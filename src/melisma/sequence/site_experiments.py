"""Experiments around sites of a genome, as tables: motifs put in, taken out, and moved apart.

Backgrounds are windows around real sites that were shuffled, dinucleotides kept, while the site
itself stays: a CpG without its G has no level to speak of. Offsets count from the site's
base, on its strand: a motif at offset 2 begins two bases after it, one at -6 six bases before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from melisma import progress
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.sequence.attributions import reads_cpgs, usable_windows
from melisma.sequence.checkpoint import Model
from melisma.sequence.encodings import Codes
from melisma.sequence.experiments import (
    BeforeAfter,
    Predict,
    ablate,
    matches,
    mean_effect,
    mean_interval,
    motif_bases,
    shuffled_around,
    with_motif,
)
from melisma.sequence.predict import Sites

# Windows among which a motif's places are looked for.
_SEARCHED = 20_000


@dataclass(frozen=True)
class Bench:
    """Windows around sites, and the model that is asked about them.

    Attributes
    ----------
    predict : uint8 (n, width) to levels (n,), of one mark in one environment
    windows : uint8 (n, width), as the genome has them
    site : positions of a window, side by side, that every experiment leaves as they are
    """

    predict: Predict
    windows: Codes
    site: tuple[int, ...]

    @property
    def width(self) -> int:
        return self.windows.shape[1]

    def backgrounds(self, n: int, *, seed: int = 0) -> Codes:
        """Shuffled windows, one of each that was drawn: uint8 (n, width)."""
        rng = np.random.default_rng(seed)
        order = np.concatenate(
            [rng.permutation(len(self.windows)) for _ in range(-(-n // len(self.windows)))]
        )
        return shuffled_around(self.windows[order[:n]], 1, self.site, seed=seed)[:, 0]


def bench(
    model: Model,
    genome: Genome,
    sites: Sites,
    *,
    environment: Mapping[str, Any] | None = None,
    mark: str | None = None,
    seed: int = 0,
) -> Bench:
    """Draw windows around sites for experiments, at most 20,000.

    A model that is told of surroundings has their mean: no motif changes them.

    Raises
    ------
    MelismaError
        As `attributions`.
    """
    rows = np.random.default_rng(seed).permutation(len(sites.position))[:_SEARCHED]
    usable = usable_windows(model, genome, sites.of(np.sort(rows)), mark=mark)
    predict = model.function(usable.head, environment)
    return Bench(predict, usable.windows, site_positions(model, usable.head))


def site_positions(model: Model, head: int = 0) -> tuple[int, ...]:
    """The site's base and those of its context: CG, a C and the two bases after it, or an A."""
    centre = model.config.width // 2
    code = model.config.heads[head]
    length = 1 if code == "a" else 2 if reads_cpgs(model, code) else 3
    return tuple(range(centre, min(centre + length, model.config.width)))


def after_site(of: Bench) -> int:
    """The offset of the first base after the site's own."""
    return len(of.site)


def marginalize_motifs(
    of: Bench,
    motifs: Mapping[str, str],
    offsets: Sequence[int] | Mapping[str, Sequence[int]],
    *,
    n: int = 200,
    seed: int = 0,
) -> pl.DataFrame:
    """What motifs do when they are put into backgrounds.

    Parameters
    ----------
    motifs : name and bases in IUPAC's letters
    offsets : of a motif's first base from the site; those of each motif, or the same for all
    n : backgrounds, the same for every motif

    Returns
    -------
    experiment, name, motif, offset, n, before, after, effect, low, high (95% over backgrounds)

    Raises
    ------
    MelismaError
        A motif does not fit into the window, holds other letters, or puts another base on the site.
    """
    windows = of.backgrounds(n, seed=seed)
    before = of.predict(windows)
    rows = []
    with progress.stage("Putting motifs in", len(motifs)) as advance:
        for name, motif in motifs.items():
            own = offsets[name] if isinstance(offsets, Mapping) else offsets
            for offset in own:
                changed = _placed(of, windows, motif, offset, seed)
                found = mean_effect(BeforeAfter(before, of.predict(changed)))
                rows.append(("marginalize", name, motif, offset, *found))
            advance(1)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


SCHEMA = {
    "experiment": pl.String, "name": pl.String, "motif": pl.String, "offset": pl.Int64,
    "n": pl.Int64, "before": pl.Float64, "after": pl.Float64, "effect": pl.Float64,
    "low": pl.Float64, "high": pl.Float64,
}  # fmt: skip


def _placed(of: Bench, windows: Codes, motif: str, offset: int, seed: int) -> Codes:
    centre = of.width // 2
    length = len(motif_bases(motif))
    if not 0 <= centre + offset <= of.width - length:
        raise MelismaError(
            f"The motif {motif} of {length} bases at offset {offset} does not fit into windows of "
            f"{of.width} bases, which reach from {-centre} to {of.width - centre - 1} around the "
            "site."
        )
    changed = with_motif(windows, motif, centre + offset, seed=seed)
    site = list(of.site)
    if (changed[:, site] != windows[:, site]).any():
        raise MelismaError(
            f"The motif {motif} at offset {offset} puts another base on the site, which would be "
            f"none: choose an offset from {len(of.site)} or up to {-length}."
        )
    return changed


def ablate_motif(
    of: Bench, name: str, motif: str, *, offset: int | None = None, n: int = 200,
    shuffles: int = 10, seed: int = 0,
) -> pl.DataFrame:  # fmt: skip
    """What becomes of windows that hold a motif when it is shuffled away.

    Where a window holds it several times, the one nearest the site is taken. Its bases are
    replaced by those that a shuffle of the window has there; the site's own stay.

    Parameters
    ----------
    offset : only windows that hold the motif there; None: anywhere
    n : windows at most
    shuffles : of each window

    Returns
    -------
    As `marginalize_motifs`; `offset` is null where it may differ between windows. Empty where no
    window holds the motif.
    """
    held = matches(of.windows, motif)
    centre, length = of.width // 2, len(motif_bases(motif))
    if offset is not None:
        if not 0 <= centre + offset < held.shape[1]:
            raise MelismaError(
                f"The motif {motif} at offset {offset} does not fit into windows of {of.width} "
                "bases."
            )
        held[:, : centre + offset] = held[:, centre + offset + 1 :] = False
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(held.any(axis=1)))[:n]
    if not len(rows):
        return pl.DataFrame(schema=SCHEMA)
    distance = np.abs(np.arange(held.shape[1]) + length / 2 - centre - 0.5)
    start = np.where(held[rows], distance, np.inf).argmin(axis=1)
    before, after = np.empty(len(rows)), np.empty((len(rows), shuffles))
    for place in np.unique(start):
        here = start == place
        found = ablate(
            of.predict, of.windows[rows[here]], int(place), int(place) + length,
            shuffles=shuffles, seed=seed, keep=of.site, wide=True,
        )  # fmt: skip
        before[here], after[here] = found
    row = ("ablate", name, motif, offset, *mean_effect(BeforeAfter(before, after)))
    return pl.DataFrame([row], schema=SCHEMA, orient="row")


def ablate_stretch(
    of: Bench, start: int, end: int, *, n: int = 200, shuffles: int = 10, seed: int = 0
) -> pl.DataFrame:
    """What becomes of windows when a stretch beside the site is shuffled, the site's bases kept.

    Parameters
    ----------
    start, end : offsets from the site, half open

    Returns
    -------
    As `marginalize_motifs`; `name` says the stretch, `motif` is null
    """
    centre = of.width // 2
    if not -centre <= start < end <= of.width - centre:
        raise MelismaError(
            f"Offsets {start} to {end} are no stretch of windows that reach from {-centre} to "
            f"{of.width - centre} around the site."
        )
    if set(range(centre + start, centre + end)) <= set(of.site):
        raise MelismaError(f"Offsets {start} to {end} hold the site alone, which has to stay.")
    rows = np.random.default_rng(seed).permutation(len(of.windows))[:n]
    found = ablate(
        of.predict, of.windows[rows], centre + start, centre + end, shuffles=shuffles, seed=seed,
        keep=of.site, wide=True,
    )  # fmt: skip
    row = ("ablate", f"{start} to {end}", None, start, *mean_effect(found))
    return pl.DataFrame([row], schema=SCHEMA, orient="row")


def space_motifs(
    of: Bench, motifs: tuple[str, str], distances: Sequence[int], offset: int, *, n: int = 200,
    seed: int = 0,
) -> pl.DataFrame:  # fmt: skip
    """What two motifs do together at distances from each other, and beyond what each does alone.

    Parameters
    ----------
    distances : bases between the first's end and the second's start
    offset : of the first motif's first base from the site

    Returns
    -------
    As `marginalize_motifs`, with distance, and interaction, interaction_low, interaction_high: the
    effect of both less the sum of the two effects alone, at the same places
    """
    windows = of.backgrounds(n, seed=seed)
    before = of.predict(windows)
    first, second = motifs
    placed = _placed(of, windows, first, offset, seed)
    alone = of.predict(placed) - before
    rows = []
    with progress.stage("Moving motifs apart", len(distances)) as advance:
        for distance in distances:
            if distance < 0:
                raise MelismaError(f"A distance of {distance} bases would overlap the two motifs.")
            at = offset + len(first) + distance
            other = of.predict(_placed(of, windows, second, at, seed)) - before
            both = of.predict(_placed(of, placed, second, at, seed))
            found = mean_effect(BeforeAfter(before, both))
            beyond = mean_interval(np.asarray(both - before - alone - other, float))
            pair = f"{first} {second}"
            rows.append(("space", f"{first} + {second}", pair, offset, *found, distance, *beyond))
            advance(1)
    more = dict.fromkeys(("interaction", "interaction_low", "interaction_high"), pl.Float64)
    return pl.DataFrame(rows, schema=SCHEMA | {"distance": pl.Int64} | more, orient="row")


__all__ = [
    "SCHEMA", "Bench", "ablate_motif", "ablate_stretch", "after_site", "bench",
    "marginalize_motifs", "site_positions", "space_motifs",
]  # fmt: skip
