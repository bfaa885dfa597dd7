"""A panel applied to other samples."""

from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import polars as pl
import xarray as xr

from melisma import _contigs
from melisma._assemblies import ASSEMBLIES
from melisma.errors import MelismaError
from melisma.markers._features import Intervals, region_values
from melisma.markers._logistic import softmax
from melisma.markers._panel import Panel
from melisma.markers._prepare import shrunk
from melisma.methylome import parse_mark, select

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]

# A sample that sees fewer of the markers, or fewer reads of those it sees than this share of the
# training samples' median, is flagged.
_FEW_MARKERS, _FEW_READS = 0.8, 0.25
_MOST_MISSING = 0.5


class Scores(NamedTuple):
    """Probabilities of new samples.

    table : a row a sample; sample, call, p_<class>, markers (seen), coverage (mean reads of
        those, null for levels), flags
    missing : names of markers that no sample of the store has
    notes : what a reader must know
    """

    table: pl.DataFrame
    missing: tuple[str, ...]
    notes: tuple[str, ...]


class _Values(NamedTuple):
    """Counts (coverage None for levels: `methylated` then holds them) of the markers, (markers,
    samples), and which are there at all (markers,)."""

    methylated: Floats
    coverage: Floats | None
    seen: npt.NDArray[np.bool_]


def score(panel: Panel, methylome: xr.Dataset) -> Scores:
    """Which class each sample of a methylome is of, with calibrated probabilities.

    A marker that a sample has not seen has its training mean. Samples that see fewer than 80% of
    the markers, or less than a quarter of the training samples' reads, are flagged; so are those
    that the panel was learned from, whose probabilities say nothing about new ones.

    Raises
    ------
    MelismaError
        The methylome has counts where the panel has levels or the reverse, lacks the mark, is of
        another genome build or strand layout, or lacks over half of the markers.
    """
    chosen = _checked(panel, methylome)
    values = _region_values(panel, chosen) if panel.kind == "region" else _values(panel, chosen)
    there = np.asarray(values.seen.any(axis=1))
    missing = tuple(panel.markers[k].name for k in np.flatnonzero(~there))
    if len(missing) > _MOST_MISSING * len(panel.markers):
        what = {"region": "regions", "probe": "probes"}.get(panel.kind, "sites")
        raise MelismaError(
            f"{len(missing)} of the panel's {len(panel.markers)} {what} are not in the store "
            f"({', '.join(missing[:3])}): is it of another genome build or assay?"
        )
    probability = softmax(_logits(panel, values))
    return Scores(
        _table(panel, methylome, values, probability), missing, tuple(_notes(panel, methylome))
    )


def _logits(panel: Panel, values: _Values) -> Floats:
    """Calibrated, (samples, classes)."""
    prior = np.array([m.prior for m in panel.markers])
    mean = np.array([m.mean for m in panel.markers])
    scale = np.array([m.scale for m in panel.markers])
    weights = np.array([m.weights for m in panel.markers])
    if values.coverage is None:
        level = np.where(values.seen, values.methylated, prior[:, None]).T
    else:
        strength = np.array([m.strength for m in panel.markers])
        level = shrunk(
            cast(Any, values.methylated.T), cast(Any, values.coverage.T), prior, strength
        )
    logits = np.array(panel.intercept) + (level - mean) / scale @ weights
    return panel.slope * logits + np.array(panel.shift)


def _table(
    panel: Panel, methylome: xr.Dataset, values: _Values, probability: Floats
) -> pl.DataFrame:
    names = [str(name) for name in methylome["sample"].values]
    seen = values.seen.sum(axis=0)
    coverage: list[float | None] = [None] * len(names)
    if values.coverage is not None:
        coverage = [float(c) for c in values.coverage.sum(axis=0) / np.maximum(seen, 1)]
    training = set(panel.training["samples"])
    flags = []
    for k, name in enumerate(names):
        own = ["training sample"] if name in training else []
        if not seen[k]:
            own.append("no markers")
        elif seen[k] < _FEW_MARKERS * len(panel.markers):
            own.append("few markers")
        depth, usual = coverage[k], panel.training["coverage"]
        if depth is not None and usual and seen[k] and depth < _FEW_READS * usual:
            own.append("low coverage")
        flags.append(", ".join(own))
    # A sample without any marker has no probabilities, though the training means would give some.
    blind = pl.Series(seen == 0)
    columns: dict[str, Any] = {
        "sample": names,
        "call": [panel.classes[k] for k in probability.argmax(axis=1)],
    }
    columns |= {f"p_{name}": probability[:, k] for k, name in enumerate(panel.classes)}
    table = pl.DataFrame(columns).with_columns(
        pl.when(blind).then(None).otherwise(pl.col(name)).alias(name) for name in [*columns][1:]
    )
    return table.with_columns(
        pl.Series("markers", seen.astype(np.int64)),
        pl.Series("coverage", coverage, dtype=pl.Float64),
        pl.Series("flags", flags, dtype=pl.String),
    )


def _checked(panel: Panel, methylome: xr.Dataset) -> xr.Dataset:
    """The panel's mark of a methylome that the panel can be applied to."""
    values = "levels" if "beta" in methylome else "counts"
    if values != panel.values:
        raise MelismaError(
            f"The panel was learned from {panel.values}, and the store holds {values}: learn one "
            f"from {values} to score it."
        )
    mark = panel.markers[0].mark
    if mark not in methylome.attrs["marks"]:
        has = ", ".join(parse_mark(code).name for code in methylome.attrs["marks"])
        raise MelismaError(f"The panel is of {parse_mark(mark).name}, and the store holds {has}.")
    if panel.kind == "probe" and "probe" not in methylome:
        raise MelismaError(
            "The panel's markers are array probes, and the store has none: score an array, or "
            "learn a panel from such stores."
        )
    unplaced = panel.kind == "probe" or bool(methylome.attrs["contigs"])
    if not unplaced:
        raise MelismaError(
            "The probes of this store have no positions, and the panel's markers are places: "
            "ingest it again with --manifest."
        )
    if panel.kind == "site" and {panel.strands, methylome.attrs["strands"]} == {
        "merged", "separate",
    }:  # fmt: skip
        remedy = "with" if panel.strands == "merged" else "without"
        raise MelismaError(
            f"The panel's strands are {panel.strands}, and the store's are "
            f"{methylome.attrs['strands']}: ingest it again {remedy} --merge-strands."
        )
    if panel.kind != "probe":
        _check_genome(panel, methylome)
    return select(methylome, mark=mark)


def _build(attrs: dict[str, Any]) -> str | None:
    build = (attrs.get("build") or {}).get("name") or (attrs.get("manifest") or {}).get("build")
    return None if build is None else str(build)


def _one_name(build: str) -> str:
    """UCSC's name of a build: 37, GRCh37 and hg19 are one."""
    for assembly in ASSEMBLIES:
        others = {name.lower() for name in (assembly.name, *assembly.other_names)}
        if build.lower() in others or f"grch{build}".lower() in others:
            return assembly.name
    return build


def _check_genome(panel: Panel, methylome: xr.Dataset) -> None:
    own, other = panel.genome["build"], _build(dict(methylome.attrs))
    if own is not None and other is not None and _one_name(str(own)) != _one_name(other):
        raise MelismaError(
            f"The panel is of genome build {own}, and the store is of {other}: bring the calls to "
            f"{own}."
        )
    lengths = (methylome.attrs.get("genome") or {}).get("lengths", {})
    known = panel.genome["lengths"]
    names = _contigs.match(list(known), list(lengths))
    for contig in sorted({m.contig or "" for m in panel.markers}):
        there = lengths.get(names.get(contig, contig))
        if contig in known and there is not None and there != known[contig]:
            raise MelismaError(
                f"{contig} has {known[contig]:,} bases in the panel's genome and {there:,} in the "
                "store's: they are of different builds."
            )


def _values(panel: Panel, methylome: xr.Dataset) -> _Values:
    """Counts or levels of sites or probes, of each marker where the store has it."""
    rows = _probe_rows(panel, methylome) if panel.kind == "probe" else _site_rows(panel, methylome)
    present = np.flatnonzero(rows >= 0)
    order = present[np.argsort(rows[present])]
    shape = (len(panel.markers), methylome.sizes["sample"])

    def read(name: str, empty: float) -> Floats:
        held = np.full(shape, empty)
        if len(order):
            held[order] = methylome[name].isel(site=rows[order]).values
        return held

    if panel.values == "levels":
        beta = read("beta", np.nan)
        return _Values(beta, None, ~np.isnan(beta))
    coverage = read("coverage", 0.0)
    return _Values(read("methylated", 0.0), coverage, coverage > 0)


def _probe_rows(panel: Panel, methylome: xr.Dataset) -> Ints:
    at = {str(probe): k for k, probe in enumerate(methylome["probe"].values)}
    return np.array([at.get(marker.probe or "", -1) for marker in panel.markers], dtype=np.int64)


def _site_rows(panel: Panel, methylome: xr.Dataset) -> Ints:
    contigs = methylome.attrs["contigs"]
    offsets = methylome.attrs["contig_offsets"]
    names = _contigs.match(sorted({m.contig for m in panel.markers if m.contig}), contigs)
    rows = np.full(len(panel.markers), -1, dtype=np.int64)
    held: dict[str, Any] = {}
    for k, marker in enumerate(panel.markers):
        contig = names.get(marker.contig or "", marker.contig or "")
        if contig not in contigs:
            continue
        low, high = offsets[contigs.index(contig) : contigs.index(contig) + 2]
        if contig not in held:
            held[contig] = methylome["position"][low:high].values
        first, last = np.searchsorted(held[contig], [marker.start, marker.start + 1])  # pyright: ignore
        for row in range(low + int(first), low + int(last)):
            strand = int(methylome["strand"][row].values)
            # A strand that is not known is the one of the base at that position.
            if strand == marker.strand or 0 in (strand, marker.strand):
                rows[k] = row
                break
    return rows


def _region_values(panel: Panel, methylome: xr.Dataset) -> _Values:
    contigs, offsets = methylome.attrs["contigs"], methylome.attrs["contig_offsets"]
    names = _contigs.match(sorted({m.contig for m in panel.markers if m.contig}), contigs)
    bounds = np.zeros((2, len(panel.markers)), dtype=np.int64)
    for k, marker in enumerate(panel.markers):
        contig = names.get(marker.contig or "", marker.contig)
        if contig in contigs:
            low, high = offsets[contigs.index(contig) : contigs.index(contig) + 2]
            position = methylome["position"][low:high].values
            bounds[:, k] = low + np.searchsorted(position, [marker.start, marker.end])  # pyright: ignore
    there = np.flatnonzero(bounds[1] > bounds[0])
    columns = np.arange(methylome.sizes["sample"])
    part = region_values(
        methylome, Intervals(pl.DataFrame(), bounds[0, there], bounds[1, there]), columns
    )
    shape = (len(panel.markers), len(columns))

    def spread(values: Any, empty: float) -> Floats:
        held = np.full(shape, empty)
        held[there] = values
        return held

    if panel.values == "levels":
        beta = spread(part["beta"], np.nan)
        return _Values(beta, None, ~np.isnan(beta))
    coverage = spread(part["coverage"], 0.0)
    return _Values(spread(part["methylated"], 0.0), coverage, coverage > 0)


def _notes(panel: Panel, methylome: xr.Dataset) -> list[str]:
    if panel.kind == "probe":
        return []
    told = panel.genome["build"] or panel.genome["lengths"]
    other = _build(dict(methylome.attrs)) or methylome.attrs.get("genome")
    if told and other:
        return []
    who = "the store names none" if told else "the panel names none"
    who = who if told or other else "neither the panel nor the store names one"
    return [f"Genome builds were not compared: {who}."]
