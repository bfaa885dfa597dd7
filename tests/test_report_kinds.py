"""Runs and reports of every kind of test: levels, several coefficients, rotations, given regions,
regions without replicates, genes. The studies are simulated."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from report_run import Reading

from melisma.differential import simulate
from melisma.errors import MelismaError
from melisma.report._answers import finding
from melisma.report._study import read_study as read_run
from melisma.report._words import direction
from melisma.study import run_study


def _figures(folder: Path) -> dict[str, Any]:
    return _data(folder)["figures"]


def _data(folder: Path) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', _html(folder), re.DOTALL)
    assert found
    return json.loads(found[1])


def _html(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def _text(folder: Path) -> str:
    return Reading(_html(folder)).text


def _record(folder: Path, k: int = 0) -> dict[str, Any]:
    designs = json.loads((folder / "run.json").read_text())["designs"]
    return [contrast for design in designs for contrast in design["contrasts"]][k]


GROUPS = ["a"] * 5 + ["b"] * 5 + ["c_x"] * 5


def _levels_study(folder: Path, designs: str, *, placed: bool) -> Path:
    """60 probes in 15 samples: 20 are higher in b and, less, in c_x; 20 more rise with age."""
    rng = np.random.default_rng(5)
    beta = rng.uniform(0.2, 0.5, (60, 1)) + rng.normal(0, 0.02, (60, 15))
    beta[:20] += np.array([0.0] * 5 + [0.3] * 5 + [0.1] * 5)
    beta[20:40] += 0.006 * (np.arange(15) * 7 % 15)
    names = [f"s{k}" for k in range(15)]
    rows = ["\t".join([*(["chr", "pos"] if placed else ["probe"]), *names])]
    for k, row in enumerate(beta):
        place = [f"chr{1 + k // 40}", str(1000 + 50 * k)] if placed else [f"cg{k:08d}"]
        rows.append("\t".join([*place, *(f"{v:.4f}" for v in row)]))
    (folder / "betas.tsv").write_text("\n".join(rows) + "\n")
    sheet = ["sample\tg\tage\tdose"]
    for k, name in enumerate(names):
        dose = "" if k in (2, 7) else str(k * 7 % 15)
        sheet.append(f"{name}\t{GROUPS[k]}\t{k * 7 % 15}\t{dose}")
    (folder / "samples.tsv").write_text("\n".join(sheet) + "\n")
    study = '[input]\nsamples = "samples.tsv"\nmatrix = "betas.tsv"\n'
    (folder / "study.toml").write_text(study + designs)
    return folder / "study.toml"


@pytest.fixture(scope="module")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probes")
    designs = (
        '[[design]]\nname = "g"\nformula = "~ g + age"\n'
        'contrasts = ["g", "pairwise(g)", "g[b] - g[a]", "age"]\n'
        '[[design]]\nname = "inter"\nformula = "~ g * age"\ncontrasts = ["g:age"]\n'
    )
    run_study(_levels_study(folder, designs, placed=False), folder / "out")
    return folder / "out"


def test_probes_without_places_have_names_and_no_genome(probes: Path) -> None:
    figures, text = _figures(probes), _text(probes)
    assert "g.g_b_vs_a.volcano" in figures
    assert [key for key in figures if key.endswith("manhattan")] == []
    assert "The probes have no places, so they are not drawn along the genome." in text
    hover = figures["g.g_b_vs_a.volcano"]["data"][-1]["text"][0]
    assert re.match(r"cg000000[01]\d<br>\+\d\d points<br>p ", hover)
    assert not list((probes / "tables").glob("*.bed"))
    tables = {table["key"]: table for table in _data(probes)["tables"]}
    assert tables["g.g_b_vs_a.sites"]["columns"][:4] == ["probe", "strand", "context", "delta_beta"]
    assert "None" not in text


def test_levels_are_told_as_levels(probes: Path) -> None:
    text, record = _text(probes), _record(probes)
    assert record["sites"]["rho"] is None
    assert "linear model of M-values" in text
    assert "quasi-binomial" not in text
    assert "median coverage" not in text
    assert "of reads" not in text
    assert text.count("Levels without counts were tested site by site; regions need counts.") == 1
    assert "Regions were not tested. This needs read counts" in text


def test_each_contrast_is_tested_once(probes: Path) -> None:
    designs = json.loads((probes / "run.json").read_text())["designs"]
    slugs = [contrast["slug"] for contrast in designs[0]["contrasts"]]
    assert slugs == ["g", "g_b_vs_a", "g_c_x_vs_a", "g_c_x_vs_b", "age"]


def test_a_factor_has_a_largest_difference_and_no_direction(probes: Path) -> None:
    record, figures, text = _record(probes), _figures(probes), _text(probes)
    table = pl.read_parquet(probes / "tables" / "g.g.sites.parquet")
    called = int((table["q"] < 0.05).sum())
    assert record["coefficients"] == 2
    assert record["among"] == ["a", "b", "c_x"]
    assert (record["sites"]["higher"], record["sites"]["median_delta"]) == (None, None)
    assert f"{called} sites of 60 pass q < .05." in text
    assert re.search(r"Between the 3 levels of g, \d+ sites pass q < \.05; at the strongest site, "
                     r"cg000000[01]\d, b is 3\d points higher than a\.", text)  # fmt: skip
    assert "F and has no direction" in text
    volcano = figures["g.g.volcano"]
    assert volcano["layout"]["xaxis"]["title"]["text"].startswith("largest difference between two")
    assert {note["text"] for note in volcano["layout"]["annotations"]} & {"← falls", "rises →"} == (
        set()
    )
    assert figures["g.g.site1"]["layout"]["xaxis"]["range"] == [-0.45, 2.45]
    assert len(record["calibration"]["relabelled_site_calls"]) == 20


def test_the_samples_of_a_probe_are_drawn_at_their_levels(probes: Path) -> None:
    study = read_run(probes)
    asked = next(c for c in study.contrasts if c.key == "g.g_b_vs_a")
    assert asked.sites is not None
    probe = asked.sites.sort("p")["probe"][0]
    at = list(study.methylome["probe"].values).index(probe)
    beta = study.methylome["beta"].values[at, :10]
    drawn = _figures(probes)["g.g_b_vs_a.site1"]["data"][-1]["y"]
    assert drawn == [round(100 * float(v), 1) for v in beta]


def test_a_slope_is_told_per_unit_and_drawn_along_its_covariate(probes: Path) -> None:
    text, figure = _text(probes), _figures(probes)["g.age.site1"]
    asked = next(c for c in read_run(probes).contrasts if c.key == "g.age")
    assert re.fullmatch(
        r"With age, \*\*\d+ sites\*\* pass q < \.05; at the strongest site, cg000000[23]\d, "
        r"0\.\d\d points higher per unit of age\.",
        finding(asked),
    )
    assert re.search(r"0\.\d\d points higher per unit of age", text)
    assert re.search(r"\d+ sites of 60 pass q < \.05, all rising with age\.", text)
    assert figure["layout"]["xaxis"]["title"]["text"] == "age"
    assert sorted(figure["data"][-1]["x"]) == list(range(15))


def test_a_term_of_several_coefficients_has_no_size(probes: Path) -> None:
    text, figures = _text(probes), _figures(probes)
    drawn = [key for key in figures if key.startswith("inter.")]
    assert drawn == ["inter.g_age.qq", "inter.g_age.site.relabelled"]
    assert "Several coefficients of probes without places are not drawn; see the table." in text
    assert "g × age: 2 coefficients" in text
    asked = read_run(probes).contrasts[-1]
    assert finding(asked).startswith("By the interaction g × age, **")


def test_levels_with_places_have_both_plots(tmp_path: Path) -> None:
    designs = '[design]\nformula = "~ g"\ncontrasts = ["g[b] - g[a]"]\n'
    run_study(_levels_study(tmp_path, designs, placed=True), tmp_path / "out")
    figures = _figures(tmp_path / "out")
    assert {"design.g_b_vs_a.volcano", "design.g_b_vs_a.manhattan"} <= set(figures)
    hover = figures["design.g_b_vs_a.manhattan"]["data"][-1]["text"][0]
    assert re.match(r"chr1:\d", hover)
    assert "The probes have no places" not in _text(tmp_path / "out")


def test_samples_without_a_value_are_left_out_only_if_asked(tmp_path: Path) -> None:
    designs = '[design]\nformula = "~ dose"\ncontrasts = ["dose"]\n'
    study = _levels_study(tmp_path, designs, placed=False)
    with pytest.raises(MelismaError, match="'dose' has no value for s2, s7"):
        run_study(study, tmp_path / "out")
    study.write_text(study.read_text() + "drop_missing = true\n")
    run_study(study, tmp_path / "out")
    assert _record(tmp_path / "out")["n_units"] == 13
    assert "2 samples without a value are left out: s2, s7." in _text(tmp_path / "out")
    design = json.loads((tmp_path / "out" / "run.json").read_text())["designs"][0]
    assert design["left_out"] == ["s2", "s7"]


GENES = 'chr22\thand\texon\t{}\t{}\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; gene_name "ABC";\n'


def _counts_study(folder: Path, samples: int, more: str) -> Path:
    """3,000 simulated sites, the second half of the samples other in planted regions."""
    rng = np.random.default_rng(7)
    sheet = {
        "sample": [f"s{i}" for i in range(samples)],
        "g": ["a"] * (samples // 2) + ["b"] * (samples // 2),
    }
    made = simulate(
        np.cumsum(rng.integers(2, 90, 3000)),
        rng.beta(2, 1, 3000),
        np.full(3000, 20.0),
        sheet,
        seed=7,
        exposure=np.array([0.0] * (samples // 2) + [1.0] * (samples // 2)),
        regions=12,
        delta=0.6,
    ).methylome
    lines = ["sample\tpath\tg"]
    for k, sample in enumerate(sheet["sample"]):
        m, n = (made[name].values[:, k].astype(int) for name in ("methylated", "coverage"))
        rows = [
            f"chr22\t{p + 1}\t{p + 1}\t{100 * a / b:.6f}\t{a}\t{b - a}\n"
            for p, a, b in zip(made["position"].values, m, n, strict=True)
            if b
        ]
        (folder / f"{sample}.cov").write_text("".join(rows))
        lines.append(f"{sample}\t{sample}.cov\t{sheet['g'][k]}")
    (folder / "samples.tsv").write_text("\n".join(lines) + "\n")
    (folder / "genes.gtf").write_text(GENES.format(1, 70000))
    (folder / "islands.bed").write_text("chr22\t0\t30000\tone\n")
    text = '[input]\nsamples = "samples.tsv"\n{}[design]\nformula = "~ g"\ncontrasts = ["g"]\n'
    annotated = 'annotation = "genes.gtf"\nislands = "islands.bed"\n'
    (folder / "study.toml").write_text(text.format(annotated) + more)
    return folder / "study.toml"


@pytest.fixture(scope="module")
def rotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rotated")
    study = _counts_study(folder, 6, "[regions]\nrelabellings = 60\n")
    run_study(study, folder / "out")
    return folder / "out"


def test_small_designs_say_that_rotations_judged_their_regions(rotated: Path) -> None:
    text, record = _text(rotated), _record(rotated)
    assert record["regions"]["null"] == "rotations"
    assert "Judged against 60 rotations, as the design allows 10 relabellings only" in text
    assert "whitened residuals, turned at random" in text
    assert "of 60 rotations call as many" in text
    assert "of 9 relabellings call as many" in text
    assert "its regions are judged by rotations." in text
    assert "These are relabelled data" not in text
    notes = _figures(rotated)["design.g_b_vs_a.region.relabelled"]["layout"]["annotations"]
    assert notes[0]["text"] == "rotations"
    assert 'class="banner"' not in _html(rotated)


def test_regions_of_all_levels_name_the_two_that_differ_most(tmp_path: Path) -> None:
    study = _counts_study(tmp_path, 12, "[regions]\nrelabellings = 40\n")
    levels = "aaacccbbbddd"
    lines = [f"s{k}\ts{k}.cov\t{level}" for k, level in enumerate(levels)]
    (tmp_path / "samples.tsv").write_text("\n".join(["sample\tpath\tg", *lines]) + "\n")
    run_study(study, tmp_path / "out")
    record, text = _record(tmp_path / "out"), _text(tmp_path / "out")
    regions = pl.read_parquet(tmp_path / "out" / "tables" / "design.g.regions.parquet")
    called = regions.filter(pl.col("q") < 0.05)
    assert record["regions"]["significant"] == len(called) >= 8
    assert record["regions"]["higher"] is record["regions"]["lower"] is None
    assert record["regions"]["null"] == "relabellings"
    assert set(called["between"]) <= {"b - a", "c - b", "d - a", "d - c"}
    assert f"{len(called)} regions of {len(regions)} candidates pass q < .05." in text
    assert "the length of their vector is what stays high" in text
    tables = {table["key"]: table for table in _data(tmp_path / "out")["tables"]}
    assert "between" in tables["design.g.regions"]["columns"]
    assert "None" not in text


def test_genes_and_islands_stand_beside_called_places(rotated: Path) -> None:
    tables = rotated / "tables"
    called = pl.read_parquet(tables / "design.g_b_vs_a.called.parquet")
    sites = pl.read_parquet(tables / "design.g_b_vs_a.sites.parquet")
    assert len(called) == int((sites["q"] < 0.05).sum()) > 0
    inside = called.filter(pl.col("position") < 70000)
    assert inside["genes"].unique().to_list() == ["ABC"]
    assert (called["island_relation"] == "island").sum() == (called["position"] < 30000).sum()
    regions = pl.read_parquet(tables / "design.g_b_vs_a.regions.parquet")
    first = regions.filter(pl.col("end") < 70000)
    assert first["location"].unique().to_list() == ["exon"]
    assert (tables / "design.g_b_vs_a.called.tsv").exists()
    text = _text(rotated)
    assert "exon of ABC" in text or "upstream of ABC" in text or "downstream of ABC" in text
    columns = {t["key"]: t["columns"] for t in _data(rotated)["tables"]}
    assert "genes" in columns["design.g_b_vs_a.regions"]
    assert "genes" in columns["design.g_b_vs_a.sites"]


def test_given_regions_are_tested_in_place_of_a_search(tmp_path: Path) -> None:
    study = _counts_study(tmp_path, 6, '[regions]\nbed = "given.bed"\n')
    bed = [f"chr22\t{k}\t{k + 2000}\tr{k}\n" for k in range(0, 130000, 2000)]
    (tmp_path / "given.bed").write_text("".join([*bed, "chr22\t9000000\t9000100\tfar\n"]))
    run_study(study, tmp_path / "out")
    record, text = _record(tmp_path / "out"), _text(tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out" / "tables" / "design.g_b_vs_a.regions.parquet")
    assert table["name"].to_list()[-1] == "far"
    assert record["regions"]["given"] == "given.bed"
    assert record["regions"]["significant"] == int((table["q"] < 0.05).sum()) > 0
    tested = record["regions"]["tested"]
    assert f"of {tested} given ones that can be tested (given.bed) pass q < .05" in text
    assert "1 with no site of the methylome" in text
    assert "information-weighted sum of their sites' scores" in text
    assert "Candidate regions are stretches" not in text
    lines = (tmp_path / "out" / "tables" / "design.g_b_vs_a.regions.bed").read_text().splitlines()
    assert len(lines) == record["regions"]["significant"]
    (tmp_path / "given.bed").write_text("".join(bed[:40]))
    assert run_study(study, tmp_path / "out").done == ("design.g_b_vs_a", "report")
    study.write_text(study.read_text().replace('bed = "given.bed"', "tiles = 1000"))
    run_study(study, tmp_path / "out")
    assert "(windows of 1,000 bases)" in _text(tmp_path / "out")


def test_regions_without_replicates_are_leads_on_every_page(tmp_path: Path) -> None:
    study = _counts_study(tmp_path, 2, "[regions]\nno_replicates = true\nrelabellings = 30\n")
    run_study(study, tmp_path / "out")
    out = tmp_path / "out"
    record, html, text = _record(out), _html(out), _text(out)
    assert record["no_replicates"]
    assert record["regions"]["null"] == "exchanges of reads"
    assert record["regions"]["significant"] > 0
    assert "has no replicates: 2 samples" in record["sites"]["refused"]
    assert not list((tmp_path / "out" / "tables").glob("*.sites.parquet"))
    banner = html[html.index('<aside class="banner"') : html.index("</aside>")]
    assert "The regions of b against a are leads, not findings." in banner
    print_style = html[html.index("@media print") :]
    assert "display: table-header-group; break-inside: avoid" in print_style
    assert "Between b and a, without replicates," in text
    assert "regions without replicates are leads, not findings." in text
    assert "Sites were not tested: g[b] - g[a] has no replicates" in text
    assert "treat regions as leads, not findings" in text
    assert "Judged against 30 exchanges of reads, as there are no replicates" in text
    assert run_study(study, tmp_path / "out").done == ()
    study.write_text(study.read_text().replace("no_replicates = true\n", ""))
    (sentence,) = run_study(study, tmp_path / "out").left_out
    assert "has no replicates" in sentence
    assert not list((tmp_path / "out" / "tables").glob("*.regions.*"))
    assert 'class="banner"' not in _html(tmp_path / "out")


def test_sites_and_regions_keep_their_own_thresholds(tmp_path: Path) -> None:
    study = _counts_study(tmp_path, 6, "[sites]\nq = 0.2\n[regions]\nq = 0.05\nrelabellings = 30\n")
    run_study(study, tmp_path / "out")
    sites = pl.read_parquet(tmp_path / "out" / "tables" / "design.g_b_vs_a.sites.parquet")
    called = int((sites["q"] < 0.2).sum())
    assert called > int((sites["q"] < 0.05).sum())
    text = _text(tmp_path / "out")
    assert f"{called} sites of" in text
    assert "pass q < .2 (sites) and q < .05 (regions)" in text


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('bed = "a.bed"\ntiles = 100', "`bed` and `tiles` both say which regions to test"),
        ("tiles = 100\nno_replicates = true", "belong to the search"),
        ('bed = "none.bed"', "There is no file at .*none.bed"),
        ("tiles = 0", "regions.tiles: input should be greater than or equal to 1"),
    ],
)
def test_bad_regions_are_refused(tmp_path: Path, lines: str, message: str) -> None:
    study = _counts_study(tmp_path, 6, f"[regions]\n{lines}\n")
    with pytest.raises(MelismaError, match=message):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_genes_of_another_genome_stop_the_run(tmp_path: Path) -> None:
    study = _counts_study(tmp_path, 6, "")
    (tmp_path / "genes.gtf").write_text(GENES.format(1, 70000).replace("chr22", "scaffold_9"))
    with pytest.raises(MelismaError, match="scaffold_9"):
        run_study(study, tmp_path / "out")


def test_given_regions_of_another_genome_stop_the_run(tmp_path: Path) -> None:
    study = _counts_study(tmp_path, 6, '[regions]\nbed = "given.bed"\n')
    (tmp_path / "given.bed").write_text("scaffold_9\t0\t100\n")
    with pytest.raises(MelismaError, match="scaffold_9"):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_levels_have_no_given_regions_either(tmp_path: Path) -> None:
    designs = '[design]\nformula = "~ g"\ncontrasts = ["g[b] - g[a]"]\n[regions]\ntiles = 100\n'
    run_study(_levels_study(tmp_path, designs, placed=False), tmp_path / "out")
    assert "This needs read counts" in _record(tmp_path / "out")["regions"]["refused"]


def test_the_direction_of_a_row_names_its_levels(probes: Path) -> None:
    asked = read_run(probes).contrasts[0]
    row = {"delta_beta": -0.25, "between": "c_x - b"}
    assert direction(asked, row) == "c x is 25 points lower than b"
