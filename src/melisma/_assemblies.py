"""Known genome assemblies: their chromosomes' lengths and accessions.

Lengths are those of UCSC's chromosome tables (hg18 to mm39) and of TAIR10; accessions are NCBI's
assembly reports. A version suffix tells the assembly: NC_000001.10 is GRCh37, .11 is GRCh38.
Mitochondria are left out of the lengths: hg19 has another one than GRCh37.
"""

import re
from typing import NamedTuple


class Assembly(NamedTuple):
    """One assembly: UCSC's name, the others', its organism, and its chromosomes' lengths."""

    name: str
    other_names: tuple[str, ...]
    organism: str
    lengths: dict[str, int]


class Accession(NamedTuple):
    """What an accession stands for: organism, chromosome, and the assemblies that hold it.

    No assemblies : the version is missing or not known
    """

    organism: str
    chromosome: str
    assemblies: frozenset[str]


_HUMAN = (*map(str, range(1, 23)), "X", "Y")
_MOUSE = (*map(str, range(1, 20)), "X", "Y")
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII")
_ROMAN += ("IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI")


def _lengths(chromosomes: tuple[str, ...], text: str) -> dict[str, int]:
    return dict(zip(chromosomes, map(int, text.split()), strict=True))


ASSEMBLIES = (
    Assembly(
        "hg18",
        ("NCBI36",),
        "human",
        _lengths(
            _HUMAN,
            "247249719 242951149 199501827 191273063 180857866 170899992 158821424 146274826 "
            "140273252 135374737 134452384 132349534 114142980 106368585 100338915 88827254 "
            "78774742 76117153 63811651 62435964 46944323 49691432 154913754 57772954",
        ),
    ),
    Assembly(
        "hg19",
        ("GRCh37",),
        "human",
        _lengths(
            _HUMAN,
            "249250621 243199373 198022430 191154276 180915260 171115067 159138663 146364022 "
            "141213431 135534747 135006516 133851895 115169878 107349540 102531392 90354753 "
            "81195210 78077248 59128983 63025520 48129895 51304566 155270560 59373566",
        ),
    ),
    Assembly(
        "hg38",
        ("GRCh38",),
        "human",
        _lengths(
            _HUMAN,
            "248956422 242193529 198295559 190214555 181538259 170805979 159345973 145138636 "
            "138394717 133797422 135086622 133275309 114364328 107043718 101991189 90338345 "
            "83257441 80373285 58617616 64444167 46709983 50818468 156040895 57227415",
        ),
    ),
    Assembly(
        "mm9",
        ("NCBIM37",),
        "mouse",
        _lengths(
            _MOUSE,
            "197195432 181748087 159599783 155630120 152537259 149517037 152524553 131738871 "
            "124076172 129993255 121843856 121257530 120284312 125194864 103494974 98319150 "
            "95272651 90772031 61342430 166650296 15902555",
        ),
    ),
    Assembly(
        "mm10",
        ("GRCm38",),
        "mouse",
        _lengths(
            _MOUSE,
            "195471971 182113224 160039680 156508116 151834684 149736546 145441459 129401213 "
            "124595110 130694993 122082543 120129022 120421639 124902244 104043685 98207768 "
            "94987271 90702639 61431566 171031299 91744698",
        ),
    ),
    Assembly(
        "mm39",
        ("GRCm39",),
        "mouse",
        _lengths(
            _MOUSE,
            "195154279 181755017 159745316 156860686 151758149 149588044 144995196 130127694 "
            "124359700 130530862 121973369 120092757 120883175 125139656 104073951 98008968 "
            "95294699 90720763 61420004 169476592 91455967",
        ),
    ),
    Assembly(
        "TAIR10",
        ("TAIR9",),
        "Arabidopsis",
        _lengths(tuple("12345"), "30427671 19698289 23459830 18585056 26975502"),
    ),
)
BY_NAME = {assembly.name: assembly for assembly in ASSEMBLIES}


def _accessions() -> dict[str, dict[str, tuple[str, str, frozenset[str]]]]:
    """Accession without version to its versions: organism, chromosome, assemblies."""
    found: dict[str, dict[str, tuple[str, str, frozenset[str]]]] = {}

    def add(stem: str, version: int, organism: str, chromosome: str, *assemblies: str) -> None:
        entry = (organism, chromosome, frozenset(assemblies))
        found.setdefault(stem, {})[str(version)] = entry

    # RefSeq versions in GRCh38; GRCh37 is one below, NCBI36 two below.
    versions = (11, 12, 12, 12, 10, 12, 14, 11, 12, 11, 10, 12, 11, 9, 10, 10, 11, 10, 10, 11)
    versions += (9, 11, 11, 10)
    for k, (chromosome, version) in enumerate(zip(_HUMAN, versions, strict=True)):
        for step, assembly in enumerate(("hg38", "hg19", "hg18")):
            add(f"NC_{k + 1:06}", version - step, "human", chromosome, assembly)
        add(f"CM{663 + k:06}", 1, "human", chromosome, "hg19")
        add(f"CM{663 + k:06}", 2, "human", chromosome, "hg38")
        # T2T-CHM13v2.0
        add(f"NC_{60925 + k:06}", 1, "human", chromosome, "hs1")
    for stem, version in (("NC_012920", 1), ("J01415", 2)):
        add(stem, version, "human", "MT", "hg19", "hg38")
    for k, chromosome in enumerate(_MOUSE):
        later = chromosome in ("2", "X", "Y")
        for step, assembly in enumerate(("mm9", "mm10", "mm39")):
            add(f"NC_{67 + k:06}", 5 + step + later, "mouse", chromosome, assembly)
        for version, assembly in ((1, "mm9"), (2, "mm10"), (3, "mm39")):
            add(f"CM{994 + k:06}", version, "mouse", chromosome, assembly)
    for stem in ("NC_005089", "AY172335"):
        add(stem, 1, "mouse", "MT", "mm9", "mm10", "mm39")
    for k, (refseq, version) in enumerate(((70, 9), (71, 7), (74, 8), (75, 7), (76, 8))):
        add(f"NC_{3000 + refseq:06}", version, "Arabidopsis", str(k + 1), "TAIR10")
        add(f"CP{2684 + k:06}", 1, "Arabidopsis", str(k + 1), "TAIR10")
    for stem, version, chromosome in (
        ("NC_000932", 1, "PT"),
        ("AP000423", 1, "PT"),
        ("NC_037304", 1, "MT"),
        ("NC_001284", 2, "MT"),
        ("BK010421", 1, "MT"),
        ("Y08501", 2, "MT"),
    ):
        add(stem, version, "Arabidopsis", chromosome, "TAIR10")
    for k, version in enumerate((9, 8, 5, 10, 3, 5, 9, 6, 2, 9, 9, 5, 3, 8, 6, 4)):
        add(f"NC_{1133 + k:06}", version, "yeast", str(k + 1), "sacCer3")
    add("NC_001224", 1, "yeast", "MT", "sacCer3")
    worm = (("1", 8), ("2", 10), ("3", 10), ("4", 8), ("5", 11), ("X", 9))
    for k, (chromosome, version) in enumerate(worm):
        add(f"NC_{3279 + k:06}", version, "worm", chromosome, "ce11")
    add("NC_001328", 1, "worm", "MT", "ce11")
    return found


_ACCESSIONS = _accessions()


def accession(name: str) -> Accession | None:
    """What a RefSeq or GenBank accession of a known chromosome stands for; None: it is no such.

    >>> accession("NC_000023.10")
    Accession(organism='human', chromosome='X', assemblies=frozenset({'hg19'}))
    """
    parts = re.fullmatch(r"([A-Z]{1,2}_?\d{5,6})(?:\.(\d+))?", name)
    versions = _ACCESSIONS.get(parts[1]) if parts else None
    if parts is None or versions is None:
        return None
    organism, chromosome, _ = next(iter(versions.values()))
    known = versions.get(parts[2] or "")
    return Accession(organism, chromosome, known[2] if known else frozenset())


def roman_number(text: str) -> int | None:
    """1 to 16 of a roman numeral, None of anything else."""
    return _ROMAN.index(text) + 1 if text in _ROMAN else None
