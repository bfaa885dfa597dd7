"""One chromosome, many names: `1`, `chr1`, `Chr1`, `NC_000001.11`; and which two mean the same.

Nothing is guessed: a name is matched only where exactly one contig of the other set can be meant,
accessions of two assemblies are never matched, and two contigs of one file stay two.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from melisma._assemblies import accession, roman_number

_PREFIX = re.compile(r"(?i:chromosome[_ ]?|chr[_]?)?(.+)", re.S)
_MITOCHONDRION = {"m", "mt", "mito", "mtdna", "mitochondria", "mitochondrion", "mitochondrial"}
_PLASTID = {"c", "pt", "ptdna", "chloroplast", "plastid"}
# UCSC's names of scaffolds: chr1_KI270706v1_random is KI270706.1, hg19's gl000191 GL000191.1.
_SCAFFOLD = re.compile(r"(?i)chr[^_]+_([a-z]{2}\d{6})(?:v(\d+))?(?:_(?:random|alt|fix))?")
_ORGANELLES = {"chr": ("chrM", "chrC"), "Chr": ("ChrM", "ChrC"), "": ("MT", "Pt")}
_MOST_NAMED = 3


def chromosome_keys(names: Iterable[str], beside: Iterable[str] = ()) -> dict[str, str]:
    """What each name stands for, the same for two names of one chromosome.

    Plain numbers, X, Y, Z, W, MT and PT; other names lose only a `chr`. Roman numerals are
    numbers; X is 10 in a set that has another from VI to XVI, and else the sex chromosome.

    beside : other names, which say what X is where `names` are too few to tell

    >>> chromosome_keys(["chr1", "Chr02", "NC_000023.10", "chrM", "Pt", "lambda"])
    {'chr1': '1', 'Chr02': '2', 'NC_000023.10': 'X', 'chrM': 'MT', 'Pt': 'PT', 'lambda': 'lambda'}
    >>> chromosome_keys(["chrI", "chrX"]), chromosome_keys(["chrIX", "chrX"])
    ({'chrI': '1', 'chrX': 'X'}, {'chrIX': '9', 'chrX': '10'})
    """
    names = list(names)
    cores = {_core(name) for name in names}
    if not any(core.isdigit() for core in cores):
        cores |= {_core(name) for name in beside}
    ten = any((roman_number(core) or 0) > 5 and core != "X" for core in cores)
    keys: dict[str, str] = {}
    for name in names:
        key = _key(name)
        number = roman_number(_core(name)) if key != "X" or ten else None
        keys[name] = key if number is None else str(number)
    return keys


def _core(name: str) -> str:
    found = _PREFIX.fullmatch(name)
    return found[1] if found else name


def _key(name: str) -> str:
    known = accession(name)
    if known is not None:
        return known.chromosome
    scaffold = _SCAFFOLD.fullmatch(name)
    if scaffold is not None:
        return f"{scaffold[1].upper()}.{scaffold[2] or 1}"
    core = _core(name)
    if core.isascii() and core.isdigit():
        return str(int(core))
    if core.lower() in _MITOCHONDRION:
        return "MT"
    if core.lower() in _PLASTID:
        return "PT"
    return core.upper() if core.lower() in set("xyzw") else core


def same_assembly(first: str, second: str) -> bool:
    """Whether two contig names can be of one assembly, as far as accessions tell.

    >>> same_assembly("NC_000001.10", "CM000663.1"), same_assembly("NC_000001.10", "NC_000001.11")
    (True, False)
    """
    a, b = accession(first), accession(second)
    if a is None or b is None:
        return True
    if a.organism != b.organism:
        return False
    return not a.assemblies or not b.assemblies or bool(a.assemblies & b.assemblies)


def match(names: Collection[str], known: Collection[str]) -> dict[str, str]:
    """For names that are not among the known ones, the known contig that each means.

    Parameters
    ----------
    names : contigs of one file; two of them are never given the same contig
    known : the contigs to find them among: a genome's, a store's, another sample's

    Returns
    -------
    Name in the file to known name; names that are known as they are, or that have no certain
    counterpart, are left out.

    >>> match(["1", "MT", "lambda", "chr2"], ["chr1", "chr2", "chrM"])
    {'1': 'chr1', 'MT': 'chrM'}
    """
    present = set(known)
    taken = {name for name in names if name in present}
    keys = chromosome_keys(names, known)
    counts = Counter(key for name, key in keys.items() if name not in taken)
    by_key: dict[str, list[str]] = {}
    for name, key in chromosome_keys(known, names).items():
        by_key.setdefault(key, []).append(name)
    found: dict[str, str] = {}
    for name, key in keys.items():
        if name in taken or counts[key] > 1:
            continue
        meant = [other for other in by_key.get(key, ()) if same_assembly(name, other)]
        if len(meant) > 1:
            # hg19 has both chrM and chrMT: MT is the second.
            meant = [other for other in meant if _core(other).lower() == _core(name).lower()]
        if len(meant) == 1 and meant[0] not in taken:
            found[name] = meant[0]
    return found


def find(name: str, known: Collection[str]) -> str | None:
    """The known contig that a name means: itself, or its one counterpart; None: there is none.

    >>> find("1", ["chr1", "chr2"]), find("chr1", ["chr1"]), find("chr9", ["chr1"])
    ('chr1', 'chr1', None)
    """
    return name if name in known else match([name], known).get(name)


def align(samples: Sequence[Collection[str]], known: Collection[str] = ()) -> list[dict[str, str]]:
    """How to rename the contigs of several samples so that all agree.

    Parameters
    ----------
    samples : each sample's contigs
    known : the names that win, such as a store's; without them the first sample's do

    Returns
    -------
    A mapping a sample, name in the file to the common name; names that stay are left out.

    >>> align([["chr1", "chr2"], ["1", "3"]])
    [{}, {'1': 'chr1', '3': 'chr3'}]
    """
    common = list(known)
    mappings: list[dict[str, str]] = []
    for names in samples:
        mapping = match(names, common)
        if common:
            new = [name for name in names if name not in mapping and name not in common]
            mapping |= _in_style_of(common, new, set(names) | set(common))
        mappings.append(mapping)
        seen = set(common)
        common += [new for name in names if (new := mapping.get(name, name)) not in seen]
    return mappings


def _in_style_of(common: Sequence[str], names: Sequence[str], used: set[str]) -> dict[str, str]:
    """New contigs written as the others are: 3 as chr3 beside chr1."""
    styles = Counter[str]()
    for name in common:
        found = re.fullmatch(r"(chr|Chr)?([1-9]\d?|[XYZW])", name)
        if found:
            styles[found[1] or ""] += 1
    if not styles:
        return {}
    style = styles.most_common(1)[0][0]
    mitochondrion, plastid = _ORGANELLES[style]
    keys = chromosome_keys([*names, *used])
    present = Counter(keys.values())
    written: dict[str, str] = {}
    for name in names:
        key = keys[name]
        if not re.fullmatch(r"\d+|[XYZW]|MT|PT", key) or present[key] > 1:
            continue
        new = {"MT": mitochondrion, "PT": plastid}.get(key, f"{style}{key}")
        if new not in used:
            written[name] = new
    return written


def describe(mapping: Mapping[str, str]) -> str:
    """A renaming in words, the first few by name.

    >>> describe({"1": "chr1", "MT": "chrM"})
    "'1' is 'chr1', 'MT' is 'chrM'"
    """
    shown = [f"{old!r} is {new!r}" for old, new in list(mapping.items())[:_MOST_NAMED]]
    more = len(mapping) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more alike" if more else "")


def conflict(samples: Sequence[Collection[str]]) -> tuple[str, str] | None:
    """Two names of one chromosome that no sample's file has together: samples that disagree.

    samples : each sample's contigs, after `align`
    """
    every = dict.fromkeys(name for names in samples for name in names)
    by_key: dict[str, list[str]] = {}
    for name, key in chromosome_keys(every).items():
        by_key.setdefault(key, []).append(name)
    for alike in by_key.values():
        for k, first in enumerate(alike):
            for second in alike[k + 1 :]:
                if not any(first in names and second in names for names in samples):
                    return first, second
    return None
