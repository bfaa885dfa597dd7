"""`[sequence]` in a study: from calls and a genome to scores, flanks and logos in the report."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from melisma import datasets
from melisma.cli._readings import readings
from melisma.errors import MelismaError
from melisma.study import read_study, run_study
from melisma.trace import Trace

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

IMR90 = datasets.folder("imr90")
SETTINGS = "width = 21\nchannels = 8\nblock = 100000\nepochs = {epochs}\nseed = 1\n"


def study(folder: Path, epochs: int = 2, **sections: str) -> Path:
    path = folder / "study.toml"
    given = sections.get("given", "")
    path.write_text(
        'title = "IMR90"\n'
        f'[input]\nsamples = "{IMR90 / "samples.tsv"}"\ngenome = "{IMR90 / "genome.fa.gz"}"\n'
        "[ingest]\nmerge_strands = true\n"
        f"[sequence]\n{given}{SETTINGS.format(epochs=epochs)}"
    )
    return path


def read(path: Path, out: Path):
    """As `melisma run` does it, with the trace of one site."""
    config = read_study(path)
    return run_study(config, out, traces=readings(config))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequence")
    return read(study(folder), folder / "out")


def test_scores_stand_beside_their_baselines(run):
    scores = pl.read_parquet(run.folder / "tables" / "sequence.scores.parquet")
    by = scores.filter(metric="spearman", stratum="all")
    assert set(by["model"]) == {"model", "composition", "words", "profile"}
    assert by.filter(model="model")["value"].item() > 0.15
    assert "sequence" in run.done
    assert (run.folder / "model" / "model.json").exists()
    beside = pl.read_csv(run.folder / "model" / "scores.tsv", separator="\t")
    assert beside.shape == scores.shape
    record = json.loads((run.folder / "run.json").read_text())["sequence"]
    assert record["sites"]["test"] > 5_000
    assert 0.85 < record["coverage"]["5mC"] < 0.95


def test_lone_cpgs_between_weak_bases_are_lowest_measured_and_predicted(run):
    flanks = pl.read_csv(run.folder / "tables" / "sequence.flanks.tsv", separator="\t")
    assert flanks["flank"].to_list() == ["WCGW", "mixed", "SCGS"]
    for kind in ("measured", "predicted"):
        assert flanks[kind].is_sorted()
    assert flanks["measured"][2] - flanks["measured"][0] > 0.08


def test_the_report_draws_them(run):
    page = run.report.read_text()
    assert '<section id="sequence">' in page
    assert "solo-WCGW" in page
    assert '<svg xmlns="http://www.w3.org/2000/svg" class="logo"' in page
    assert "sequence.flanks" in page
    assert "the best baseline, words" in page


def test_the_site_that_departs_most_is_traced_and_drawn(run):
    record = json.loads((run.folder / "run.json").read_text())
    site = record["sequence"]["site"]
    at = int(site["place"].split(":")[1])
    with gzip.open(IMR90 / "genome.fa.gz", "rt") as file:
        bases = "".join(line.strip() for line in file if line[0] != ">").upper()
    assert bases[at : at + 2] == "CG"
    assert {bases[at - 1], bases[at + 2]} <= {"A", "T"}
    assert bases[at - 35 : at + 37].count("CG") == 1
    assert site["lone"]
    assert abs(site["level"] - site["mean"]) > 0.05
    (kept,) = record["traces"]
    trace = Trace.load(run.folder / kept["file"])
    assert trace.about["site"] == site["place"]
    assert trace.about["level"] == pytest.approx(site["level"], abs=1e-3)
    assert trace.about["measured_level"] == site["measured"]
    assert trace.completeness == pytest.approx(1, abs=0.05)
    page = run.report.read_text()
    assert '<section id="trace"><h2>Trace</h2>' in page
    assert f"{site['place']} is the one whose predicted" in page
    assert f"measured {site['measured']:.0%}. It was chosen for that" in page


def test_a_second_run_trains_nothing_and_other_settings_train_again(run):
    again = read(study(run.folder.parent), run.folder)
    assert {"sequence", "traces"} <= set(again.skipped)
    assert "report" in again.skipped
    other = read(study(run.folder.parent, epochs=1), run.folder)
    assert {"sequence", "traces"} <= set(other.done)
    assert "ingest" in other.skipped


def test_a_study_without_it_has_no_section_and_keeps_no_model(run):
    path = study(run.folder.parent)
    path.write_text(path.read_text().partition("[sequence]")[0])
    done = read(path, run.folder)
    assert '<section id="sequence">' not in done.report.read_text()
    assert '<section id="trace">' not in done.report.read_text()
    assert not (done.folder / "model").exists()
    assert not (done.folder / "traces").exists()
    assert not list((done.folder / "tables").glob("sequence.*"))


def test_what_cannot_be_computed_is_refused_before_anything_is(tmp_path):
    path = study(tmp_path)
    path.write_text(path.read_text().replace("genome =", "# genome ="))
    with pytest.raises(MelismaError, match="needs a genome"):
        run_study(path, tmp_path / "out")
    with pytest.raises(MelismaError, match="There is no file at .*nowhere"):
        run_study(study(tmp_path, given='genome = "nowhere.fa"\n'), tmp_path / "out")
    with pytest.raises(MelismaError, match="wide is not a key"):
        read_study(study(tmp_path, given="wide = 3\n"))
    with pytest.raises(MelismaError, match="no column 'diet'"):
        run_study(study(tmp_path, given='environment = ["diet"]\n'), tmp_path / "out")
    assert not (tmp_path / "out").exists()
