"""`melisma train` and `melisma predict` on a simulated store with a known rule."""

import json

import numpy as np
import polars as pl
import pytest
from sequence_run import BASES, main_ok, make_study, refused

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from melisma.genome import Genome  # noqa: E402
from melisma.sequence.checkpoint import load  # noqa: E402
from melisma.sequence.judge import judge  # noqa: E402
from melisma.sequence.predict import (  # noqa: E402
    predict_sites,
    sites_of_contigs,
    sites_of_store,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two contigs and a store (simulated): CpGs beside A or T on the outside are low in brain."""
    where = tmp_path_factory.mktemp("sequence")
    make_study(where)
    return where


@pytest.fixture(scope="module")
def trained(folder):
    main_ok(
        "train", folder / "study.zarr", "-g", folder / "genome.fa", "-e", "tissue",
        "--width", "21", "--block", "2000", "--epochs", "5", "--batch", "32", "--rate", "0.01",
        "-o", folder / "model",
    )  # fmt: skip
    return folder / "model"


def test_the_model_learns_the_rule_and_is_judged_beside_its_baselines(trained):
    scores = pl.read_csv(trained / "scores.tsv", separator="\t")
    pearson = {
        row["model"]: row["value"]
        for row in scores.filter(metric="pearson", stratum="all").iter_rows(named=True)
    }
    assert set(pearson) == {"model", "composition", "words", "profile"}
    assert pearson["model"] > 0.9
    assert pearson["composition"] < 0.6
    record = json.loads((trained / "model.json").read_text())
    assert record["symmetric"] is True
    assert record["record"]["split"]["kind"] == "block"
    assert record["record"]["contexts"] == ["CG"]


def test_scores_are_given_inside_and_outside_islands_and_by_context(folder, tmp_path):
    half = [(c, k, k + 500) for c in ("chr1", "chr2") for k in range(0, BASES, 1000)]
    (tmp_path / "islands.bed").write_text("".join(f"{c}\t{a}\t{b}\n" for c, a, b in half))
    main_ok(
        "train", folder / "study.zarr", "-g", folder / "genome.fa", "--width", "5", "--block",
        "2000", "--epochs", "1", "--islands", tmp_path / "islands.bed", "-o", tmp_path / "m",
    )  # fmt: skip
    scores = pl.read_csv(tmp_path / "m" / "scores.tsv", separator="\t")
    assert set(scores["stratum"]) == {"all", "islands", "outside islands"}
    counts = dict(scores.filter(model="model", metric="pearson").select("stratum", "n").iter_rows())
    assert counts["islands"] + counts["outside islands"] == counts["all"]


def test_environments_answer_apart_and_intervals_hold_the_levels(trained, folder):
    model, genome = load(trained), Genome.open(folder / "genome.fa")
    sites = sites_of_contigs(genome, model, ["chr2"])
    brain = predict_sites(model, genome, sites, environment={"tissue": "brain"})
    liver = predict_sites(model, genome, sites, environment={"tissue": "liver"})
    bases = genome.bases("chr2")
    after, before = bases[np.minimum(sites.position + 2, BASES - 1)], bases[sites.position - 1]
    beside = (after == ord("T")) | (before == ord("A"))
    assert brain["level"].to_numpy()[beside].mean() < 0.25
    assert brain["level"].to_numpy()[~beside].mean() > 0.65
    assert liver["level"].min() > 0.6
    assert (brain["low"] <= brain["level"]).all()
    assert brain["unseen"].null_count() == len(brain)


def test_predictions_are_written_in_every_format(trained, folder, tmp_path, capsys):
    (tmp_path / "r.bed").write_text("chr1\t1000\t3000\nchr2\t0\t500\n")
    common = ("predict", trained, "-g", folder / "genome.fa")
    main_ok(*common, "--bed", tmp_path / "r.bed", "-e", "tissue=brain", "-o", tmp_path / "p.tsv")
    table = pl.read_csv(tmp_path / "p.tsv", separator="\t")
    assert ((table["contig"] == "chr1") | (table["position"] < 500)).all()
    assert table.columns == [
        "contig", "position", "strand", "mark", "level", "spread", "low", "high", "unseen",
    ]  # fmt: skip
    shown = capsys.readouterr().out
    assert "tissue=brain" in shown
    main_ok(*common, "--contig", "chr1", "-o", tmp_path / "p.bed")
    rows = (tmp_path / "p.bed").read_text().splitlines()
    cells = rows[0].split("\t")
    assert len(cells) == 18
    assert int(cells[11]) + int(cells[12]) == int(cells[9]) == 100
    pytest.importorskip("pybigtools")
    main_ok(*common, "--store", folder / "study.zarr", "--sample", "s1", "-o", tmp_path / "p.bw")
    assert (tmp_path / "p.bw").stat().st_size > 1000
    assert not list(tmp_path.glob(".*"))


def test_a_level_never_seen_is_refused_or_flagged(trained, folder, tmp_path, capsys):
    common = ("predict", trained, "-g", folder / "genome.fa", "--contig", "chr1")
    assert "was never seen in training" in refused(capsys, *common, "-e", "tissue=gut")
    assert "was not told 'diet'" in refused(capsys, *common, "-e", "diet=royal")
    assert "column=value" in refused(capsys, *common, "-e", "brain")
    main_ok(*common, "-e", "tissue=gut", "--allow-unseen", "-o", tmp_path / "p.parquet")
    assert (pl.read_parquet(tmp_path / "p.parquet")["unseen"] == "tissue=gut").all()
    assert "never saw tissue=gut" in capsys.readouterr().out


def test_bad_input_is_one_sentence(trained, folder, tmp_path, capsys):
    genome, store = folder / "genome.fa", folder / "study.zarr"
    assert "Name the sites by one of" in refused(capsys, "predict", trained, "-g", genome)
    assert "no contig 'chr9'" in refused(
        capsys, "predict", trained, "-g", genome, "--contig", "chr9"
    )
    assert "has no sample 'x'" in refused(
        capsys, "predict", trained, "-g", genome, "--store", store, "--sample", "x"
    )
    common = ("train", store, "-g", genome, "-o", tmp_path / "m")
    assert "choose an odd width" in refused(capsys, *common, "--width", "20")
    assert "go together" in refused(capsys, *common, "--test", "chr1")
    assert "no windows for training" in refused(
        capsys, *common, "--test", "chr1", "--validation", "chr2"
    )
    other = tmp_path / "other.fa"
    rng = np.random.default_rng(9)
    other.write_text(
        "".join(f">{c}\n{''.join(rng.choice(list('ACGT'), BASES))}\n" for c in ("chr1", "chr2"))
    )
    assert "do not hold the mark's base in genome other" in refused(
        capsys, "train", store, "-g", other, "-o", tmp_path / "m", "--width", "21"
    )
    assert not (tmp_path / "m").exists()


def test_a_leaking_test_part_is_refused_and_named(trained, folder):
    from melisma.errors import MelismaError
    from melisma.methylome import open_methylome
    from melisma.sequence.examples import StoreExamples

    methylome, genome = open_methylome(folder / "study.zarr"), Genome.open(folder / "genome.fa")
    parts = (np.arange(methylome.sizes["site"]) % 3).astype(np.int8)
    leaky = StoreExamples(methylome, genome, 21, parts, environment=["tissue"])
    with pytest.raises(MelismaError, match=r"test windows overlap.*chr1:"):
        judge(load(trained), leaky)
    told = judge(load(trained), leaky, allow_leak=True, draws=0)
    assert "overlap" in told.leak
    assert sites_of_store(methylome).position[0] == methylome["position"].values[0]
