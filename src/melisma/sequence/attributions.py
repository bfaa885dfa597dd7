"""Which bases around a site decide its level: mutagenesis of many windows, for other tools too.

Every base of every window is exchanged for each of the three others, and the level is asked again.
A base's *contribution* is what the window's own base adds over the mean of the others. The
contributions of the three bases that are not there, taken against the same mean, are called
*hypothetical*; tf-modisco reads both. A genome browser reads one number a base: its mean
contribution over the windows that hold it.

The modified base itself, and a CpG's G, cannot be exchanged: without them there is no site to have
a level. Their contributions are 0, and no window of theirs counts in a track.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import progress
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.sequence.checkpoint import Model
from melisma.sequence.encodings import LETTERS, UNKNOWN, Codes, one_hot
from melisma.sequence.motifs import contributions
from melisma.sequence.mutagenesis import mutagenesis
from melisma.sequence.predict import Sites, windows_of_sites
from melisma.sequence.windows import BASE_OF_MARK

Floats = npt.NDArray[np.floating[Any]]
# Windows between two reports of progress.
_LOT = 16
# A window of which more is unknown says nothing of sequence.
_MOST_UNKNOWN = 0.5
# Bases of a contig whose contributions are summed at once.
_STRETCH = 1 << 20


@dataclass(frozen=True)
class Attributions:
    """What single bases do to the levels of n sites.

    Attributes
    ----------
    windows : uint8 (n, width), read 5' to 3' on the site's strand, the site at `width // 2`
    level : float32 (n,), of the windows as they are
    effect : float32 (n, width, 4), the level with A, C, G or T there less `level`; NaN where the
        window's base is unknown
    fixed : positions of a window without which it is no site's
    sites : where the windows lie, in their order; None for windows that were given as sequences
    """

    windows: Codes
    level: npt.NDArray[np.float32]
    effect: npt.NDArray[np.float32]
    fixed: tuple[int, ...]
    sites: Sites | None = None

    @property
    def contribution(self) -> Floats:
        """(n, width): what each own base adds over the mean of the others; 0 where it is fixed."""
        value = contributions(self.windows, self.effect)
        value[:, list(self.fixed)] = 0.0
        return value

    @property
    def hypothetical(self) -> npt.NDArray[np.float32]:
        """(n, 4, width): every base against the mean of those that are not there.

        At the window's own base it is `contribution`, so that its product with the one-hot windows
        is what the bases contribute.
        """
        value = self.effect + self.contribution[:, :, None]
        value[self.windows == UNKNOWN] = 0.0
        value[:, list(self.fixed)] = 0.0
        return np.ascontiguousarray(value.transpose(0, 2, 1), np.float32)

    def by_position(self) -> Floats:
        """(4, width): what A, C, G and T do at each position, against the mean of the four there.

        A mean over the windows, of the base they have and of those they have not; 0 where fixed.
        """
        seen = (self.windows < UNKNOWN)[:, :, None]
        effect = np.where(seen, self.effect, 0.0)
        total = (effect - effect.mean(axis=2, keepdims=True)).sum(axis=0)  # (width, 4)
        mean = total / np.maximum(seen.sum(axis=0), 1)
        mean[list(self.fixed)] = 0.0
        return mean.T


def attributions(
    model: Model,
    genome: Genome,
    sites: Sites,
    *,
    environment: Mapping[str, Any] | None = None,
    mark: str | None = None,
    most: int | None = None,
    seed: int = 0,
) -> Attributions:
    """Mutagenesis of the windows around sites, all of them or a random sample.

    Windows of which more than half is unknown, and those whose site does not hold the mark's base,
    are left out with a note.

    Parameters
    ----------
    environment : a value for each column that the model was told; what is left out is the mean
    mark : a head's code; None for the model's first
    most : sites that are drawn without replacement; None: all
    seed : of the draw

    Raises
    ------
    MelismaError
        The model was trained on labels or for another kind of site, the environment is not known,
        the sites do not lie in the genome, or no window is left.
    """
    told = model.environment.encode_one(environment or {}).values
    rows = np.arange(len(sites.position))
    if most is not None and most < len(rows):
        if most < 1:
            raise MelismaError(f"{most} sites are none: ask for one or more.")
        rows = np.sort(np.random.default_rng(seed).permutation(rows)[:most])
    usable = usable_windows(model, genome, sites.of(rows), mark=mark)
    fixed = fixed_positions(model, usable.head)
    return _mutated(model, usable, told, fixed, usable.sites)


def attributions_of_windows(
    model: Model,
    windows: Codes,
    *,
    environment: Mapping[str, Any] | None = None,
    head: int = 0,
    fixed: tuple[int, ...] = (),
) -> Attributions:
    """The same for windows that were given as sequences, of a model of labels for example.

    Parameters
    ----------
    windows : uint8 (n, width), as `encode` makes them
    fixed : positions without which a window is no site's
    """
    told = model.environment.encode_one(environment or {}).values
    if not len(windows):
        raise MelismaError("There is no window to explain: give one or more.")
    return _mutated(model, Usable(windows, None, head, None), told, fixed, None)


class Usable(NamedTuple):
    """Windows of sites that say something.

    windows : uint8 (n, width)
    sites : theirs, strands resolved; None for windows that were given as sequences
    head : which of the model's marks answers
    surroundings : float32 (n, scales, 5); None for a model that is not told
    """

    windows: Codes
    sites: Sites | None
    head: int
    surroundings: npt.NDArray[np.float32] | None


def usable_windows(
    model: Model, genome: Genome, sites: Sites, *, mark: str | None = None
) -> Usable:
    """The windows of sites that say something: known bases around a base that bears the mark.

    Raises
    ------
    MelismaError
        The model was trained on labels or for another kind of site, or no window is left.
    """
    _require_sites(model)
    source, head, code = windows_of_sites(model, genome, sites, mark=mark)
    codes = source.codes(np.arange(len(sites.position)))
    centre = model.config.width // 2
    own = np.all(
        [codes[:, at] == base for at, base in _site_bases(model, code, centre)], axis=0
    )  # (n,)
    known = (codes == UNKNOWN).mean(axis=1) <= _MOST_UNKNOWN
    keep = own & known
    empty, wrong = int((~known).sum()), int((known & ~own).sum())
    if not keep.any():
        raise MelismaError(
            f"Of {len(keep):,} windows, {empty:,} are mostly N and {wrong:,} have no site of the "
            f"mark at their centre in genome {genome.name}: name other sites."
        )
    if empty:
        progress.note(f"{empty:,} windows of which most is N are left out.")
    if wrong:
        progress.note(f"{wrong:,} windows without a site of the mark at their centre are left out.")
    rows = np.flatnonzero(keep)
    strands = Sites(sites.contigs, sites.contig, sites.position, source.strand)
    around = source.surroundings(rows) if model.config.surroundings else None
    return Usable(codes[rows], strands.of(rows), head, around)


def fixed_positions(model: Model, head: int = 0) -> tuple[int, ...]:
    """Positions of a window without which its site is none: the mark's base, and a CpG's G."""
    centre = model.config.width // 2
    code = model.config.heads[head]
    return tuple(at for at, _ in _site_bases(model, code, centre))


def _site_bases(model: Model, code: str, centre: int) -> list[tuple[int, int]]:
    bases = [(centre, LETTERS.index(BASE_OF_MARK[code]))]
    if reads_cpgs(model, code) and centre + 1 < model.config.width:
        bases.append((centre + 1, LETTERS.index("G")))
    return bases


def reads_cpgs(model: Model, code: str = "m") -> bool:
    """Whether the model was trained on CpGs alone."""
    return BASE_OF_MARK.get(code) == "C" and list(model.record.get("contexts", ())) == ["CG"]


def _require_sites(model: Model) -> None:
    heads = [head for head in model.config.heads if head not in BASE_OF_MARK]
    if heads:
        raise MelismaError(
            f"The model predicts {', '.join(heads)}, which is no mark of a genome's bases: explain "
            "windows of its own with melisma.sequence.attributions.attributions_of_windows."
        )
    if model.config.head == "bernoulli" and not {"contexts", "store"} & set(model.record):
        raise MelismaError(
            "The model was trained on labels of given windows, not on a store's sites, so nothing "
            "says which sites of a genome it is for: explain windows of its own with "
            "melisma.sequence.attributions.attributions_of_windows."
        )


def _mutated(
    model: Model, usable: "Usable", told: Any, fixed: tuple[int, ...], sites: Sites | None
) -> Attributions:
    windows, around = usable.windows, usable.surroundings
    level, effect = [], []
    with progress.stage("Mutating windows", len(windows)) as advance:
        for start in range(0, len(windows), _LOT):
            at = slice(start, start + _LOT)
            found = mutagenesis(
                model, windows[at], told, head=usable.head,
                surroundings=None if around is None else around[at],
            )  # fmt: skip
            level.append(found.level)
            effect.append(found.effect)
            advance(len(found.level))
    return Attributions(windows, np.concatenate(level), np.concatenate(effect), fixed, sites)


def to_modisco(found: Attributions, sequences: Path | str, scores: Path | str) -> None:
    """The two files of `modisco motifs -s ohe.npz -a attr.npz -w WIDTH`.

    WIDTH is even there, so below the windows'. Each file holds one array `arr_0`, (n, 4, width),
    bases in the order A, C, G, T: the one-hot windows, int8, and their hypothetical contributions,
    float32. An unknown base is zeros in both.
    """
    for path, array in (
        (Path(sequences), one_hot(found.windows).astype(np.int8)),
        (Path(scores), found.hypothetical),
    ):
        _written(path, lambda file, array=array: np.savez_compressed(file, arr_0=array))


def to_npz(found: Attributions, path: Path | str) -> None:
    """Everything in one file: `ohe` and `attr` as `to_modisco` has them, `level`, and the sites.

    The sites are `contig` (names), `position` (0-based) and `strand` (1, -1), (n,) each; windows
    that were given as sequences have none.
    """
    arrays: dict[str, Any] = {
        "ohe": one_hot(found.windows).astype(np.int8),
        "attr": found.hypothetical,
        "level": found.level,
    }
    if found.sites is not None:
        arrays["contig"] = np.array(found.sites.contigs, dtype=str)[found.sites.contig]
        arrays["position"], arrays["strand"] = found.sites.position, found.sites.strand
    _written(Path(path), lambda file: np.savez_compressed(file, **arrays))


def _written(path: Path, write: Callable[[Any], None]) -> None:
    from melisma.methylome import atomic_file

    with atomic_file(path) as work, work.open("wb") as file:
        write(file)


def base_contributions(found: Attributions) -> pl.DataFrame:
    """The contribution of each base of the genome, a mean over the windows that hold it.

    Returns
    -------
    contig, position (0-based), contribution, windows (how many hold the base); sorted, without
    bases that no window holds or that are unknown

    Raises
    ------
    MelismaError
        The windows were given as sequences, which lie nowhere.
    """
    sites = found.sites
    if sites is None:
        raise MelismaError("Windows that were given as sequences have no place in a genome.")
    value = found.contribution
    seen = found.windows < UNKNOWN
    seen[:, list(found.fixed)] = False
    parts = []
    for k in np.unique(sites.contig):
        rows = np.flatnonzero(sites.contig == k)
        rows = rows[np.argsort(sites.position[rows], kind="stable")]
        for position, mean, count in _stretches(sites, value, seen, rows):
            parts.append(
                pl.DataFrame({"position": position, "contribution": mean, "windows": count}).select(
                    pl.lit(sites.contigs[k]).alias("contig"), pl.all()
                )
            )
    return pl.concat(parts)


def _stretches(
    sites: Sites, value: Floats, seen: npt.NDArray[np.bool_], rows: npt.NDArray[Any]
) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """Positions, means and counts of one contig's windows, a stretch of bases after another."""
    half = value.shape[1] // 2
    centre = sites.position[rows].astype(np.int64)
    offset = np.arange(-half, half + 1)
    begin, last = int(centre[0]) - half, int(centre[-1]) + half + 1
    for start in range(begin, last, _STRETCH):
        end = min(start + _STRETCH, last)
        first, stop = np.searchsorted(centre, [start - half, end + half])
        here = rows[first:stop]
        if not len(here):
            continue
        # On the minus strand a window is read backwards.
        place = centre[first:stop, None] + offset * np.where(sites.strand[here] < 0, -1, 1)[:, None]
        counted = seen[here] & (place >= start) & (place < end)
        at = place[counted] - start
        count = np.bincount(at, minlength=end - start)
        total = np.bincount(at, weights=value[here][counted], minlength=end - start)
        held = np.flatnonzero(count)
        yield held + start, total[held] / count[held], count[held]


def to_bigwig(found: Attributions, path: Path | str, sizes: Mapping[str, int]) -> int:
    """The mean contribution of each base as a bigWig; returns how many bases it holds.

    Parameters
    ----------
    sizes : bases of every contig, as `Genome.lengths`

    Raises
    ------
    MelismaError
        pybigtools is not installed, or the windows were given as sequences.
    """
    from melisma.export.bigwig import write_values

    table = base_contributions(found)
    if not len(table):
        raise MelismaError("No known base lies beside the sites, so a track would be empty.")
    write_values(Path(path), table.rename({"contribution": "level"}), sizes)
    return len(table)


__all__ = [
    "Attributions", "Usable", "attributions", "attributions_of_windows", "base_contributions",
    "fixed_positions", "reads_cpgs", "to_bigwig", "to_modisco", "to_npz", "usable_windows",
]  # fmt: skip
