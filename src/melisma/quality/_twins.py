"""Twins and families of the sample sheet against the genotypes of the calls.

Identical twins share a genotype, so two individuals of one genotype are only then a duplicate or
a swap when the sheet does not have them in one twin pair.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from melisma.quality._relations import PARENT, SAME, SECOND, SIBLINGS, UNRELATED
from melisma.quality._sheet import Contradiction, listed, shortened, words

# Columns that name a twin pair; `family` only says that its members are related.
_PAIR_COLUMNS = ("twin_pair", "pair", "family")
_SAYS = ("where the sheet has a pair", "as the sheet says")
_IDENTICAL = ("mz", "monozygotic", "identical")
_FRATERNAL = ("dz", "dizygotic", "fraternal", "non-identical")


@dataclass(frozen=True)
class Twins:
    """What the sheet's twin pairs say of the genotypes.

    units : (samples,), whom the sheet expects to share a genotype: a pair of identical twins, else
        an individual; empty where not known
    notes : sentences on what agrees with the sheet, or what it leaves open
    contradictions : what does not agree
    """

    units: tuple[str, ...]
    notes: tuple[str, ...]
    contradictions: tuple[Contradiction, ...]


@dataclass(frozen=True)
class _Sheet:
    samples: Sequence[str]
    individual: Sequence[str]
    column: str
    pair: Sequence[str]
    zygosity: Sequence[str]

    def members(self, pair: str) -> dict[str, list[int]]:
        """Samples of each individual of a pair."""
        found: dict[str, list[int]] = {}
        for i, (name, value) in enumerate(zip(self.individual, self.pair, strict=True)):
            if name and value == pair:
                found.setdefault(name, []).append(i)
        return found

    def kind(self, rows: Sequence[int]) -> str:
        """MZ, DZ, or nothing, where the rows agree."""
        kinds = {self.zygosity[i] for i in rows}
        return kinds.pop() if len(kinds) == 1 else ""


def zygosity(value: str) -> str:
    """MZ, DZ or nothing, from a word of the sheet.

    >>> zygosity("monozygotic"), zygosity("DZ"), zygosity("?")
    ('MZ', 'DZ', '')
    """
    word = value.strip().lower()
    return "MZ" if word in _IDENTICAL else "DZ" if word in _FRATERNAL else ""


def has_twins(sheet: Mapping[str, Sequence[Any]]) -> bool:
    """Whether the sheet names individuals and their pairs or families."""
    return "individual" in sheet and any(c in sheet for c in (*_PAIR_COLUMNS, "zygosity"))


def twins(
    people: Sequence[int],
    samples: Sequence[str],
    sheet: Mapping[str, Sequence[Any]],
    relation: Callable[[int, int], str],
) -> Twins:
    """Compare the sheet's twin pairs with the genotypes.

    Parameters
    ----------
    people : (samples,), genotype of each sample, negative where not known
    samples : (samples,), names
    sheet : columns, each (samples,)
    relation : the relation of two samples by their index
    """
    named = words(sheet.get("individual", [""] * len(samples)))
    if not has_twins(sheet):
        return Twins(tuple(named), (), ())
    column = next((c for c in _PAIR_COLUMNS if c in sheet), "")
    kinds = [zygosity(w) for w in words(sheet.get("zygosity", [""] * len(samples)))]
    pairs = words(sheet[column]) if column else [""] * len(samples)
    read = _Sheet(samples, named, column, pairs, kinds)
    alike, notes, found = _alike(read, people)
    clashing = {name for c in found for name in c.samples}
    labelled, units = _labelled(read, people, relation, clashing)
    for i, name in enumerate(named):
        if name and (name, pairs[i]) in alike:
            units[i] = f"{column} {pairs[i]}"
    return Twins(
        tuple(units), tuple(notes), (*found, *labelled, *_families(read, people, relation))
    )


def _alike(
    sheet: _Sheet, people: Sequence[int]
) -> tuple[set[tuple[str, str]], list[str], list[Contradiction]]:
    """Individuals of one genotype: (individual, pair) of those whom the sheet allows, and words."""
    allowed: set[tuple[str, str]] = set()
    notes: list[str] = []
    said: dict[str, list[str]] = {}
    found: list[Contradiction] = []
    for person in dict.fromkeys(p for p in people if p >= 0):
        rows = [i for i, p in enumerate(people) if p == person and sheet.individual[i]]
        names = list(dict.fromkeys(sheet.individual[i] for i in rows))
        if len(names) < 2:
            continue
        pairs = {sheet.pair[i] for i in rows}
        pair, kind = sheet.pair[rows[0]], sheet.kind(rows)
        if len(pairs) > 1 or not pair:
            found.append(_one_genotype(sheet, rows))
            continue
        allowed |= {(name, pair) for name in names}
        who, place = listed(names), f"{sheet.column} {pair}"
        if kind == "DZ":
            sentence = (
                f"{who} of {place} are dizygotic in the sheet but share one genotype: they are "
                "identical twins, or one of them was sampled twice."
            )
            found.append(
                Contradiction(_names(sheet, rows), "zygosity", "DZ", "one genotype", sentence)
            )
        elif kind == "MZ" or (sheet.column != "family" and len(names) == 2):
            said.setdefault(_SAYS[kind == "MZ"], []).append(f"{who} of {place}")
        else:
            notes.append(
                f"{who} of {place} share one genotype: identical twins, or one person under "
                "several names; the sheet does not say which."
            )
    told = [
        f"{len(pairs)} {'pair has' if len(pairs) == 1 else 'pairs have'} one genotype each, "
        f"identical twins {how}: {shortened(pairs)}."
        for how, pairs in said.items()
    ]
    return allowed, [*told, *notes], found


def _names(sheet: _Sheet, rows: Sequence[int]) -> tuple[str, ...]:
    return tuple(sheet.samples[i] for i in rows)


def _one_genotype(sheet: _Sheet, rows: Sequence[int]) -> Contradiction:
    told = listed(
        [
            f"{sheet.samples[i]} as {sheet.individual[i]}"
            + (f" of {sheet.column} {sheet.pair[i]}" if sheet.pair[i] else "")
            for i in rows
        ]
    )
    who = _names(sheet, rows)
    sentence = (
        f"{listed(who)} come from one person or from identical twins, but the sheet has {told}: "
        "a duplicate or a swap."
    )
    labels = ", ".join(dict.fromkeys(sheet.individual[i] for i in rows))
    return Contradiction(who, "individual", labels, "one individual", sentence)


def _labelled(
    sheet: _Sheet,
    people: Sequence[int],
    relation: Callable[[int, int], str],
    clashing: set[str],
) -> tuple[list[Contradiction], list[str]]:
    """Twin pairs whose genotypes are not those of their zygosity, and the units expected."""
    found: list[Contradiction] = []
    units = list(sheet.individual)
    for pair in dict.fromkeys(value for value in sheet.pair if value):
        members = sheet.members(pair)
        rows = [i for own in members.values() for i in own]
        kind = sheet.kind(rows)
        if len(members) != 2 or not kind:
            continue
        if kind == "MZ":
            for i in rows:
                units[i] = f"{sheet.column} {pair}"
        one, two = members.values()
        placed = all(people[i] >= 0 for i in rows)
        # A swap with another pair is named there, by the genotype that it shares.
        if not placed or clashing & {sheet.samples[i] for i in rows}:
            continue
        seen = {relation(i, j) for i in one for j in two}
        sentence = _zygosity_sentence(listed(list(members)), f"{sheet.column} {pair}", kind, seen)
        if sentence and not {people[i] for i in one} & {people[i] for i in two}:
            found.append(
                Contradiction(_names(sheet, rows), "zygosity", kind, "another zygosity", sentence)
            )
            for i in rows:
                units[i] = sheet.individual[i]
    return found, units


def _zygosity_sentence(who: str, place: str, kind: str, seen: set[str]) -> str:
    """What is wrong with a pair of two genotypes; empty if nothing is, or if it is not certain."""
    if kind == "MZ" and seen == {SIBLINGS}:
        return (
            f"{who} of {place} are monozygotic in the sheet but have two genotypes, those of full "
            "siblings: they are dizygotic twins."
        )
    if seen == {UNRELATED} or seen <= {SECOND, PARENT}:
        kinship = "unrelated people" if seen == {UNRELATED} else "relatives but not twins"
        called = "monozygotic" if kind == "MZ" else "dizygotic"
        return (
            f"{who} of {place} are {called} in the sheet but have the genotypes of {kinship}: "
            "one of them is swapped or mislabelled."
        )
    if kind == "MZ" and SAME not in seen and "different" in seen:
        return f"{who} of {place} are monozygotic in the sheet but have two genotypes."
    return ""


def _families(
    sheet: _Sheet, people: Sequence[int], relation: Callable[[int, int], str]
) -> list[Contradiction]:
    """First-degree relatives whom the sheet has in two families."""
    if sheet.column != "family":
        return []
    first: dict[tuple[str, str], tuple[int, int]] = {}
    for i in range(len(people)):
        for j in range(i + 1, len(people)):
            if not (sheet.pair[i] and sheet.pair[j]) or sheet.pair[i] == sheet.pair[j]:
                continue
            if people[i] < 0 or people[j] < 0 or people[i] == people[j]:
                continue
            if relation(i, j) in (PARENT, SIBLINGS):
                names = (sheet.individual[i], sheet.individual[j])
                first.setdefault(names, (i, j))
    return [
        Contradiction(
            _names(sheet, rows),
            "family",
            ", ".join(sheet.pair[i] for i in rows),
            "one family",
            f"{sheet.samples[rows[0]]} and {sheet.samples[rows[1]]} are {relation(*rows)}, but "
            f"the sheet has them in {sheet.column} {sheet.pair[rows[0]]} and "
            f"{sheet.pair[rows[1]]}.",
        )
        for rows in first.values()
    ]
