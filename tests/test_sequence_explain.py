"""`melisma explain` on a small trained model whose rule is known."""

import json
import shutil

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


@pytest.fixture(scope="module")
def explained(folder):
    """Everything about 300 sites in brain, with levels that a store measured."""
    pytest.importorskip("memelite")
    main_ok(
        "explain", folder / "model", "-g", folder / "genome.fa", "-e", "tissue=brain",
        "--store", folder / "study.zarr", "--sites", "300", "--fewest", "15",
        "--database", folder / "known.meme", "-o", folder / "explained",
    )  # fmt: skip
    return folder / "explained"


def test_the_rule_is_found_named_and_tested(explained):
    table = pl.read_csv(explained / "motifs.tsv", separator="\t")
    lowering = table.filter(pl.col("direction") == "lowers")
    assert any("CGT" in word or "ACG" in word for word in lowering["consensus"])
    strongest = lowering.sort("effect").row(0, named=True)
    assert strongest["effect"] < -0.2
    assert strongest["low"] < strongest["effect"] < strongest["high"] < 0
    assert strongest["backgrounds"] == 200
    experiments = pl.read_csv(explained / "experiments.tsv", separator="\t")
    away = experiments.filter(
        (pl.col("experiment") == "ablate") & (pl.col("name") == strongest["motif"])
    )
    assert away["effect"].item() > 0.2
    names = pl.read_csv(explained / "names.tsv", separator="\t")
    assert set(names.columns) == {"motif", "consensus", "target", "p", "e"}
    record = json.loads((explained / "explain.json").read_text())
    assert record["environment"] == {"tissue": "brain"}
    assert record["sites"] == 300


def test_the_page_tells_scores_motifs_and_flanks(explained):
    text = (explained / "report.html").read_text()
    assert len(text) < 300_000
    for words in (
        "What decides the levels in brain", "composition alone", "each base by position",
        "300 windows of 5,385", "WCGW: A or T on both sides", "measured", "Logo of motif 1,",
    ):  # fmt: skip
        assert words in text, words
    assert text.count("<svg") == text.count('role="img" aria-label=')
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    # Measured is brain alone: liver is at .8 everywhere.
    flanks = pl.read_csv(explained / "flanks.tsv", separator="\t")
    assert flanks.filter(flank="WCGW")["measured"].item() < 0.3
    assert flanks.filter(flank="SCGS")["measured"].item() > 0.6
    assert 'role="img"' in (explained / "logos" / "positions.svg").read_text()


def test_a_folder_is_whole_and_is_written_again(explained, asked, tmp_path, capsys):
    out = tmp_path / "again"
    shutil.copytree(explained, out)
    main_ok(*asked, "--sites", "30", "-o", out)
    files = {path.name for path in out.iterdir()}
    assert files >= {
        "motifs.tsv", "motifs.meme", "experiments.tsv", "contributions.npz", "ohe.npz",
        "attr.npz", "explain.json", "flanks.tsv", "report.html", "logos",
    }  # fmt: skip
    assert "names.tsv" not in files
    with np.load(out / "ohe.npz") as file:
        assert file["arr_0"].shape == (30, 4, 21)
    assert {path.name for path in tmp_path.iterdir()} == {"again"}
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("")
    assert "holds something else" in refused(capsys, *asked, "-o", other)


def test_the_suffix_says_what_is_written(folder, asked, explained, tmp_path, capsys):
    from melisma.sequence.motifs import read_database

    few = (*asked, "--sites", "60", "-e", "tissue=brain")
    main_ok(*few, "-o", tmp_path / "m.tsv")
    assert "60 of 2,731 sites" in capsys.readouterr().out
    assert pl.read_csv(tmp_path / "m.tsv", separator="\t").columns[:2] == ["motif", "consensus"]
    main_ok(*few, "-o", tmp_path / "m.meme")
    known = read_database(explained / "motifs.meme")
    table = pl.read_csv(explained / "motifs.tsv", separator="\t")
    assert [name.split()[1] for name in known] == table["consensus"].to_list()
    main_ok(*few, "-o", tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz") as file:
        assert file["ohe"].shape == file["attr"].shape == (60, 4, 21)
        assert set(file["contig"]) == {"chr2"}
    pytest.importorskip("pybigtools")
    main_ok(*few, "-o", tmp_path / "c.bw")
    assert (tmp_path / "c.bw").stat().st_size > 1000


def test_a_model_without_scores_and_motifs_says_so(folder, tmp_path):
    shutil.copytree(folder / "model", tmp_path / "model")
    (tmp_path / "model" / "scores.tsv").unlink()
    (tmp_path / "r.bed").write_text("chr1\t1000\t3000\n")
    common = ("explain", tmp_path / "model", "-g", folder / "genome.fa", "--sites", "15")
    main_ok(*common, "--bed", tmp_path / "r.bed", "-o", tmp_path / "p.html")
    text = (tmp_path / "p.html").read_text()
    assert "has no scores.tsv" in text
    assert "No motif was found" in text
    main_ok(*common, "--bed", tmp_path / "r.bed", "-o", tmp_path / "b.npz")
    with np.load(tmp_path / "b.npz") as file:
        assert file["position"].min() >= 1000
        assert file["position"].max() < 3000


def test_bad_input_is_one_sentence(folder, asked, tmp_path, capsys):
    assert "by one of --contig, --bed and --store" in refused(capsys, *asked[:4])
    assert "ends in .bed; use" in refused(capsys, *asked, "-o", tmp_path / "x.bed")
    assert "was never seen in training" in refused(capsys, *asked, "-e", "tissue=gut")
    assert "seqlet of 22 bases does not fit" in refused(capsys, *asked, "--seqlet", "22")
    assert "no model (model.json)" in refused(capsys, "explain", tmp_path, *asked[2:])
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
    broken.write_text(text[: text.index("MOTIF m3")])
    assert "holds 4 motifs" in refused(capsys, *asked, "--database", broken)
    assert "cannot be read" in refused(capsys, *asked, "--database", tmp_path / "none.meme")


def test_a_model_of_other_contexts_has_no_flanks_and_may_have_no_motif(folder, tmp_path):
    from test_sequence_attributions import model_of

    from melisma.genome import Genome
    from melisma.report import write_explanation
    from melisma.sequence.explanation import explain
    from melisma.sequence.predict import sites_of_contigs

    for contexts, heads in ((("CHG", "CHH"), ("m",)), ((), ("a",))):
        model = model_of(contexts or ("unknown",), heads)
        genome = Genome.open(folder / "genome.fa")
        sites = sites_of_contigs(genome, model, ["chr1"])
        found = explain(model, genome, sites, most=25)
        assert found.flanks is None
        assert len(found.table) == len(found.motifs)
        assert set(found.found.sites.strand) == {1, -1}
        text = write_explanation(found, tmp_path / "p.html").read_text()
        assert "The model is not one of CpGs alone." in text
        assert "What decides the levels</h1>" in text
