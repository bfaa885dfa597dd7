"""Motifs that a model reads: stretches that push its answer, gathered and named.

In-silico mutagenesis says at each position how much the window's own base matters. A seqlet is a
short stretch of such positions; seqlets of many windows are aligned into motifs, each a matrix of
base frequencies, and compared with a database of known ones. It works on windows of 41 bases, where
tools made for long windows find no room.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import norm

from melisma.errors import MelismaError
from melisma.sequence.encodings import LETTERS, UNKNOWN, Codes, reverse_complement

Floats = npt.NDArray[np.floating[Any]]

# The share of permuted stretches that may look as strong as a seqlet.
_FALSE = 0.01
# Stretches side by side that a window needs for random orders to move its bases apart.
_ROOM = 10
_NULLS = 50
_PSEUDO = 0.5
_FEWEST_KNOWN = 25


class Seqlet(NamedTuple):
    """A stretch of a window that matters: row, first base, end (half open), and its sum."""

    row: int
    start: int
    end: int
    strength: float


class Motif(NamedTuple):
    """Seqlets that read alike.

    frequency : (4, length), of A, C, G, T
    importance : (length,), mean contribution of the windows' own bases
    seqlets : how many
    offset : median distance of the motif's first base from the window's centre
    positive : whether it raises the level
    """

    frequency: Floats
    importance: Floats
    seqlets: int
    offset: int
    positive: bool

    @property
    def consensus(self) -> str:
        """The motif in IUPAC letters: a base above .6, two above .8 together, else N."""
        return consensus(self.frequency)


def consensus(frequency: Floats) -> str:
    """Base frequencies (4, length) in IUPAC's letters, as `Motif.consensus` has them."""
    return "".join(_letter(column) for column in frequency.T)


_IUPAC = {
    frozenset("AC"): "M", frozenset("AG"): "R", frozenset("AT"): "W", frozenset("CG"): "S",
    frozenset("CT"): "Y", frozenset("GT"): "K",
}  # fmt: skip


def _letter(column: Floats) -> str:
    order = np.argsort(-column)
    if column[order[0]] >= 0.6:
        return LETTERS[order[0]]
    if column[order[:2]].sum() >= 0.8:
        return _IUPAC[frozenset(LETTERS[k] for k in order[:2])]
    return "N"


def contributions(windows: Codes, effect: Floats) -> Floats:
    """What each window's own bases add, (n, width): less the mean of the other three.

    Parameters
    ----------
    windows : uint8 (n, width); effect : (n, width, 4), of `mutagenesis`
    """
    own = windows[:, :, None] == np.arange(4)
    others = np.where(own, np.nan, effect)
    with np.errstate(all="ignore"):
        mean = np.nansum(others, axis=2) / 3.0
    return np.where(windows < UNKNOWN, -mean, 0.0)


def find_seqlets(
    contribution: Floats, *, width: int = 6, skip: Sequence[int] = (), seed: int = 0
) -> list[Seqlet]:
    """Stretches whose summed contribution is beyond what the same numbers give in random order.

    In windows of fewer than ten stretches a few bases that decide everything lie near each other in
    most random orders too. There a stretch passes that is beyond normal noise of the bases' median
    size and beyond the strongest stretch of half of the windows.

    Parameters
    ----------
    contribution : (n, length)
    width : bases of a stretch
    skip : positions that are left out, such as the modified base itself, which all windows share

    Returns
    -------
    Seqlets that do not overlap, the strongest of each window first
    """
    n, length = contribution.shape
    if width > length:
        raise MelismaError(f"A seqlet of {width} bases does not fit into windows of {length}.")
    value = contribution.copy()
    value[:, list(skip)] = 0.0
    sums = _sums(value, width)
    rng = np.random.default_rng(seed)
    some = value[rng.permutation(n)[:2000]]
    strongest = [
        np.abs(_sums(rng.permuted(some, axis=1), width)).max(axis=1)
        for _ in range(max(_NULLS * 40 // max(len(some), 1), 1))
    ]
    cut = float(np.quantile(np.concatenate(strongest), 1 - _FALSE))
    if length < _ROOM * width:
        usual = float(np.median(np.abs(sums).max(axis=1)))
        cut = min(cut, max(_noise(value, width), usual))
    off = _off_centre(value, width)
    found = []
    for row in range(n):
        left = np.abs(sums[row]).copy()
        while True:
            at = int(np.argmax(left))
            if left[at] <= cut:
                break
            # Of stretches that hold the same few bases, the one that has them in its middle.
            first = max(at - width + 1, 0)
            near = first + np.flatnonzero(left[first : at + width] >= max(0.9 * left[at], cut))
            at = int(near[np.argmin(off[row, near])])
            found.append(Seqlet(row, at, at + width, float(sums[row, at])))
            left[max(at - width + 1, 0) : at + width] = 0.0
    return found


def _noise(value: Floats, width: int) -> float:
    """How strong the strongest stretch of a window is by chance, were every base normal noise."""
    some = np.abs(value[value != 0])
    if not len(some):
        return 0.0
    scale = float(np.median(some)) * 1.4826
    stretches = max(value.shape[1] - width + 1, 1)
    return scale * width**0.5 * float(norm.isf(_FALSE / stretches / 2))


def _off_centre(value: Floats, width: int) -> Floats:
    """How far each stretch's contributions lie from its middle, in bases: (n, stretches)."""
    size = np.abs(value)
    mass = np.maximum(_sums(size, width), 1e-12)
    moment = _sums(size * np.arange(value.shape[1]), width)
    middle = np.arange(mass.shape[1]) + (width - 1) / 2
    return np.abs(moment / mass - middle)


def _sums(value: Floats, width: int) -> Floats:
    total = np.cumsum(np.pad(value, ((0, 0), (1, 0))), axis=1)
    return total[:, width:] - total[:, :-width]


def find_motifs(
    windows: Codes,
    contribution: Floats,
    seqlets: Sequence[Seqlet],
    *,
    flank: int = 2,
    fewest: int = 20,
    most: int = 20,
    strands: bool = False,
) -> list[Motif]:
    """Align seqlets into motifs: the commonest word first, then all that read like it.

    Parameters
    ----------
    windows, contribution : (n, width)
    flank : bases kept on either side of a seqlet
    fewest : seqlets of a motif
    most : motifs
    strands : take a seqlet and its reverse complement as one; not where the site has a strand

    Returns
    -------
    Motifs, the one of most seqlets first
    """
    found: list[Motif] = []
    for positive in (True, False):
        rows = [s for s in seqlets if (s.strength > 0) == positive]
        found += _of_sign(windows, contribution, rows, positive, flank, fewest, most, strands)
    return sorted(found, key=lambda motif: -motif.seqlets)[:most]


def _of_sign(
    windows: Codes, contribution: Floats, seqlets: list[Seqlet], positive: bool, flank: int,
    fewest: int, most: int, strands: bool,
) -> list[Motif]:  # fmt: skip
    found: list[Motif] = []
    length = windows.shape[1]
    usable = [s for s in seqlets if s.start >= flank and s.end + flank <= length]
    if not usable:
        return found
    words = np.stack([windows[s.row, s.start - flank : s.end + flank] for s in usable])
    value = np.stack([contribution[s.row, s.start - flank : s.end + flank] for s in usable])
    offset = np.array([s.start - flank - length // 2 for s in usable])
    left = np.ones(len(usable), bool)
    while len(found) < most and left.sum() >= fewest:
        rows = np.flatnonzero(left)
        frequency, shift, flipped, alike = _grown(words[rows], value[rows], strands)
        members = rows[alike]
        if len(members) < fewest:
            # One odd seqlet, however strong, does not end the search.
            left[members if len(members) else rows[_strongest(value[rows])]] = False
            continue
        # A motif moved right begins as much further left in the window; read backwards, right.
        where = offset[members] + np.where(flipped[alike], shift[alike], -shift[alike])
        importance = np.zeros(words.shape[1])
        for k, row in enumerate(members):
            own = value[row][::-1] if flipped[alike][k] else value[row]
            importance += _shifted(own, shift[alike][k])
        found.append(_trimmed(frequency, importance / len(members), len(members), where, positive))
        left[members] = False
    return found


def _grown(words: Codes, value: Floats, strands: bool) -> tuple[Floats, Any, Any, Any]:
    """The motif around the strongest word: frequencies, shifts, strands and who belongs."""
    n, width = words.shape
    seed = _strongest(value)
    kinds = {False: words}
    if strands:
        kinds[True] = np.ascontiguousarray(reverse_complement(words))
    frequency = _one_hot(words[seed : seed + 1])[0] * 0.7 + 0.075
    shift = np.zeros(n, int)
    flipped = np.zeros(n, bool)
    alike = np.zeros(n, bool)
    for _ in range(4):
        score = np.log(np.maximum(frequency, 1e-3) / 0.25)
        best = np.full(n, -np.inf)
        for turned, codes in kinds.items():
            for move in (-2, -1, 0, 1, 2):
                at = np.arange(width) - move
                inside = (at >= 0) & (at < width)
                known = codes[:, at[inside]]
                column = score.T[inside]  # (bases, 4)
                gain = column[np.arange(len(column)), np.minimum(known, 3)]
                total = np.where(known < UNKNOWN, gain, 0.0).sum(axis=1)
                better = total > best
                best[better], shift[better], flipped[better] = total[better], move, turned
        alike = best > 0.35 * np.maximum(score, 0).max(axis=0).sum()
        if not alike.any():
            break
        counts = np.full((4, width), _PSEUDO)
        for row in np.flatnonzero(alike):
            own = kinds[bool(flipped[row])][row : row + 1]
            counts += _shifted(_one_hot(own)[0], shift[row])
        frequency = counts / counts.sum(axis=0)
    return frequency, shift, flipped, alike


def _strongest(value: Floats) -> int:
    """The row of the largest contributions, whatever their sign."""
    return int(np.argmax(np.abs(value).sum(axis=1)))


def _one_hot(codes: Codes) -> Floats:
    return (codes[:, None, :] == np.arange(4)[None, :, None]).astype(float)


def _shifted(array: Floats, move: int) -> Floats:
    """Moved right by `move` along the last axis, zeros where nothing comes from."""
    moved = np.zeros_like(array)
    if move >= 0:
        moved[..., move:] = array[..., : array.shape[-1] - move]
    else:
        moved[..., :move] = array[..., -move:]
    return moved


def _trimmed(frequency: Floats, importance: Floats, n: int, where: Any, positive: bool) -> Motif:
    """The motif without the ends that say nothing."""
    information = 2 + (frequency * np.log2(np.maximum(frequency, 1e-9))).sum(axis=0)
    told = np.flatnonzero(information > 0.2)
    first, last = (int(told[0]), int(told[-1]) + 1) if len(told) else (0, frequency.shape[1])
    return Motif(
        frequency[:, first:last], importance[first:last], n,
        int(np.median(where)) + first, positive,
    )  # fmt: skip


def read_database(path: Path | str) -> dict[str, Floats]:
    """The motifs of a file in MEME's format: name and (4, length) base frequencies.

    Raises
    ------
    MelismaError
        memelite is not installed, or the file is missing or in another format.
    """
    from melisma._extras import require

    require("deep", "memelite", what="Reading motifs")
    from memelite.io import read_meme

    path = Path(path)
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
        if not any(line.startswith(b"MEME version") for line in head.splitlines()):
            raise MelismaError(
                f"{path} is no database in MEME's format, which begins with 'MEME version 4': "
                "give JASPAR's or HOCOMOCO's .meme file."
            )
        known = {name: np.asarray(matrix, float) for name, matrix in read_meme(path).items()}
    except OSError as error:
        raise MelismaError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, AttributeError, IndexError) as error:
        raise MelismaError(f"{path} is damaged ({error}): copy the database again.") from None
    bad = [n for n, m in known.items() if not np.allclose(m.sum(axis=0), 1, atol=0.05)]
    if bad:
        raise MelismaError(f"{path} is damaged: the rows of {bad[0]} are no probabilities.")
    return known


def require_whole(known: Mapping[str, Floats], path: Path | str) -> None:
    """Refuse a database of fewer motifs than p can be taken from."""
    if len(known) < _FEWEST_KNOWN:
        raise MelismaError(
            f"{path} holds {len(known)} motifs in MEME's format, and p needs "
            f"{_FEWEST_KNOWN} or more to be taken from: give a whole database."
        )


def name_motifs(motifs: Sequence[Motif], database: Path | str, *, nearest: int = 3) -> pl.DataFrame:
    """The known motifs that each resembles most, by tomtom (Gupta et al. 2007).

    Parameters
    ----------
    database : known motifs in MEME's format

    Returns
    -------
    motif (its number), consensus, target, p

    Raises
    ------
    MelismaError
        memelite is not installed, or the database holds fewer than 25 motifs: its columns are the
        background that p is taken from.
    """
    from melisma._extras import require

    require("deep", "memelite", what="Naming motifs")
    from memelite import tomtom

    known = read_database(database)
    require_whole(known, database)
    names, targets = list(known), list(known.values())
    rows = []
    for k, motif in enumerate(motifs):
        p = np.asarray(tomtom([motif.frequency], targets, n_jobs=1)[0])[0]
        rows += [(k, motif.consensus, names[at], float(p[at])) for at in np.argsort(p)[:nearest]]
    types = {"motif": pl.Int64, "consensus": pl.String, "target": pl.String, "p": pl.Float64}
    return pl.DataFrame(rows, schema=types, orient="row")


def write_meme(motifs: Sequence[Motif], path: Path | str) -> None:
    """The motifs in MEME's format, named by number and consensus, sites their seqlets."""
    from melisma.methylome import atomic_file

    lines = [
        "MEME version 4", "", "ALPHABET= ACGT", "", "strands: + -", "",
        "Background letter frequencies", "A 0.25 C 0.25 G 0.25 T 0.25", "",
    ]  # fmt: skip
    for k, motif in enumerate(motifs, 1):
        lines += [
            f"MOTIF {k} {motif.consensus}",
            f"letter-probability matrix: alength= 4 w= {motif.frequency.shape[1]} "
            f"nsites= {motif.seqlets} E= 0",
            *(" ".join(f"{value:.6f}" for value in column) for column in motif.frequency.T),
            "",
        ]
    with atomic_file(Path(path)) as work:
        work.write_text("\n".join(lines))
