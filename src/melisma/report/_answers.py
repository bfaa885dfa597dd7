"""What was found, as sentences: verdicts of sites and regions, and the summary."""

from collections.abc import Sequence

import polars as pl

from melisma._plural import count
from melisma.report._study import Contrast, Study
from melisma.report._words import (
    blocks,
    counted,
    counted_of,
    direction,
    listed,
    named,
    passing,
    probability,
    smallest,
    spoken,
    strongest,
    term,
)

# More contrasts than this are told by the table of findings alone.
_TOLD = 4


def sites_verdict(contrast: Contrast) -> str:
    """What was found among the sites, in one sentence."""
    if contrast.sites is None:
        reason = contrast.record.get("sites", {}).get("refused", "the run holds no site table")
        if str(reason).startswith("Not tested: "):
            return f"Sites were not tested: {_closed(str(reason)[12:])}"
        return f"Sites were not tested. {_closed(reason)}"
    n = contrast.called("sites")
    tested = int(contrast.sites["p"].fill_nan(None).is_not_null().sum())
    cut = passing(contrast.cut("sites"))
    if not tested:
        return "No site could be tested."
    if not n:
        least = probability(smallest(contrast.sites))
        return f"No site of {tested:,} passes {cut}; the smallest q is {least}."
    verb = "passes" if n == 1 else "pass"
    return f"{count(n, 'site')} of {tested:,} {verb} {cut}{_ways(contrast, 'sites')}."


def regions_verdict(contrast: Contrast) -> str:
    """What was found among the regions, in one sentence."""
    if contrast.regions is None:
        reason = contrast.record.get("regions", {}).get("refused", "the run holds no region table")
        return f"Regions were not tested. {_closed(reason)}"
    record = contrast.record.get("regions", {})
    n, total = contrast.called("regions"), contrast.regions.height
    noun, of = "candidate region", "candidate"
    if given := record.get("given"):
        noun, of, total = "given region", "given", record["tested"]
    cut = passing(contrast.cut("regions"))
    source = f" ({given})" if given else ""
    if not total:
        return "No stretch of sites was a candidate region."
    if not n:
        least = probability(smallest(contrast.regions))
        words = count(total, noun)
        return f"No region of {words}{source} passes {cut}; the smallest q is {least}."
    verb = "passes" if n == 1 else "pass"
    ways = _ways(contrast, "regions")
    whole = f"{total:,} given ones that can be tested" if given else count(total, of)
    return f"{count(n, 'region')} of {whole}{source} {verb} {cut}{ways}."


def judged(contrast: Contrast) -> str:
    """What the regions were judged against; empty where the run does not say."""
    record = contrast.record.get("regions", {})
    if record.get("given"):
        reasons = record.get("untestable_reasons") or {}
        left_out = "; ".join(f"{n:,} with {why}" for why, n in reasons.items())
        words = "Each region is judged by how its own sum varies between samples"
        return f"{words}; not tested: {left_out}." if left_out else f"{words}."
    if not record.get("relabellings"):
        return ""
    noun = contrast.null_noun
    words = f"Judged against {counted_of(record['relabellings'], noun)}"
    if noun == "rotation":
        allowed = count(record["distinct"], "relabelling") if record.get("distinct") else "too few"
        words += f", as the design allows {allowed} only"
    elif noun == "exchange of reads":
        words += ", as there are no replicates"
    elif record.get("distinct"):
        words += f" of {record['distinct']:,} distinct ones"
    if (null := record.get("null_regions_per_relabelling")) is not None:
        words += f", each with {null:.3g} candidates on average"
    return f"{words}."


def _ways(contrast: Contrast, kind: str) -> str:
    """How many called rows are higher and lower, after a comma; empty without a direction."""
    table = contrast.table(kind)
    if table is None or contrast.joint:
        return ""
    found = table.filter(pl.col("q").fill_nan(None) < contrast.cut(kind))["delta_beta"]
    higher, lower = int((found > 0).sum()), int((found < 0).sum())
    if contrast.slope:
        up, down, where = "rising", "falling", f" with {term(str(contrast.record.get('column')))}"
    else:
        up, down, where = "higher", "lower", f" in {spoken(str((contrast.levels or ['it'])[0]))}"
    if higher and lower:
        return f", {higher:,} {up} and {lower:,} {down}{where}"
    return f", {'all ' if len(found) > 1 else ''}{up if higher else down}{where}"


def _closed(sentence: str) -> str:
    return sentence if sentence.rstrip().endswith(".") else f"{sentence.rstrip()}."


def difference(contrast: Contrast) -> str:
    """What is compared, as the end of "do marks differ ..."."""
    if contrast.levels:
        a, b = (spoken(str(level)) for level in contrast.levels)
        return f"between {a} and {b}"
    name = term(str(contrast.record.get("label") or contrast.record["name"]))
    if contrast.among:
        return f"between the {len(contrast.among)} levels of {name}"
    return f"by the interaction {name}" if "×" in name else f"with {name}"


def finding(contrast: Contrast, *, again: bool = False) -> str:
    """A contrast's answer in a sentence, the strongest effect named, counts between asterisks.

    `again` says that another design was asked the same just before.
    """
    regions, sites = contrast.called("regions"), contrast.called("sites")
    if again:
        head = f"with {blocks(contrast)} as blocks" if contrast.block else ""
        head = head or f"with the model {contrast.formula}"
    else:
        head = difference(contrast)
    head = _capital(head)
    if not contrast.replicated:
        head += ", without replicates"
    if contrast.sites is None and contrast.regions is None:
        return f"{head}, neither sites nor regions could be tested."
    tail = "" if contrast.regions is not None else "; regions could not be tested"
    if contrast.record.get("sites", {}).get("method") == "levels":
        tail = ""
    if contrast.regions is not None and not contrast.replicated:
        tail = "; regions without replicates are leads, not findings"
    elif regions and contrast.null_noun == "rotation":
        tail = "; its regions are judged by rotations"
    if not regions and not sites:
        least = [v for v in (smallest(contrast.sites), smallest(contrast.regions)) if v is not None]
        size = f" (the smallest q is {probability(min(least))})" if least else ""
        return f"{head}, **nothing** passes {_cuts(contrast)}{size}{tail}."
    counts = _counts(contrast, sites, regions)
    return f"{head}, {counts} {_cuts(contrast)}{_best(contrast)}{tail}."


def _cuts(contrast: Contrast) -> str:
    """The threshold, or the two of them where sites and regions have their own."""
    kinds = [kind for kind in ("sites", "regions") if contrast.table(kind) is not None]
    cuts = [passing(contrast.cut(kind)) for kind in kinds]
    if len(set(cuts)) < 2:
        return cuts[0]
    return listed([f"{cut} ({kind})" for cut, kind in zip(cuts, kinds, strict=True)])


def _counts(contrast: Contrast, sites: int, regions: int) -> str:
    if contrast.regions is None or contrast.sites is None:
        n, noun = (sites, "site") if contrast.regions is None else (regions, "region")
        return f"**{count(n, noun)}** {'passes' if n == 1 else 'pass'}"
    if sites and regions:
        return f"**{count(sites, 'site')}** and **{count(regions, 'region')}** pass"
    n, noun, other = (sites, "site", "region") if sites else (regions, "region", "single site")
    return f"**{count(n, noun)}** and no {other} {'passes' if n == 1 else 'pass'}"


def _best(contrast: Contrast) -> str:
    for kind, at in (("regions", "in"), ("sites", "at")):
        n = contrast.called(kind)
        if n:
            top = strongest(contrast.table(kind), 1).row(0, named=True)
            noun = f"{'the strongest' if n > 1 else 'that'} {kind.removesuffix('s')}"
            if top["delta_beta"] is None:
                return f"; {noun} is {named(top)}"
            return f"; {at} {noun}, {named(top)}, {direction(contrast, top)}"
    return ""


def summary(study: Study) -> str:
    """The study's question, size, findings and identity in one paragraph."""
    run = study.run
    asked = list(dict.fromkeys(difference(c) for c in study.contrasts))
    size = f"{count(run['samples'], 'sample')} and {count(run['sites'], 'site')}"
    mark = run.get("mark", "5mC")
    if not asked:
        why = "nothing was tested" if run.get("left_out") else "no contrast was asked for"
        sentences = [f"This run describes {size} of {mark}; {why}."]
    elif len(asked) <= _TOLD:
        sentences = [f"Do marks differ {', and '.join(asked)}? The study holds {size} of {mark}."]
    else:
        sentences = [
            f"The study holds {size} of {mark}, and asks {count(len(asked), 'question')} of them."
        ]
    sentences += _answers(study.contrasts)
    if study.levels_only and any(c.sites is not None for c in study.contrasts):
        sentences.append("Levels without counts were tested site by site; regions need counts.")
    identity = run.get("qc", {}).get("identity", {})
    if identity.get("sentence"):
        sentences.append(_closed(str(identity["sentence"])))
    if contradictions := identity.get("contradictions") or []:
        n = len(contradictions)
        word = counted(n, "").split()[0]
        sentences.append(f"{word} of them {'contradicts' if n == 1 else 'contradict'} the sheet.")
    return " ".join(sentences)


def _answers(contrasts: Sequence[Contrast]) -> list[str]:
    asked = list(dict.fromkeys(difference(c) for c in contrasts))
    if len(contrasts) <= _TOLD:
        same = [[c for c in contrasts if difference(c) == question] for question in asked]
        return [finding(c, again=i > 0) for group in same for i, c in enumerate(group)]
    # A long list belongs in the table of findings: only the first answers are told.
    found = [c for c in contrasts if c.called("sites") or c.called("regions")]
    empty = len(contrasts) - len(found)
    told = [finding(c) for c in found[:_TOLD]]
    return [*told, f"{counted(empty, 'contrast')} found nothing."] if empty else told


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
