"""Where the people found in the calls contradict the sample sheet."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Columns that name the sample or its file, not a trait.
_NOT_TRAITS = ("sample", "path", "format", "individual")
# Beside `individual`, columns that say how people are related.
_KINSHIP = ("family", "twin_pair", "pair", "zygosity")
# A column is taken to differ between people, or within them, when this share of them shows it.
_MAJORITY = 2 / 3
_FEWEST_PEOPLE = 3
# Whole numbers with more values than this are measurements, not groups.
_MOST_CODES = 5

Members = Mapping[int, Sequence[int]]


@dataclass(frozen=True)
class Contradiction:
    """One place where the calls and the sample sheet disagree.

    samples : the samples concerned
    column : the sheet's column
    found, expected : what the sheet says, and what the people found lead one to expect
    sentence : the same in words
    """

    samples: tuple[str, ...]
    column: str
    found: str
    expected: str
    sentence: str


def contradictions(
    people: Sequence[int],
    samples: Sequence[str],
    sheet: Mapping[str, Sequence[Any]],
    *,
    genotypes: bool = True,
    apart: Callable[[int, int], bool] = lambda i, j: True,
) -> tuple[Contradiction, ...]:
    """Compare the inferred people with the sheet's `individual` and with its categorical columns.

    Among people with at least two samples, a column that is constant inside at least two thirds
    of them (and three people) is a trait of people, such as a disease; one that differs inside
    as many is a condition, such as a treatment. The rest are the exceptions.

    Parameters
    ----------
    people : (samples,), 0-based person of each sample; negative: not known
    samples : (samples,), names
    sheet : columns, each (samples,)
    genotypes : whether two individuals of one person are a contradiction here
    apart : whether two samples of different people are certainly so
    """
    members: dict[int, list[int]] = {}
    for i, person in enumerate(people):
        if person >= 0:
            members.setdefault(person, []).append(i)
    found: list[Contradiction] = []
    if "individual" in sheet:
        named = words(sheet["individual"])
        found += _one_person(members, samples, named) if genotypes else []
        found += _one_name(people, samples, named, apart)
    repeated = {person: rows for person, rows in members.items() if len(rows) > 1}
    left_out = (*_NOT_TRAITS, *(_KINSHIP if "individual" in sheet else ()))
    traits = [
        _trait(repeated, column, words(values))
        for column, values in sheet.items()
        if column not in left_out and _is_categorical(values)
    ]
    for trait in traits:
        found += [_exception(repeated, person, trait, samples, traits) for person in trait.odd]
    return tuple(found)


@dataclass(frozen=True)
class _Trait:
    """A categorical column; `between` people, within them, or neither (None); its exceptions."""

    column: str
    values: Sequence[str]
    between: bool | None
    odd: Sequence[int]
    share: str


def _trait(repeated: Members, column: str, values: Sequence[str]) -> _Trait:
    inside = {
        person: {values[i] for i in rows}
        for person, rows in repeated.items()
        if all(values[i] for i in rows)
    }
    same = [person for person, seen in inside.items() if len(seen) == 1]
    differ = [person for person, seen in inside.items() if len(seen) > 1]
    for regular, odd, between in ((same, differ, True), (differ, same, False)):
        if len(regular) >= max(_FEWEST_PEOPLE, _MAJORITY * len(inside)):
            share = f"{len(regular)} of {len(inside)} people"
            return _Trait(column, values, between, odd, share)
    return _Trait(column, values, None, [], "")


def coinciding_columns(people: Sequence[int], sheet: Mapping[str, Sequence[Any]]) -> list[str]:
    """Categorical columns that divide the samples exactly as the people do.

    >>> coinciding_columns([0, 0, 1, 1], {"tissue": ["liver", "liver", "skin", "skin"]})
    ['tissue']
    """
    return [
        column
        for column, values in sheet.items()
        if column not in _NOT_TRAITS
        and _is_categorical(values)
        and len(set(zip(people, words(values), strict=True)))
        == len(set(people))
        == len(set(words(values)))
    ]


def words(values: Sequence[Any]) -> list[str]:
    """Values as text; empty where missing."""
    return ["" if v is None or v != v else str(v) for v in values]


def _is_categorical(values: Sequence[Any]) -> bool:
    known = [v for v in values if v is not None and v == v and v != ""]
    if any(isinstance(v, float) for v in known):
        return False
    codes = any(isinstance(v, int) and not isinstance(v, bool) for v in known)
    distinct = len(set(known))
    # A value of its own in nearly every sample is a name, not a trait.
    return 1 < distinct <= len(known) / 2 and (not codes or distinct <= _MOST_CODES)


def _one_person(
    members: Members, samples: Sequence[str], named: Sequence[str]
) -> list[Contradiction]:
    """People whom the sheet has under several names."""
    found: list[Contradiction] = []
    for rows in members.values():
        labels = list(dict.fromkeys(named[i] for i in rows if named[i]))
        if len(labels) > 1:
            who = tuple(samples[i] for i in rows if named[i])
            told = listed([f"{samples[i]} as {named[i]}" for i in rows if named[i]])
            sentence = f"{listed(who)} come from one person, but the sheet has {told}."
            found.append(
                Contradiction(who, "individual", ", ".join(labels), "one individual", sentence)
            )
    return found


def _one_name(
    people: Sequence[int],
    samples: Sequence[str],
    named: Sequence[str],
    apart: Callable[[int, int], bool],
) -> list[Contradiction]:
    """Names of the sheet under which there are several people."""
    found: list[Contradiction] = []
    for label in dict.fromkeys(name for name in named if name):
        rows = [i for i, name in enumerate(named) if name == label and people[i] >= 0]
        groups = list(dict.fromkeys(people[i] for i in rows))
        certain = all(apart(i, j) for i in rows for j in rows if people[i] != people[j])
        if len(groups) > 1 and certain:
            who = tuple(samples[i] for i in rows)
            parted = " | ".join(
                ", ".join(samples[i] for i in rows if people[i] == person) for person in groups
            )
            sentence = (
                f"{listed(who)} are all {label} in the sheet, but come from {len(groups)} "
                f"people ({parted})."
            )
            found.append(Contradiction(who, "individual", label, f"{len(groups)} people", sentence))
    return found


def _exception(
    repeated: Members,
    person: int,
    trait: _Trait,
    samples: Sequence[str],
    traits: Sequence[_Trait],
) -> Contradiction:
    rows, values, column = repeated[person], trait.values, trait.column
    who = tuple(samples[i] for i in rows)
    found = ", ".join(dict.fromkeys(values[i] for i in rows))
    if trait.between:
        told = listed([f"{samples[i]} as {values[i]}" for i in rows])
        sentence = (
            f"{listed(who)} come from one person, but for {column} the sheet has {told}, and "
            f"{column} is the same inside {trait.share}."
        )
        return Contradiction(who, column, found, "one value", sentence)
    sentence = (
        f"{listed(who)} come from one person, but {'both' if len(who) == 2 else 'all'} are "
        f"{values[rows[0]]} in the sheet, and {column} differs inside {trait.share}."
    )
    other = _exchange_partner(repeated, person, trait, traits)
    if other is not None:
        sentence += (
            f" Exchanging one of them with one of {listed([samples[i] for i in repeated[other]])} "
            "would reconcile both pairs: a swap is likely, not proven."
        )
    return Contradiction(who, column, found, "different values", sentence)


def _exchange_partner(
    repeated: Members, person: int, trait: _Trait, traits: Sequence[_Trait]
) -> int | None:
    """The one other exception with which a single exchange of samples would mend both.

    Both must be pairs in different states, alike in every column that is a trait of people.
    """
    others = [other for other in trait.odd if other != person]
    if len(others) != 1 or len(repeated[person]) != 2 or len(repeated[others[0]]) != 2:
        return None
    rows, partner = repeated[person], repeated[others[0]]
    if trait.values[rows[0]] == trait.values[partner[0]]:
        return None
    everyone = [*rows, *partner]
    fixed = [other for other in traits if other.between]
    alike = all(len({other.values[i] for i in everyone}) == 1 for other in fixed)
    return others[0] if alike else None


def listed(words: Sequence[str]) -> str:
    """Words as a reader lists them.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def shortened(words: Sequence[str], most: int = 5, rest: str = "more") -> str:
    """The first few words and how many more there are.

    >>> shortened(["a", "b", "c"], most=2)
    'a; b; and 1 more'
    """
    more = len(words) - most
    return "; ".join([*words[:most], *([f"and {more} {rest}"] if more > 0 else [])])
