"""The report's checks: what it says and draws is what the quality tables hold."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from report_run import SAMPLES, make_run

from melisma.methylome import CONTEXTS, dataset
from melisma.quality import Quality, check_quality
from melisma.report import write_report
from melisma.report._figures_checks import saturation


def simulated() -> Quality:
    """Six simulated samples, the last one badly converted and of another sex than the sheet's."""
    rng = np.random.default_rng(0)
    sizes = {"chr1": 1500, "chrX": 300, "chrY": 80, "lambda": 60}
    male = np.array([0, 1, 0, 1, 0, 1])
    copies = {
        "chr1": 1 + 0 * male,
        "chrX": 1 - 0.5 * male,
        "chrY": 0.5 * male,
        "lambda": 1 + 0 * male,
    }
    depth = [rng.poisson(20 * copies[c], (n, 6)) for c, n in sizes.items()]
    level = [np.full((n, 6), 0.005 if c == "lambda" else 0.7) for c, n in sizes.items()]
    level[3][:, 5] = 0.05
    coverage = np.concatenate(depth)
    made = dataset(
        {
            "contig": np.repeat(np.arange(4), list(sizes.values())),
            "position": np.concatenate([np.arange(n) * 9 for n in sizes.values()]),
            "context": np.full(len(coverage), CONTEXTS.index("CG")),
        },
        {"methylated": rng.binomial(coverage, np.concatenate(level)), "coverage": coverage},
        {"sample": SAMPLES, "sex": ["f", "m", "f", "m", "f", "f"], "run": list("aabbcc")},
        contigs=list(sizes),
    )
    return check_quality(made)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any], Quality]:
    folder: Path = make_run(tmp_path_factory.mktemp("checks") / "run")
    quality = simulated()
    for name, table in quality.tables().items():
        if name.startswith("qc_"):
            table.write_parquet(folder / "tables" / f"{name}.parquet")
    record = json.loads((folder / "run.json").read_text())
    record["qc"] |= {k: v for k, v in quality.summary().items() if k != "identity"}
    (folder / "run.json").write_text(json.dumps(record))
    text = write_report(folder).read_text(encoding="utf-8")
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return text, json.loads(found[1])["figures"], quality


def test_checks_are_counted_and_the_failed_ones_listed(page: Any) -> None:
    text, _, quality = page
    assert "2 fail." in text
    assert len(quality.failed) == 2
    assert "s&lt;6&gt; is female in the sheet, but looks male: chrX is covered 0." in text
    reads = quality.conversion["reads"][5]
    assert f"of {reads:,} cytosine reads (lambda) were not converted" in text
    assert "s<6>" not in text


def test_every_sample_is_drawn_with_its_numbers(page: Any) -> None:
    _, figures, quality = page
    failure = figures["conversion"]["data"][0]
    assert sorted(failure["x"]) == failure["x"]
    assert failure["x"][-1] == pytest.approx(100 * quality.conversion["failure"][5], abs=1e-4)
    assert failure["marker"]["color"] == ["@c1"] * 5 + ["@alert"]
    drawn = [x for trace in figures["sex"]["data"] for x in trace["x"]]
    assert sorted(drawn) == pytest.approx(sorted(quality.sex.table["x_ratio"]), abs=1e-4)
    lines = figures["saturation"]["data"]
    assert len(lines) == 6 * 3 * 2
    assert {line["line"]["dash"] for line in lines} == {"solid", "dot"}
    heat = figures["covariates"]["data"][0]
    assert heat["y"] == ["sex", "run"]
    assert heat["x"][0] == "all"


def test_the_contrasts_confounder_comes_first_and_the_others_are_folded(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    record = json.loads((folder / "run.json").read_text())
    asked = record["designs"][0]["contrasts"][0]["column"]
    said = ["run and site go together (Cramér's V 0.90).", "A<b goes with the group."]
    pl.DataFrame(
        {
            "column_a": ["run", asked, "run"],
            "column_b": ["site", "batch", "age"],
            "measure": ["cramers_v", "eta2", "eta2"],
            "value": [0.9, 0.72, 0.1],
            "relation": ["associated", "associated", ""],
            "sentence": [*said, ""],
        }
    ).write_parquet(folder / "tables" / "qc_confounding.parquet")
    record["qc"]["confounded"] = said
    (folder / "run.json").write_text(json.dumps(record))
    text = write_report(folder).read_text(encoding="utf-8")
    own, folded = text.index("A&lt;b goes with the group."), text.index("run and site go together")
    assert own < text.index("1 pair of other columns goes together") < folded
    assert text.count("run and site go together") == 1
    assert f'<p class="calm">{said[0]}' not in text
    assert "η² 0.72" in text
    assert "η² 0.10" not in text


def test_curves_that_cannot_be_extrapolated_have_no_room_for_it() -> None:
    table = pl.DataFrame(
        {
            "sample": ["a"] * 3 + ["b"] * 3,
            "fraction": [0.5, 1.0, 2.0] * 2,
            "sites_1": [None, 90.0, None] * 2,
            "sites_5": [None, 80.0, None] * 2,
            "sites_10": [30.0, 60.0, None] * 2,
        }
    )
    drawn = saturation(table)
    assert drawn.layout["xaxis"]["range"] == [0, 1.0]
    assert [note["text"] for note in drawn.layout["annotations"]] == ["sites", "10 reads"]
    assert {trace["line"]["dash"] for trace in drawn.data} == {"solid"}


def test_a_run_without_the_tables_says_nothing_of_them(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    text = write_report(folder).read_text(encoding="utf-8")
    assert "Failed conversion" not in text
    assert 'id="checks"' not in text
