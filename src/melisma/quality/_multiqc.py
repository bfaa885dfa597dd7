"""The quality numbers as MultiQC reads them: custom content, one JSON file a table or plot.

MultiQC takes every file named `*_mqc.json` whose `plot_type` it knows; `generalstats` adds columns
to its first table, `linegraph` and `table` make sections under one parent.
"""

from typing import Any

import polars as pl

_PARENT = {
    "parent_id": "melisma",
    "parent_name": "Melisma",
    "parent_description": "Quality of the methylation calls, by <code>melisma qc</code>.",
}
# Key, column, title, description, scale, most, suffix, format, factor, shown from the start.
_COLUMNS = (
    ("sites", "sites_seen", "Sites", "Sites seen", "Greens", None, "", "{:,.0f}", 1, True),
    ("coverage", "coverage_mean", "Coverage", "Mean reads of the sites seen", "Blues", None, "×",
     "{:,.1f}", 1, True),
    ("level", "level", "Level", "Methylated share of all reads", "Purples", 100, "%", "{:,.1f}",
     100, True),
    ("failure", "failure", "Unconverted", "Unmethylated cytosines left unconverted", "Reds", None,
     "%", "{:,.2f}", 100, True),
    ("control", "control_level", "Methylated control", "Level of the methylated control", "Greens",
     100, "%", "{:,.1f}", 100, True),
    ("strand", "strand_difference", "Strands", "Level on + less level on -", "RdBu", None, "pp",
     "{:,.2f}", 100, False),
    ("x_ratio", "x_ratio", "chrX", "Median depth of chrX against autosomes", "Oranges", None, "",
     "{:,.2f}", 1, False),
    ("y_ratio", "y_ratio", "chrY", "Median depth of chrY against autosomes", "Oranges", None, "",
     "{:,.2f}", 1, False),
)  # fmt: skip


def multiqc_files(
    samples: pl.DataFrame,
    conversion: pl.DataFrame,
    bias: pl.DataFrame,
    sex: pl.DataFrame,
    saturation: pl.DataFrame | None,
    checks: pl.DataFrame,
) -> dict[str, dict[str, Any]]:
    """The files' contents by name: general statistics, checks, and saturation where it is told."""
    joined = samples
    for other in (conversion, bias, sex):
        joined = joined.join(other, on="sample", how="left", suffix="_other")
    files = {
        "melisma_qc_mqc.json": _general(joined, checks),
        "melisma_checks_mqc.json": _checks(checks, samples["sample"].to_list()),
    }
    if saturation is not None:
        files["melisma_saturation_mqc.json"] = _saturation(saturation)
    return files


def _general(table: pl.DataFrame, checks: pl.DataFrame) -> dict[str, Any]:
    headers, data = {}, {name: {} for name in table["sample"]}
    for key, column, title, words, scale, most, suffix, style, factor, shown in _COLUMNS:
        known = table.filter(pl.col(column).is_not_null())
        if known.is_empty():
            continue
        headers[f"melisma_{key}"] = (
            {
                "title": title,
                "description": words,
                "namespace": "melisma",
                "scale": scale,
                "format": style,
                "hidden": not shown,
            }
            | ({"suffix": suffix} if suffix else {})
            | ({"min": 0, "max": most} if most else {})
        )
        for sample, value in known.select("sample", column).rows():
            data[sample][f"melisma_{key}"] = round(float(value) * factor, 6)
    sexes = table.filter(pl.col("sex").is_not_null()).select("sample", "sex").rows()
    if sexes:
        headers["melisma_sex"] = {
            "title": "Sex",
            "description": "By the calls on chrX and chrY",
            "namespace": "melisma",
            "scale": False,
        }
        for sample, sex in sexes:
            data[sample]["melisma_sex"] = sex
    headers["melisma_failed"] = {
        "title": "Failed",
        "description": "Checks that the sample fails",
        "namespace": "melisma",
        "scale": "Reds",
        "format": "{:,.0f}",
    }
    failing = checks.filter(pl.col("status") == "fail")["sample"].drop_nulls().to_list()
    named = [name for several in failing for name in several.split(", ")]
    for sample in data:
        data[sample]["melisma_failed"] = named.count(sample)
    return {
        "id": "melisma_qc",
        "plot_type": "generalstats",
        "pconfig": [{key: header} for key, header in headers.items()],
        "data": data,
    }


def _checks(checks: pl.DataFrame, samples: list[str]) -> dict[str, Any]:
    """Each sample's status in each check, as a table."""
    known = checks.filter(pl.col("sample").is_in(samples))
    names = list(dict.fromkeys(known["check"].to_list()))
    data: dict[str, dict[str, str]] = {name: {} for name in samples}
    for check, sample, status in known.select("check", "sample", "status").rows():
        data[sample][check] = status
    conditions = {
        "cond_formatting_rules": {
            status: [{"s_eq": status}] for status in ("pass", "warn", "fail")
        },
        "cond_formatting_colours": [
            {"pass": "#5cb85c"}, {"warn": "#f0ad4e"}, {"fail": "#d9534f"},
        ],
    }  # fmt: skip
    headers = {
        name: {"title": name.replace("_", " "), "scale": False, "hidden": False} | conditions
        for name in names
    }
    return {
        "id": "melisma_checks",
        **_PARENT,
        "section_name": "Checks",
        "description": "Each sample's checks against the limits of <code>melisma qc</code>.",
        "plot_type": "table",
        "pconfig": {
            "id": "melisma_checks_table",
            "title": "Melisma: checks",
            "namespace": "melisma",
            "no_violin": True,
        },
        "headers": headers,
        "data": data,
    }


def _saturation(table: pl.DataFrame) -> dict[str, Any]:
    words = (("sites_1", "1 read or more"), ("sites_5", "5 or more"), ("sites_10", "10 or more"))
    # Where calls were filtered by depth, all that is known of few reads is the sites there are.
    moved = table.filter(pl.col("fraction") != 1)
    shown = [(column, name) for column, name in words if moved[column].count()] or words[-1:]
    further = moved.filter(pl.col("fraction") > 1).select(column for column, _ in shown)
    above = "extrapolated above" if sum(further.count().row(0)) else "more cannot be told"
    lines = []
    for column, _ in shown:
        known = table.filter(pl.col(column).is_not_null())
        lines.append(
            {
                str(sample): [
                    [float(f), float(n)] for f, n in part.select("fraction", column).rows()
                ]
                for (sample,), part in known.group_by("sample", maintain_order=True)
            }
        )
    return {
        "id": "melisma_saturation",
        **_PARENT,
        "section_name": "Saturation",
        "description": f"Sites seen with a share of the reads: thinned up to 1, {above}.",
        "plot_type": "linegraph",
        "pconfig": {
            "id": "melisma_saturation_plot",
            "title": "Melisma: saturation",
            "xlab": "Reads, 1 = sequenced",
            "ylab": "Sites",
            "data_labels": [{"name": name, "ylab": "Sites"} for _, name in shown],
        },
        "data": lines,
    }
