"""Samples of different genome builds, told without a genome.

Three signs, each of which is certain where it speaks: contig names that are accessions of two
assemblies; calls past a chromosome's end, so that no known assembly fits both samples; and
samples whose sites coincide only as often as sites moved a little do. The bases that carry a mark
are a fraction of all, so that two samples of one build share sites several times as often (on
real data 5 times in all contexts and 36 to 120 times in CG; 0.99 times for hg18 against hg19).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from melisma._assemblies import ASSEMBLIES, BY_NAME, accession
from melisma._contigs import chromosome_keys
from melisma.calls._kernels import coincidences
from melisma.calls._sample import SampleCalls
from melisma.calls._spool import load, reader_of
from melisma.errors import MelismaError
from melisma.genome import Genome

# Moves that keep a sample within its covered stretches and pair no site with its neighbours'.
_MOVES = (-1999, -1213, -787, -401, -211, -97, 97, 211, 401, 787, 1213, 1999)
# With so many coincidences by chance, 1.7 times as many are far below the 2.5 times that marks
# on one base in 2.5 (any C, strands not told apart) have at least.
_CHANCE_NEEDED, _MOST_OF_CHANCE = 50, 1.7
_CONTIGS, _STRETCHES, _STRETCH, _LONGEST = 4, 2, 1 << 15, 1 << 19
_COMPARED = 4
# A build is named only where positions come this close to its chromosomes' ends.
_REACH = 0.99


class Shared(NamedTuple):
    """Sites of two samples on one contig: looked at, shared in place, by chance, one base off."""

    contig: str
    sites: int
    in_place: int
    by_chance: float
    moved: dict[int, int]

    @property
    def apart(self) -> bool:
        """Whether no more sites coincide than chance would have it."""
        return self.in_place <= _MOST_OF_CHANCE * self.by_chance

    @property
    def one_off(self) -> int:
        """+1 or -1 where the first sample's positions must be moved so to fit; else 0."""
        move, hits = max(self.moved.items(), key=lambda item: item[1])
        return move if hits > max(1.5 * self.in_place, 5 * self.by_chance) else 0


def check_builds(names: Sequence[str], samples: Sequence[SampleCalls]) -> None:
    """Refuse samples that cannot be of one genome build; for ingests without a genome.

    Raises
    ------
    MelismaError
        Two samples are of different builds, or their positions are one apart.
    """
    reaches = [_reach(sample) for sample in samples]
    fits = [fitting(reach, _accessions(s)) for s, reach in zip(samples, reaches, strict=True)]
    for k in range(1, len(samples)):
        for other in range(k):
            _check_fits(names, reaches, fits, other, k)
        for other in range(max(0, k - _COMPARED), k):
            shared = compare(samples[other], samples[k])
            if shared:
                _check_shared((names[other], names[k]), shared)
                break


def _reach(sample: SampleCalls) -> dict[str, int]:
    """The last position on each contig, 0-based."""
    folder = Path(sample.folder)
    return {
        contig: int(load(folder, stop - 1, stop, context=False).key[0] >> 5)
        for contig, (start, stop) in sample.contigs.items()
        if stop > start
    }


def _accessions(sample: SampleCalls) -> list[str]:
    """The sample's contigs as its file names them."""
    own = {new: old for old, new in sample.aliases.items()}
    return [own.get(contig, contig) for contig in sample.contigs]


def fitting(reach: Mapping[str, int], names: Sequence[str] = ()) -> frozenset[str]:
    """The known assemblies that have all of a sample's chromosomes, to the last position.

    Parameters
    ----------
    reach : contig to the last 0-based position on it; contigs that are no chromosome say nothing
    names : the contigs as the file names them: accessions tell the assembly

    >>> sorted(fitting({"chr21": 48_000_000})), sorted(fitting({"22": 51_000_000}))
    (['hg19'], ['hg19'])
    """
    keys = chromosome_keys(reach)
    named = [keys[contig] for contig in reach if _is_chromosome(keys[contig])]
    last = {keys[contig]: position for contig, position in reach.items()}
    found = frozenset(
        assembly.name
        for assembly in ASSEMBLIES
        if named and all(last[key] < assembly.lengths.get(key, 0) for key in named)
    )
    for name in names:
        known = accession(name)
        if known is not None and known.assemblies:
            found = found & known.assemblies if known.assemblies & BY_NAME.keys() else frozenset()
    return found


def _is_chromosome(key: str) -> bool:
    return key.isdigit() or key in ("X", "Y", "Z", "W")


def _check_fits(
    names: Sequence[str],
    reaches: Sequence[Mapping[str, int]],
    fits: Sequence[frozenset[str]],
    a: int,
    b: int,
) -> None:
    if not fits[a] or not fits[b] or fits[a] & fits[b]:
        return
    organisms = [{BY_NAME[name].organism for name in fits[k]} for k in (a, b)]
    # Chromosomes of an unknown organism may happen to be as short as one of these.
    common = sorted(organisms[0] & organisms[1])
    if not common:
        return
    of_common = {
        k: sorted(name for name in fits[k] if BY_NAME[name].organism == common[0]) for k in (a, b)
    }
    told = [f"{names[k]} fits {' or '.join(of_common[k])}" for k in (a, b)]
    past = next(
        (
            f"; {names[k]} has a call at {contig}:{position:,}, past the end in {assembly}"
            for k, other in ((a, b), (b, a))
            for assembly in of_common[other]
            for contig, position in reaches[k].items()
            if position >= BY_NAME[assembly].lengths.get(chromosome_keys([contig])[contig], 1 << 40)
        ),
        "",
    )
    raise MelismaError(
        f"Samples {names[a]} and {names[b]} are on different genome builds: of the {common[0]} "
        f"ones {' and '.join(told)}{past}. Bring the calls to one build (align again, or lift "
        "them over)."
    )


def _check_shared(names: tuple[str, str], shared: Sequence[Shared]) -> None:
    one_off = [found.one_off for found in shared]
    move = max(set(one_off), key=one_off.count)
    if move:
        raise MelismaError(
            f"Samples {names[0]} and {names[1]} share their sites if every position of "
            f"{names[0]} is moved by {move:+d}: one of them counts from 0 and the other from 1; "
            "name its true format with --format, or correct its positions."
        )
    apart = [found for found in shared if found.apart]
    if 2 * len(apart) < len(shared):
        return
    found = apart[0]
    raise MelismaError(
        f"Samples {names[0]} and {names[1]} share {found.in_place:,} of {found.sites:,} sites "
        f"compared on {found.contig}, and chance alone gives {found.by_chance:,.0f}: they are on "
        "different genome builds; bring the calls to one (align again, or lift them over), or "
        "pass --genome to see which sample does not fit."
    )


def compare(first: SampleCalls, second: SampleCalls) -> list[Shared]:
    """How often two samples' sites coincide, on the contigs where chance would show.

    Read are a few stretches of the contigs on which both have most calls; contigs with fewer
    than 50 coincidences by chance are left out, as they prove nothing.
    """
    common = [contig for contig in first.contigs if contig in second.contigs]
    common.sort(key=lambda contig: -min(_rows(first, contig), _rows(second, contig)))
    found = [_compare_contig(first, second, contig) for contig in common[:_CONTIGS]]
    return [shared for shared in found if shared.by_chance >= _CHANCE_NEEDED]


def _rows(sample: SampleCalls, contig: str) -> int:
    start, stop = sample.contigs[contig]
    return stop - start


def _compare_contig(first: SampleCalls, second: SampleCalls, contig: str) -> Shared:
    sites = in_place = moved_away = 0
    moved = {-1: 0, 1: 0}
    start, stop = first.contigs[contig]
    for k in range(_STRETCHES):
        begin = start + (stop - start) * k // _STRETCHES
        end = min(begin + _STRETCH, start + (stop - start) * (k + 1) // _STRETCHES)
        if end <= begin:
            continue
        mine = load(Path(first.folder), begin, end, context=False).key
        theirs = _keys_around(second, contig, int(mine[0]), int(mine[-1]))
        if not len(theirs):
            continue
        mine = mine[mine <= theirs[-1]]
        sites += len(mine)
        in_place += coincidences(mine, theirs, 0)
        moved_away += sum(coincidences(mine, theirs, move) for move in _MOVES)
        for move in moved:
            moved[move] += coincidences(mine, theirs, move)
    return Shared(contig, sites, in_place, moved_away / len(_MOVES), moved)


def _keys_around(sample: SampleCalls, contig: str, low: int, high: int) -> npt.NDArray[np.int64]:
    """A sample's site keys on a contig from `low` to `high`, some more on both sides."""
    margin = (max(_MOVES) + 1) << 5
    folder = Path(sample.folder)
    start, stop = reader_of(folder).rows_around(
        *sample.contigs[contig], low - margin, high + margin
    )
    return load(folder, start, min(stop, start + _LONGEST), context=False).key


def known_build(samples: Sequence[SampleCalls], genome: Genome | None) -> dict[str, str] | None:
    """The known assembly that a study is on, and by what that is told; None: it is not certain.

    With a genome, the assembly whose chromosomes have the same lengths. Without, the only one
    that fits every sample, where accessions name it or the calls come close to its ends.
    """
    if genome is not None:
        keys = chromosome_keys(genome.contigs)
        lengths = {key: genome.lengths[name] for name, key in keys.items() if _is_chromosome(key)}
        equal = [a.name for a in ASSEMBLIES if lengths and lengths.items() <= a.lengths.items()]
        return {"name": equal[0], "told_by": "lengths"} if len(equal) == 1 else None
    reaches = [_reach(sample) for sample in samples]
    names = [_accessions(sample) for sample in samples]
    fits = [fitting(reach, own) for reach, own in zip(reaches, names, strict=True)]
    common = frozenset.intersection(*fits)
    if len(common) != 1:
        return None
    (name,) = common
    if all(_tells(own, name) for own in names):
        return {"name": name, "told_by": "accessions"}
    furthest: dict[str, int] = {}
    for reach in reaches:
        for contig, key in chromosome_keys(reach).items():
            furthest[key] = max(furthest.get(key, 0), reach[contig])
    lengths = BY_NAME[name].lengths
    near = [furthest[key] >= _REACH * lengths[key] for key in furthest if key in lengths]
    return {"name": name, "told_by": "positions"} if 2 * sum(near) > len(near) else None


def _tells(names: Sequence[str], assembly: str) -> bool:
    known = [found for name in names if (found := accession(name)) is not None]
    return any(found.assemblies == {assembly} for found in known)
