"""What a finished run folder holds, read once: the record, the tables, the store."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import xarray as xr

from melisma.errors import MelismaError
from melisma.methylome import open_methylome, sample_sheet
from melisma.report._style import GROUP_TOKENS, ORDERED_TOKENS, SYMBOLS
from melisma.trace import Trace

# A numeric column with more values than this is shown in thirds.
_FEW_VALUES = 5


class Groups(NamedTuple):
    """How a sample-sheet column divides the samples: a label each, and each label's look."""

    column: str
    labels: list[str]
    order: list[str]
    colours: dict[str, str]
    symbols: dict[str, str]


@dataclass(frozen=True)
class Contrast:
    """One question: its record in run.json and its tables (None where refused or absent)."""

    key: str
    design: str
    formula: str
    block: str | None
    record: dict[str, Any]
    sites: pl.DataFrame | None
    regions: pl.DataFrame | None
    null: pl.DataFrame | None

    @property
    def levels(self) -> list[str] | None:
        """The two levels compared, first minus second; None for a slope or a joint test."""
        return self.record.get("levels")

    @property
    def among(self) -> list[str]:
        """All levels of a factor that are compared at once; empty otherwise."""
        return [str(level) for level in self.record.get("among") or []]

    @property
    def joint(self) -> bool:
        """Whether several coefficients are asked about at once, which have no one direction."""
        return self.record.get("coefficients", 1) > 1

    @property
    def slope(self) -> bool:
        """Whether differences are for a unit of a covariate."""
        return not self.levels and not self.joint

    @property
    def replicated(self) -> bool:
        """Whether there are replicates; without, regions are leads and sites are not tested."""
        return not self.record.get("no_replicates")

    @property
    def null_noun(self) -> str:
        """What one data set without an effect is, to which regions are compared."""
        null = self.record.get("regions", {}).get("null")
        return {"rotations": "rotation", "exchanges of reads": "exchange of reads"}.get(
            str(null), "relabelling"
        )

    def table(self, kind: str) -> pl.DataFrame | None:
        """The table of "sites" or "regions"."""
        return self.sites if kind == "sites" else self.regions

    def cut(self, kind: str) -> float:
        """The false discovery rate below which a site or a region is called."""
        return float(self.record.get(kind, {}).get("q", 0.05))

    def called(self, kind: str) -> int:
        """How many rows of the table of "sites" or "regions" are called."""
        table = self.table(kind)
        if table is None or table.is_empty():
            return 0
        return int((table["q"].fill_nan(None) < self.cut(kind)).sum() or 0)


@dataclass(frozen=True)
class Study:
    """A finished run: run.json, the sample sheet, the contrasts, and the store (lazy)."""

    folder: Path
    run: dict[str, Any]
    sheet: pl.DataFrame
    contrasts: list[Contrast]
    methylome: xr.Dataset

    def table(self, name: str) -> pl.DataFrame | None:
        """A table of the run by its file's stem, None where the run did not write it."""
        path = self.folder / "tables" / f"{name}.parquet"
        return pl.read_parquet(path) if path.is_file() else None

    @property
    def traces(self) -> dict[str, Trace]:
        """The run's traces by their headings."""
        kept = self.run.get("traces") or []
        return {str(one["title"]): Trace.load(self.folder / one["file"]) for one in kept}

    @property
    def levels_only(self) -> bool:
        """Whether the store holds levels without counts."""
        return "beta" in self.methylome

    @property
    def samples(self) -> list[str]:
        """Sample names, in the sheet's order."""
        return self.sheet["sample"].to_list()

    @property
    def people(self) -> dict[str, str]:
        """Which person each sample comes from, where the identity check could tell."""
        identity = self.run.get("qc", {}).get("identity", {})
        return dict(identity.get("people") or {}) if identity.get("resolved") else {}


def read_study(folder: Path) -> Study:
    """Read a finished run folder.

    Raises
    ------
    MelismaError
        The folder holds no run.json or no store.
    """
    record = folder / "run.json"
    if not record.is_file():
        raise MelismaError(
            f"{folder} has no run.json, so it is not a finished run: make one with `melisma run`."
        )
    run = json.loads(record.read_text(encoding="utf-8"))
    methylome = open_methylome(folder / "study.zarr")
    sheet = pl.DataFrame(sample_sheet(methylome), strict=False)
    contrasts = [
        _read_contrast(folder / "tables", design, contrast)
        for design in run.get("designs", [])
        for contrast in design.get("contrasts", [])
    ]
    return Study(folder, run, sheet, contrasts, methylome)


def _read_contrast(tables: Path, design: dict[str, Any], contrast: dict[str, Any]) -> Contrast:
    key = f"{design['name']}.{contrast['slug']}"

    def table(kind: str) -> pl.DataFrame | None:
        path = tables / f"{key}.{kind}.parquet"
        return pl.read_parquet(path) if path.is_file() else None

    sites = None if "refused" in contrast.get("sites", {}) else table("sites")
    return Contrast(
        key=key,
        design=design["name"],
        formula=design["formula"],
        block=design.get("block"),
        record=contrast,
        sites=_annotated(sites, table("called")),
        regions=None if "refused" in contrast.get("regions", {}) else table("regions"),
        null=table("null"),
    )


def _annotated(sites: pl.DataFrame | None, called: pl.DataFrame | None) -> pl.DataFrame | None:
    """The sites with the genes and islands of the called ones."""
    if sites is None or called is None:
        return sites
    keys = ["contig", "position", "strand", "mark"]
    beside = [name for name in called.columns if name not in sites.columns]
    return sites.join(called.select(*keys, *beside), keys, "left", maintain_order="left")


def covariates(study: Study) -> list[str]:
    """Sample-sheet columns worth colouring by: the contrasts' first, then others that vary."""
    asked = [c.record.get("column") for c in study.contrasts]
    names = [name for name in dict.fromkeys(asked) if name in study.sheet.columns]
    dull = {"sample", "path", "format"}
    n = study.sheet.height
    for name in study.sheet.columns:
        column = study.sheet[name]
        if name in dull or name in names or column.n_unique() < 2:
            continue
        if column.dtype.is_numeric() or column.n_unique() < max(n, 3):
            names.append(name)
    return names


def groups(study: Study, column: str, first: Sequence[str] | None = None) -> Groups:
    """Divide the samples by a sample-sheet column.

    Words keep their levels, those of `first` in front; numbers of many values are cut into
    thirds. A column keeps its colours through the whole report, and two columns differ.
    """
    if column == "person":
        values = pl.Series("person", [study.people.get(s, "unknown") for s in study.samples])
    else:
        values = study.sheet[column]
    if values.dtype.is_numeric() and values.n_unique() > _FEW_VALUES:
        return _thirds(values)
    labels = ["" if v is None else str(v) for v in values.to_list()]
    asked = first or _asked_levels(study, column)
    order = list(dict.fromkeys([*(a for a in asked if a in labels), *sorted(set(labels))]))
    known = covariates(study)
    turn = 2 * known.index(column) if column in known else 0
    # Two groups need colour alone; with more, shape helps who cannot tell the hues apart.
    shapes = SYMBOLS if len(order) > 2 else SYMBOLS[:1]
    looks = [
        (GROUP_TOKENS[(i + turn) % len(GROUP_TOKENS)], shapes[i % len(shapes)])
        for i in range(len(order))
    ]
    return Groups(
        column,
        labels,
        order,
        {label: look[0] for label, look in zip(order, looks, strict=True)},
        {label: look[1] for label, look in zip(order, looks, strict=True)},
    )


def _asked_levels(study: Study, column: str) -> list[str]:
    for contrast in study.contrasts:
        if contrast.record.get("column") == column and (contrast.levels or contrast.among):
            return [str(level) for level in contrast.levels or contrast.among]
    return []


def _thirds(values: pl.Series) -> Groups:
    numbers = values.cast(pl.Float64).to_numpy()
    cuts = np.nanquantile(numbers, [0, 1 / 3, 2 / 3, 1])
    place = np.clip(np.searchsorted(cuts[1:3], numbers, side="right"), 0, 2)
    names = [f"{a:.3g} to {b:.3g}" for a, b in pairwise(cuts)]
    labels = ["missing" if np.isnan(v) else names[k] for v, k in zip(numbers, place, strict=True)]
    order = [name for name in dict.fromkeys(names) if name in labels]
    colours = dict(zip(order, ORDERED_TOKENS, strict=False)) | {"missing": "@faint"}
    if "missing" in labels:
        order.append("missing")
    return Groups(values.name, labels, order, colours, dict.fromkeys(order, "circle"))


def direction_tokens(contrast: Contrast, groups: Groups | None) -> tuple[str, str]:
    """The colours of a rise and a fall: those of the group in which the mark is higher."""
    if contrast.joint:
        return "@ink", "@ink"
    if contrast.levels and groups:
        a, b = (str(level) for level in contrast.levels)
        return groups.colours.get(a, "@c0"), groups.colours.get(b, "@c1")
    return "@c0", "@c1"
