"""What a variant does to the marks around it: levels of both alleles at every site in reach.

Both haplotypes are written out around the variant and read by the model at the same sites, so that
exchanging the two alleles exchanges the two levels and negates the difference. A site that one
haplotype does not have (a CpG that a variant makes or breaks) is named as lost or gained: there is
no second level to take a difference from.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma import progress
from melisma.errors import MelismaError
from melisma.genome import Genome, contexts, strand_of_base
from melisma.methylome import CONTEXTS
from melisma.sequence.checkpoint import Model
from melisma.sequence.encodings import CODE_OF_BYTE, UNKNOWN, Codes, reverse_complement
from melisma.sequence.windows import BASE_OF_MARK, GenomeWindows

# Another build's alleles agree with this one's by chance in a quarter of the rows.
MOST_WRONG = 0.1
_LETTERS = frozenset("ACGTN")
# Variants whose windows are read together.
_LOT = 256


class Variant(NamedTuple):
    """One alternative allele: contig, 0-based position of the reference allele's first base, id."""

    contig: str
    position: int
    reference: str
    alternative: str
    name: str


class Skipped(NamedTuple):
    """Rows that are not answered for: another reference allele, no sequence, unknown contig."""

    mismatched: int
    symbolic: int
    elsewhere: int
    example: str


class _Site(NamedTuple):
    """A site of either haplotype, and its window in each; None where it is no site."""

    variant: int
    position: int | None
    strand: int
    reference: Codes | None
    alternative: Codes | None


def read_variants(path: Path | str) -> list[Variant]:
    """The alternative alleles of a VCF or BCF, one row each.

    Raises
    ------
    MelismaError
        The file is no VCF, or holds no variant.
    """
    import pysam

    found = []
    silent = pysam.set_verbosity(0)
    try:
        with pysam.VariantFile(str(path)) as records:
            for record in records:
                name = record.id or f"{record.contig}:{record.pos}"
                found += [
                    Variant(record.contig, record.start, str(record.ref).upper(), alt.upper(), name)
                    for alt in record.alts or ()
                ]
    except (ValueError, OSError) as error:
        said = str(error).strip() or type(error).__name__
        raise MelismaError(f"{path} cannot be read as VCF ({said}): is it one, whole?") from None
    finally:
        pysam.set_verbosity(silent)
    if not found:
        raise MelismaError(f"{path} holds no alternative allele, so there is nothing to predict.")
    return found


def variant_effects(
    model: Model,
    genome: Genome,
    variants: Sequence[Variant],
    *,
    environment: Mapping[str, Any] | None = None,
    reach: int | None = None,
    head: int = 0,
) -> tuple[pl.DataFrame, Skipped]:
    """Levels of both alleles at every site within reach of each variant.

    Parameters
    ----------
    environment : a value for each column that the model was told; what is left out is the mean
    reach : bases on either side of the variant in which sites are looked at; None: as far as the
        window sees
    head : which mark

    Returns
    -------
    variant, contig, position (0-based), reference, alternative, site (0-based on the reference;
    null where gained inside an insertion), strand, change ("kept", "lost", "gained"),
    level_reference, level_alternative, delta (null unless kept); and what was skipped

    Raises
    ------
    MelismaError
        Most reference alleles are not the genome's, or the environment is not known.
    """
    half = model.config.width // 2
    reach = half if reach is None else reach
    if not 0 <= reach <= half:
        raise MelismaError(
            f"A reach of {reach} bases is beyond what the model sees: choose 0 to {half}."
        )
    named = genome.named_as({v.contig for v in variants})
    usable, skipped = _checked(variants, named)
    told = model.environment.encode_one(environment or {}).values
    rows: list[tuple[Any, ...]] = []
    with progress.stage("Reading variants", len(usable)) as advance:
        for first in range(0, len(usable), _LOT):
            lot = usable[first : first + _LOT]
            sites = [s for k, v in enumerate(lot) for s in _sites(model, named, v, k, reach, head)]
            rows += _answered(model, named, lot, sites, told, head)
            advance(len(lot))
    types = {
        "variant": pl.String, "contig": pl.String, "position": pl.Int64, "reference": pl.String,
        "alternative": pl.String, "site": pl.Int64, "strand": pl.String, "change": pl.String,
        "level_reference": pl.Float32, "level_alternative": pl.Float32, "delta": pl.Float32,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=types, orient="row"), skipped


def _checked(variants: Sequence[Variant], genome: Genome) -> tuple[list[Variant], Skipped]:
    """The variants whose reference allele the genome has; the others counted."""
    usable: list[Variant] = []
    mismatched = symbolic = elsewhere = 0
    example = ""
    for v in variants:
        if set(v.alternative) - _LETTERS or set(v.reference) - _LETTERS or not v.alternative:
            symbolic += 1
        elif v.contig not in genome.lengths:
            elsewhere += 1
        else:
            end = v.position + len(v.reference)
            known = (
                genome.bases(v.contig, v.position, end).tobytes().decode()
                if end <= genome.lengths[v.contig]
                else "nothing"
            )
            if known == v.reference:
                usable.append(v)
                continue
            mismatched += 1
            example = example or (
                f"{v.contig}:{v.position + 1:,} holds {known}, and the VCF says {v.reference}"
            )
    compared = mismatched + len(usable)
    if compared and mismatched > MOST_WRONG * compared:
        raise MelismaError(
            f"{mismatched:,} of {compared:,} reference alleles are not those of genome "
            f"{genome.name} ({example}): give the genome that the variants were called on."
        )
    if not usable:
        raise MelismaError(
            f"No variant lies on a contig of genome {genome.name} with both alleles written out."
        )
    return usable, Skipped(mismatched, symbolic, elsewhere, example)


def _sites(
    model: Model, genome: Genome, variant: Variant, k: int, reach: int, head: int
) -> Iterator[_Site]:
    """Sites of both haplotypes within reach, each with its windows."""
    half = model.config.width // 2
    length = genome.lengths[variant.contig]
    end = variant.position + len(variant.reference)
    # One base more on either side tells contexts at the ends.
    low = max(variant.position - reach - half - 3, 0)
    high = min(end + reach + half + 3, length)
    before = genome.bases(variant.contig, low, variant.position)
    after = genome.bases(variant.contig, end, high)
    both = [
        np.concatenate([before, np.frombuffer(allele.encode(), np.uint8), after])
        for allele in (variant.reference, variant.alternative)
    ]
    start = len(before)
    shift = len(variant.alternative) - len(variant.reference)
    where = [_modifiable(model, bases, head) for bases in both]
    # A place of the reference haplotype, and the same base's place in the alternative one.
    inner = len(variant.reference)
    for strand in (1, -1):
        kept, other = (set(np.flatnonzero(w == strand).tolist()) for w in where)
        # Of alleles of one length, a base that both have is the same base.
        same = range(inner) if shift == 0 else ()
        pairs: dict[int | None, int | None] = {}
        for place in kept:
            if place < start:
                pairs[place] = place
            elif place >= start + inner:
                pairs[place] = place + shift
            elif place - start in same:
                pairs[place] = place
            else:
                pairs[place] = None
        taken = set(pairs.values())
        gained: list[tuple[int | None, int]] = []
        for place in other - taken:
            if place < start:
                gained.append((place, place))
            elif place >= start + len(variant.alternative):
                gained.append((place - shift, place))
            else:
                gained.append((place if shift == 0 else None, place))
        found = [(a, b if b in other else None) for a, b in pairs.items()] + list(gained)
        for a, b in sorted(found, key=lambda ab: ab[0] if ab[0] is not None else ab[1] or 0):
            at = a if a is not None else b
            assert at is not None
            outside = max(
                start - at, at - (start + (inner if a is not None else inner + shift) - 1)
            )
            if outside > reach:
                continue
            yield _Site(
                k,
                None if a is None else low + a,
                strand,
                _window(both[0], a, strand, half) if a is not None and a in kept else None,
                _window(both[1], b, strand, half) if b is not None else None,
            )


def _modifiable(model: Model, bases: npt.NDArray[np.uint8], head: int) -> npt.NDArray[np.int8]:
    """+1 and -1 where the model's mark can sit on either strand, else 0."""
    letter = BASE_OF_MARK[model.config.heads[head]]
    strand = strand_of_base(bases, np.arange(len(bases)), letter)
    if letter == "C":
        wanted = [CONTEXTS.index(name) for name in model.record.get("contexts", CONTEXTS[:3])]
        place = np.flatnonzero(strand)
        of = contexts(bases, place, strand[place])
        strand[place[~np.isin(of, wanted)]] = 0
    if model.record.get("strands") == "merged":
        strand[strand < 0] = 0
    return strand


def _window(bases: npt.NDArray[np.uint8], place: int, strand: int, half: int) -> Codes:
    """The window around a place of a haplotype, (1, width), read from the site's strand."""
    codes = np.full((1, 2 * half + 1), UNKNOWN, np.uint8)
    first, last = place - half, place + half + 1
    inside = slice(max(first, 0), min(last, len(bases)))
    codes[0, inside.start - first : inside.stop - first] = CODE_OF_BYTE[bases[inside]]
    return codes if strand > 0 else reverse_complement(codes)


def _answered(
    model: Model, genome: Genome, lot: Sequence[Variant], sites: Sequence[_Site], told: Any,
    head: int,
) -> list[tuple[Any, ...]]:  # fmt: skip
    """The table's rows of some variants."""
    both = [(s, w) for s in sites for w in (s.reference, s.alternative) if w is not None]
    if not both:
        return []
    around = _surroundings(model, genome, lot)
    if around is not None:
        around = around[[site.variant for site, _ in both]]
    codes = np.concatenate([window for _, window in both])
    levels = iter(model.predict(codes, told, surroundings=around).level[:, head].tolist())
    rows = []
    for site in sites:
        one = next(levels) if site.reference is not None else None
        two = next(levels) if site.alternative is not None else None
        change = "lost" if two is None else "gained" if one is None else "kept"
        v = lot[site.variant]
        rows.append(
            (
                v.name, v.contig, v.position, v.reference, v.alternative, site.position,
                "+" if site.strand > 0 else "-", change, one, two,
                None if one is None or two is None else two - one,
            )
        )  # fmt: skip
    return rows


def _surroundings(model: Model, genome: Genome, lot: Sequence[Variant]) -> Any:
    """What the reference's stretches around each variant are made of; the same for both alleles,
    whose few bases weigh little in hundreds. None for a model that is not told."""
    scales = model.config.surroundings
    if not scales:
        return None
    names = tuple(dict.fromkeys(v.contig for v in lot))
    contig = np.array([names.index(v.contig) for v in lot])
    position = np.array([v.position for v in lot])
    strand = np.ones(len(lot), np.int8)
    windows = GenomeWindows(genome, names, contig, position, strand, model.config.width, scales)
    return windows.surroundings(np.arange(len(lot)))
