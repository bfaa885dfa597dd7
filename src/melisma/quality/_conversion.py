"""How completely unmethylated cytosines were converted, and methylated ones were not.

A control that is known to be unmethylated shows failed conversion as methylation: failure is
M / N over all its cytosines. Lambda or M13 DNA added before conversion is the measure; in plants
the chloroplast serves (Lister et al. 2008, Cell 133, 523-536). Where neither is there, the level
of CHH in an animal bounds the failure from above, for some true CHH methylation may be in it
(neurons and embryonic stem cells: Lister et al. 2009, Nature 462, 315-322; 2013, Science 341,
1237905). A plant methylates CHH and CHG itself, so there it says nothing. A methylated pUC19 shows
the opposite fault: 1 - M / N of its CpGs were converted although methylated.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from melisma.methylome import CONTEXTS
from melisma.quality._contigs import (
    PUC19,
    UNMETHYLATED,
    kingdom_of_names,
    known_contig,
    named_contig,
)
from melisma.quality._coverage import Tally
from melisma.quality._intervals import wilson
from melisma.quality._walk import Floats

# Formats of callers that read marks from native DNA, where nothing is converted.
_NATIVE = ("modbam", "bedmethyl", "bedmethyl21", "modbam2bed")
_CONVERTED_MARKS = ("m", "C")
# Plants methylate CHG in earnest (Arabidopsis about 7%, maize over 50%); failed conversion shows
# in CHG and CHH alike.
_PLANT_CHG, _PLANT_RATIO = 0.04, 1.5
# An animal without names: much CG and little, even non-CG methylation.
_ANIMAL_CG, _ANIMAL_NON_CG = 0.4, 0.04
_FEWEST_READS = 1_000
SCHEMA = {
    "sample": pl.String,
    "kind": pl.String,
    "source": pl.String,
    "contig": pl.String,
    "context": pl.String,
    "reads": pl.Int64,
    "failure": pl.Float64,
    "failure_low": pl.Float64,
    "failure_high": pl.Float64,
    "conversion": pl.Float64,
    "control_contig": pl.String,
    "control_reads": pl.Int64,
    "control_level": pl.Float64,
    "control_low": pl.Float64,
    "control_high": pl.Float64,
    "reason": pl.String,
}


class Controls(NamedTuple):
    """The contigs that tell conversion: (what it is, contig) each, None where there is none."""

    unmethylated: tuple[str, int] | None
    methylated: tuple[str, int] | None


def find_controls(
    contigs: Sequence[str], spike_in: str | None = None, methylated_control: str | None = None
) -> Controls:
    """The controls that the user names, else those that the contigs' names tell.

    Raises
    ------
    MelismaError
        A named contig is not in the store.
    """
    if spike_in:
        unmethylated = named_contig(contigs, spike_in, "--spike-in")
    else:
        found = ((what, known_contig(contigs, names)) for what, names in UNMETHYLATED)
        unmethylated = next(((what, k) for what, k in found if k is not None), None)
    if methylated_control:
        return Controls(
            unmethylated, named_contig(contigs, methylated_control, "--methylated-control")
        )
    k = known_contig(contigs, PUC19)
    return Controls(unmethylated, None if k is None else ("pUC19", k))


def conversion_table(
    tally: Tally,
    samples: Sequence[str],
    contigs: Sequence[str],
    attrs: Mapping[Any, Any],
    controls: Controls,
) -> pl.DataFrame:
    """One row a sample: how its conversion is known, the failure with its interval, and why not.

    `kind` is "measured" (a control), "upper bound" (CHH of an animal), "not applicable" (native
    reads, levels without counts, marks that are not told by conversion) or "cannot be told".
    """
    formats = attrs.get("ingest", {}).get("samples", {})
    apart = {k for named in controls if named is not None for k in [named[1]]}
    kingdom, why = _kingdom(tally, contigs, attrs, apart)
    bound = _reads(tally, [(k, "CHH") for k in range(len(contigs)) if k not in apart])
    source = _reads(tally, _everywhere(controls.unmethylated))
    rows = []
    for i, sample in enumerate(samples):
        row: dict[str, Any] = dict.fromkeys(SCHEMA) | {"sample": sample, "reason": ""}
        reason = _not_applicable(tally, attrs, formats.get(sample, {}).get("format"))
        if reason:
            rows.append(row | {"kind": "not applicable", "reason": reason})
            continue
        if controls.unmethylated is not None and source[1][i] > 0:
            what, k = controls.unmethylated
            words = "+".join(c for c in CONTEXTS if (k, CONTEXTS.index(c)) in tally.places)
            row |= {"kind": "measured", "source": what, "contig": contigs[k], "context": words}
            row |= _failure(source[0][i], source[1][i])
        elif kingdom == "animal" and bound[1][i] >= _FEWEST_READS:
            row |= {"kind": "upper bound", "source": "CHH", "context": "CHH"}
            row |= _failure(bound[0][i], bound[1][i])
            row["reason"] = (
                "CHH of the genome: true non-CG methylation (neurons, stem cells) is counted in"
            )
        else:
            row |= {"kind": "cannot be told", "reason": f"{_absent(controls, contigs)}, and {why}"}
        rows.append(row)
    _add_control(rows, tally, contigs, controls.methylated)
    return pl.DataFrame(rows, schema=SCHEMA)


def _absent(controls: Controls, contigs: Sequence[str]) -> str:
    if controls.unmethylated is None:
        return "no unmethylated control among the contigs"
    return f"{contigs[controls.unmethylated[1]]} has no reads"


def _everywhere(control: tuple[str, int] | None) -> list[tuple[int, str]]:
    return [] if control is None else [(control[1], context) for context in CONTEXTS]


def _reads(tally: Tally, places: Sequence[tuple[int, str]]) -> tuple[Floats, Floats]:
    """Marked reads and reads at some (contig, context), each (samples,)."""
    total = np.zeros((3, len(tally.seen)))
    for contig, context in places:
        total += tally.places.get((contig, CONTEXTS.index(context)), 0.0)
    return total[2], total[1]


def _failure(marked: float, reads: float) -> dict[str, Any]:
    low, high = wilson(np.array([marked]), np.array([reads]))
    share = float(marked / reads)
    return {
        "reads": int(reads),
        "failure": share,
        "failure_low": float(low[0]),
        "failure_high": float(high[0]),
        "conversion": 1 - share,
    }


def _not_applicable(tally: Tally, attrs: Mapping[Any, Any], form: str | None) -> str:
    if not tally.has_counts:
        return "levels without counts: conversion is judged on the raw data"
    if form in _NATIVE:
        return f"native reads ({form}) are not converted"
    if attrs["mark_shown"] not in _CONVERTED_MARKS:
        return "this mark is not told by conversion"
    return ""


def _kingdom(
    tally: Tally, contigs: Sequence[str], attrs: Mapping[Any, Any], apart: set[int]
) -> tuple[str | None, str]:
    """Plant or animal, by names and by levels together; None and the reason where unsure."""
    counts = {
        context: _reads(tally, [(k, context) for k in range(len(contigs)) if k not in apart])
        for context in CONTEXTS[:3]
    }
    reads = {context: float(n.sum()) for context, (_, n) in counts.items()}
    if reads["CHH"] < _FEWEST_READS:
        return None, "no calls in CHH" if not reads["CHH"] else "too few calls in CHH"
    level = {
        context: float(m.sum()) / max(reads[context], 1.0) for context, (m, _) in counts.items()
    }
    named = kingdom_of_names(contigs, attrs.get("genome", {}).get("name"))
    plant_like = (
        reads["CHG"] >= _FEWEST_READS
        and level["CHG"] >= _PLANT_CHG
        and level["CHG"] >= _PLANT_RATIO * level["CHH"]
    )
    shown = f"CHG at {level['CHG']:.1%} and CHH at {level['CHH']:.1%}"
    if named == "plant" or plant_like:
        return None, (
            f"CHH says nothing in a plant ({shown})"
            if named != "animal"
            else f"the contigs are an animal's, but {shown} are a plant's levels"
        )
    animal_like = level["CG"] >= _ANIMAL_CG and level["CHG"] <= _ANIMAL_NON_CG
    if named == "animal" or animal_like:
        return "animal", "too few calls in CHH"
    return None, (
        f"neither the contigs' names nor the levels ({shown}) tell an animal from a plant: name "
        "the control with --spike-in"
    )


def _add_control(
    rows: list[dict[str, Any]],
    tally: Tally,
    contigs: Sequence[str],
    control: tuple[str, int] | None,
) -> None:
    """The level of the methylated control's CpGs, into rows where conversion applies."""
    if control is None or not tally.has_counts:
        return
    # Enzymes methylate the control's CpGs only; without contexts all its calls are taken as CpGs.
    with_context = (control[1], CONTEXTS.index("CG")) in tally.places
    marked, reads = _reads(tally, [(control[1], "CG" if with_context else "unknown")])
    low, high = wilson(marked, reads)
    for i, row in enumerate(rows):
        if row["kind"] == "not applicable" or not reads[i]:
            continue
        row |= {
            "control_contig": contigs[control[1]],
            "control_reads": int(reads[i]),
            "control_level": float(marked[i] / reads[i]),
            "control_low": float(low[i]),
            "control_high": float(high[i]),
        }


def conversion_sentence(table: pl.DataFrame) -> str:
    """What is known of the study's conversion, in one sentence."""
    known = table.filter(pl.col("failure").is_not_null())
    if known.is_empty():
        kind, reason = table.select("kind", "reason").row(0)
        verb = "does not apply" if kind == "not applicable" else "cannot be told"
        return f"Conversion {verb}: {reason}."
    worst = known.sort("failure", descending=True).row(0, named=True)
    where = worst["contig"] or "CHH"
    bound = "" if worst["kind"] == "measured" else "at most "
    left = len(table) - len(known)
    rest = f"; {left} of {len(table)} samples cannot be told or do not apply" if left else ""
    return (
        f"Failed conversion is {bound}{worst['failure']:.2%} in the worst sample "
        f"({worst['sample']}, {where}, 95% {worst['failure_low']:.2%} to "
        f"{worst['failure_high']:.2%}){rest}."
    )
