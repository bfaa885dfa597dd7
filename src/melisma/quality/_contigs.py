"""What a contig is, from its name: autosome, X, Y, a spike-in, a chloroplast."""

import re
from collections.abc import Sequence

from melisma.errors import MelismaError

LAMBDA = ("lambda", "lambda_phage", "phage_lambda", "chrlambda", "chrl", "nc_001416", "j02459")
M13 = ("m13", "m13mp18", "m13ke", "nc_003287", "v00604", "x02513")
CHLOROPLAST = (
    "chrc", "pt", "chrpt", "chloroplast", "plastid", "nc_000932", "ap000423",
)  # fmt: skip
PUC19 = ("puc19", "chrpuc19", "m77789", "l09137")
# Read in this order: a spike-in without methylation is known better than a chloroplast.
UNMETHYLATED = (("lambda", LAMBDA), ("M13", M13), ("chloroplast", CHLOROPLAST))
_X = ("chrx", "x", "nc_000023", "nc_000086")
_Y = ("chry", "y", "nc_000024", "nc_000087")
_Z_OR_W = ("chrz", "chrw", "z", "w")
_AUTOSOME = re.compile(r"(chr)?\d+[lr]?|nc_0000(0[1-9]|1\d|2[0-2])|nc_0000(6[7-9]|7\d|8[0-5])")
# Names of assemblies of animals, as UCSC, Ensembl and NCBI write them.
_ANIMAL_GENOME = re.compile(
    r"(hg\d|grch|t2t|chm13|mm\d|grcm|rn\d|mratbn|danrer|grcz|galgal|bostau|susscr|canfam)", re.I
)


def words(name: str) -> set[str]:
    """A contig's name and its parts, lower case, without a version.

    >>> sorted(words("gi|9626243|ref|NC_001416.1|"))
    ['9626243', 'gi', 'gi|9626243|ref|nc_001416.1|', 'nc_001416', 'ref']
    """
    lower = name.lower()
    parts = {re.sub(r"\.\d+$", "", part) for part in re.split(r"[|\s]+", lower) if part}
    return parts | {lower}


def known_contig(contigs: Sequence[str], names: Sequence[str]) -> int | None:
    """The first contig that bears one of these names; None where none does.

    >>> known_contig(["chr1", "NC_001416.1"], LAMBDA)
    1
    """
    wanted = set(names)
    return next((k for k, contig in enumerate(contigs) if words(contig) & wanted), None)


def named_contig(contigs: Sequence[str], text: str, option: str) -> tuple[str, int]:
    """The contig that a user names, as `NAME` or as `what=NAME`: what it is, and which.

    Raises
    ------
    MelismaError
        There is no such contig.
    """
    what, _, name = text.rpartition("=")
    if name not in contigs:
        some = ", ".join(contigs[:8]) + (" …" if len(contigs) > 8 else "")
        raise MelismaError(
            f"{option} names the contig {name!r}, which the store does not have; it has {some}."
        )
    return what or name, contigs.index(name)


def sex_chromosomes(contigs: Sequence[str]) -> tuple[int | None, int | None]:
    """Which contigs are X and Y."""
    return known_contig(contigs, _X), known_contig(contigs, _Y)


def autosomes(contigs: Sequence[str]) -> list[int]:
    """Which contigs are numbered chromosomes.

    >>> autosomes(["chr1", "2", "chrX", "chrM", "chrUn_KI270302v1", "lambda"])
    [0, 1]
    """
    return [
        k
        for k, name in enumerate(contigs)
        if any(_AUTOSOME.fullmatch(word) for word in words(name))
    ]


def kingdom_of_names(contigs: Sequence[str], genome: str | None) -> str | None:
    """ "plant" or "animal" where the contigs or the genome's name say so, else None.

    >>> kingdom_of_names(["Chr1", "ChrC"], None), kingdom_of_names(["chr1", "chrX"], None)
    ('plant', 'animal')
    """
    if known_contig(contigs, CHLOROPLAST) is not None:
        return "plant"
    if known_contig(contigs, (*_X, *_Z_OR_W)) is not None:
        return "animal"
    return "animal" if genome and _ANIMAL_GENOME.search(genome) else None
