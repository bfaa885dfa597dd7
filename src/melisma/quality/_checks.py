"""Limits that a study's samples must keep, and whether they do: what `--strict` stands on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from melisma.errors import MelismaError
from melisma.quality._batch import Covariates
from melisma.quality._bias import FEWEST_PAIRS
from melisma.quality._sex import SexCheck
from melisma.quality._sheet import Contradiction

PASS, WARN, FAIL, NONE = "pass", "warn", "fail", "not applicable"
# Name, default and what it bounds. Effects, not p-values: with millions of reads every difference
# is significant.
LIMITS: Mapping[str, tuple[float, str]] = {
    "min_coverage": (5, "mean reads of the sites a sample sees"),
    "min_sites": (1000, "sites a sample sees"),
    "min_shared_sites": (0.1, "share of a sample's sites that any other sample sees"),
    "max_conversion_failure": (0.01, "share of unmethylated cytosines left unconverted"),
    "min_control_level": (0.95, "level of the methylated control's CpGs"),
    "max_strand_difference": (0.05, "difference of level between the strands of CpGs"),
    "max_outliers": (0, "samples that stand apart"),
    "max_sex_contradictions": (0, "samples whose sex is not the sheet's"),
    "max_identity_contradictions": (0, "contradictions of identity with the sheet"),
}
_SCHEMA = {
    "check": pl.String,
    "sample": pl.String,
    "value": pl.Float64,
    "limit": pl.Float64,
    "status": pl.String,
    "sentence": pl.String,
}
Row = tuple[str, str | None, float | None, float | None, str, str]


def read_limits(given: Mapping[str, float] | Sequence[str]) -> dict[str, float]:
    """The limits with those that the user gives, as a mapping or as `name=value` words.

    >>> read_limits(["min_coverage=10"])["min_coverage"]
    10.0

    Raises
    ------
    MelismaError
        A name is unknown, or a value is no number of 0 or more.
    """
    pairs = (
        list(given.items())
        if isinstance(given, Mapping)
        else [(word.partition("=")[0].strip(), word.partition("=")[2]) for word in given]
    )
    limits = {name: float(default) for name, (default, _) in LIMITS.items()}
    for name, value in pairs:
        if name not in limits:
            raise MelismaError(f"{name!r} is not a limit; the limits are {', '.join(limits)}.")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):
            raise MelismaError(
                f"The limit {name} is {str(value)!r}: give a number of 0 or more, "
                f"such as {name}={LIMITS[name][0]:g}."
            )
        limits[name] = number
    return limits


@dataclass(frozen=True)
class Measured:
    """The parts of a quality check that its limits are held against."""

    samples: pl.DataFrame
    conversion: pl.DataFrame
    bias: pl.DataFrame
    sex: SexCheck
    covariates: Covariates
    shared: Sequence[float]
    identity: Sequence[Contradiction]
    identity_resolved: bool


def check_table(found: Measured, limits: Mapping[str, float]) -> pl.DataFrame:
    """One row a check and sample: check, sample (null: the study), value, limit, status, sentence.

    `status` is pass, warn, fail or not applicable.
    """
    rows = [
        *_coverage(found.samples, limits),
        *_shared(found, limits["min_shared_sites"]),
        *_conversion(found.conversion, limits),
        *_strands(found.bias, limits["max_strand_difference"]),
        *_outliers(found.samples, limits["max_outliers"]),
        *_sex(found.sex, limits["max_sex_contradictions"]),
        *_identity(found, limits["max_identity_contradictions"]),
        *_confounding(found.covariates),
    ]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")


def _coverage(samples: pl.DataFrame, limits: Mapping[str, float]) -> Iterator[Row]:
    for check, column, noun in (
        ("min_coverage", "coverage_mean", "reads a site"),
        ("min_sites", "sites_seen", "sites"),
    ):
        limit = limits[check]
        for sample, value in samples.select("sample", column).rows():
            if value is None:
                yield check, sample, None, limit, NONE, "levels without counts have no coverage"
                continue
            status = PASS if value >= limit else FAIL
            shown = f"{value:,.1f}" if column == "coverage_mean" else f"{value:,}"
            words = f"{sample} has {shown} {noun}; the limit is {limit:,.6g}."
            yield check, sample, float(value), limit, status, words


def _shared(found: Measured, limit: float) -> Iterator[Row]:
    for sample, seen, share in zip(
        found.samples["sample"], found.samples["sites_seen"], found.shared, strict=True
    ):
        if len(found.shared) < 2 or not seen:
            yield "min_shared_sites", sample, None, limit, NONE, "no other sample to compare with"
            continue
        words = f"{sample} shares {share:.0%} of its sites with other samples."
        status = PASS if share >= limit else FAIL
        yield "min_shared_sites", sample, float(share), limit, status, words


def _conversion(table: pl.DataFrame, limits: Mapping[str, float]) -> Iterator[Row]:
    most, least = limits["max_conversion_failure"], limits["min_control_level"]
    for row in table.iter_rows(named=True):
        sample, name = row["sample"], "max_conversion_failure"
        if row["failure"] is None:
            yield name, sample, None, most, NONE, f"{sample}: {row['reason']}."
        else:
            over = row["failure"] > most
            # A bound may hold true methylation, and few reads may exceed a limit by chance.
            sure = row["kind"] == "measured" and row["failure_low"] > most
            kind = "at most " if row["kind"] == "upper bound" else ""
            words = (
                f"{sample}: {kind}{row['failure']:.2%} of {row['reads']:,} cytosine reads "
                f"({row['contig'] or row['source']}) were not converted "
                f"(95% {row['failure_low']:.2%} to {row['failure_high']:.2%}; limit {most:.2%})."
            )
            status = FAIL if sure else WARN if over else PASS
            yield name, sample, row["failure"], most, status, words
        if row["control_level"] is None:
            continue
        below = row["control_level"] < least
        words = (
            f"{sample}: the methylated control {row['control_contig']} reads "
            f"{row['control_level']:.1%} ({row['control_reads']:,} reads; limit {least:.0%})."
        )
        status = FAIL if row["control_high"] < least else WARN if below else PASS
        yield "min_control_level", sample, row["control_level"], least, status, words


def _strands(table: pl.DataFrame, limit: float) -> Iterator[Row]:
    for sample, pairs, value in table.select("sample", "strand_pairs", "strand_difference").rows():
        if value is None:
            words = f"{sample} has {pairs:,} CpGs with both strands apart; {FEWEST_PAIRS} tell."
            yield "max_strand_difference", sample, None, limit, NONE, words
            continue
        status = PASS if abs(value) <= limit else FAIL
        words = f"{sample}: CpGs are {value:+.3f} on + against -, over {pairs:,} CpGs."
        yield "max_strand_difference", sample, value, limit, status, words


def _outliers(samples: pl.DataFrame, allowed: float) -> Iterator[Row]:
    bad = FAIL if int(samples["outlier"].fill_null(False).sum()) > allowed else WARN
    for sample, outlier, reason in samples.select("sample", "outlier", "outlier_reason").rows():
        if outlier is None:
            yield "max_outliers", sample, None, allowed, NONE, f"{sample}: {reason}."
        elif outlier:
            yield "max_outliers", sample, 1.0, allowed, bad, f"{sample} stands apart: {reason}."
        else:
            yield "max_outliers", sample, 0.0, allowed, PASS, f"{sample} does not stand apart."


def _sex(sex: SexCheck, allowed: float) -> Iterator[Row]:
    clash = {c.samples[0]: c.sentence for c in sex.contradictions}
    bad = FAIL if len(clash) > allowed else WARN
    name = "max_sex_contradictions"
    for sample, found, sheet, why in sex.table.select("sample", "sex", "sheet", "reason").rows():
        if sample in clash:
            yield name, sample, 1.0, allowed, bad, clash[sample]
        elif found and sheet:
            yield name, sample, 0.0, allowed, PASS, f"{sample} looks {found}, as in the sheet."
        elif sheet and not sex.reason:
            yield name, sample, None, allowed, WARN, f"{sample}: sex cannot be told: {why}."
        else:
            reason = why or "the sheet has no sex in words (female, male)"
            yield name, sample, None, allowed, NONE, f"{sample}: {reason}."


def _identity(found: Measured, allowed: float) -> Iterator[Row]:
    name, clashes = "max_identity_contradictions", found.identity
    if not found.identity_resolved:
        words = "Which samples come from one person cannot be told."
        yield name, None, None, allowed, NONE, words
        return
    if not clashes:
        words = "Identity does not contradict the sample sheet."
        yield name, None, 0.0, allowed, PASS, words
    bad = FAIL if len(clashes) > allowed else WARN
    for clash in clashes:
        yield name, ", ".join(clash.samples), float(len(clashes)), allowed, bad, clash.sentence


def _confounding(found: Covariates) -> Iterator[Row]:
    same = found.pairs.filter(pl.col("relation") == "same groups")
    for value, sentence in same.select("value", "sentence").rows():
        yield "confounding", None, value, None, WARN, sentence
    if same.is_empty() and not found.pairs.is_empty():
        worst: Any = found.pairs["value"].max()
        words = "No two columns of the sheet divide the samples alike."
        yield "confounding", None, worst, None, PASS, words


def failed(checks: pl.DataFrame) -> list[str]:
    """A line for each failed check."""
    rows = checks.filter(pl.col("status") == FAIL)
    return [f"{check}: {sentence}" for check, sentence in rows.select("check", "sentence").rows()]
