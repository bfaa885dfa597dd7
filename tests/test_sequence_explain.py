"""`melisma explain` on a small trained model whose rule is known."""

import json

import numpy as np
import polars as pl
import pytest
from sequence_run import main_ok, make_study, refused, train_model, write_database

pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("explain")
    make_study(where)
    train_model(where)
    write_database(where / "known.meme")
    return where


@pytest.fixture(scope="module")
def asked(folder):
    return ("explain", folder / "model", "-g", folder / "genome.fa", "--contig", "chr2")


def test_the_rule_is_found_named_and_tested(folder, asked, tmp_path, capsys):
    pytest.importorskip("memelite")
    out = tmp_path / "explained"
    main_ok(
        *asked, "-e", "tissue=brain", "--sites", "400", "--database", folder / "known.meme",
        "-o", out,
    )  # fmt: skip
    shown = capsys.readouterr().out
    assert "400 of 2,731 sites" in shown
    table = pl.read_csv(out / "motifs.tsv", separator="\t")
    lowering = table.filter(pl.col("direction") == "lowers")
    assert any("CGT" in word or "ACG" in word for word in lowering["consensus"])
    strongest = lowering.sort("effect").row(0, named=True)
    assert strongest["effect"] < -0.2
    assert strongest["low"] < strongest["effect"] < strongest["high"] < 0
    assert strongest["backgrounds"] == 200
    experiments = pl.read_csv(out / "experiments.tsv", separator="\t")
    away = experiments.filter(
        (pl.col("experiment") == "ablate") & (pl.col("name") == strongest["motif"])
    )
    assert away["effect"].item() > 0.2
    names = pl.read_csv(out / "names.tsv", separator="\t")
    assert set(names.columns) == {"motif", "consensus", "target", "p", "e"}
    assert "rule" in names["target"].to_list()
    record = json.loads((out / "explain.json").read_text())
    assert record["environment"] == {"tissue": "brain"}
    assert record["sites"] == 400


def test_a_folder_is_whole_and_is_written_again(asked, tmp_path, capsys):
    out = tmp_path / "explained"
    for sites in ("50", "40"):
        main_ok(*asked, "--sites", sites, "-o", out)
    files = {path.name for path in out.iterdir()}
    assert files >= {
        "motifs.tsv", "motifs.meme", "experiments.tsv", "contributions.npz", "ohe.npz",
        "attr.npz", "explain.json",
    }  # fmt: skip
    with np.load(out / "ohe.npz") as file:
        assert file["arr_0"].shape == (40, 4, 21)
    assert {path.name for path in tmp_path.iterdir()} == {"explained"}
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("")
    assert "holds something else" in refused(capsys, *asked, "-o", other)


def test_the_suffix_says_what_is_written(folder, asked, tmp_path):
    from melisma.sequence.motifs import read_database

    few = (*asked, "--sites", "200", "-e", "tissue=brain", "--fewest", "5")
    main_ok(*few, "-o", tmp_path / "m.tsv")
    table = pl.read_csv(tmp_path / "m.tsv", separator="\t")
    main_ok(*few, "-o", tmp_path / "m.meme")
    if pytest.importorskip("memelite"):
        known = read_database(tmp_path / "m.meme")
        assert [name.split()[1] for name in known] == table["consensus"].to_list()
    main_ok(*few, "-o", tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as file:
        assert file["ohe"].shape == file["attr"].shape == (200, 4, 21)
        assert set(file["contig"]) == {"chr2"}
    pytest.importorskip("pybigtools")
    main_ok(*few, "-o", tmp_path / "c.bw")
    assert (tmp_path / "c.bw").stat().st_size > 1000


def test_sites_of_a_store_and_of_intervals(folder, tmp_path, capsys):
    common = ("explain", folder / "model", "-g", folder / "genome.fa", "--sites", "30")
    main_ok(*common, "--store", folder / "study.zarr", "-o", tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz") as file:
        assert set(file["contig"]) == {"chr1", "chr2"}
    (tmp_path / "r.bed").write_text("chr1\t1000\t3000\n")
    main_ok(*common, "--bed", tmp_path / "r.bed", "-o", tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as file:
        assert file["position"].min() >= 1000
        assert file["position"].max() < 3000


def test_bad_input_is_one_sentence(folder, asked, tmp_path, capsys):
    assert "by one of --contig, --bed and --store" in refused(capsys, *asked[:4])
    assert "ends in .bed; use" in refused(capsys, *asked, "-o", tmp_path / "x.bed")
    assert "was never seen in training" in refused(capsys, *asked, "-e", "tissue=gut")
    assert "seqlet of 22 bases does not fit" in refused(capsys, *asked, "--seqlet", "22")
    pytest.importorskip("memelite")
    other = tmp_path / "jaspar.txt"
    other.write_text(">MA0001\nA [ 1 2 ]\n")
    assert "no database in MEME's format" in refused(capsys, *asked, "--database", other)
    broken = tmp_path / "broken.meme"
    text = (folder / "known.meme").read_text()
    broken.write_text(text.replace("0.97", "x", 1))
    assert "broken.meme is damaged" in refused(capsys, *asked, "--database", broken)
    broken.write_text(text.replace("0.97", "7", 1))
    assert "the rows of rule are no probabilities" in refused(capsys, *asked, "--database", broken)
    assert "cannot be read" in refused(capsys, *asked, "--database", tmp_path / "none.meme")
    assert "no model (model.json)" in refused(capsys, "explain", tmp_path, *asked[2:])
