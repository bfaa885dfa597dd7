"""`melisma experiment` on a small trained model: ACG and CGT lower the level in brain."""

import polars as pl
import pytest
from sequence_run import main_ok, make_study, refused, train_model, write_database

pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("experiment")
    make_study(where)
    train_model(where)
    write_database(where / "known.meme")
    return where


@pytest.fixture
def ask(folder, tmp_path):
    def asked(kind, *options, environment="brain"):
        main_ok(
            "experiment", folder / "model", kind, "-g", folder / "genome.fa", "--contig", "chr2",
            "-e", f"tissue={environment}", "--windows", "60", *options, "-o", tmp_path / "t.tsv",
        )  # fmt: skip
        return pl.read_csv(tmp_path / "t.tsv", separator="\t")

    return asked


def test_a_motif_put_beside_the_site_lowers_the_level_there_alone(ask, capsys):
    table = ask("marginalize", "--motif", "T", "--motif", "G", "--offset", "2", "--offset", "5")
    effect = {(r["motif"], r["offset"]): r for r in table.iter_rows(named=True)}
    assert effect["T", 2]["effect"] < -0.3
    assert effect["T", 2]["high"] < 0
    assert effect["G", 2]["effect"] > 0.05
    assert abs(effect["T", 5]["effect"]) < 0.1
    assert effect["T", 2]["n"] == 60
    # The same backgrounds for every motif.
    assert table["before"].n_unique() == 1
    assert "marginalize: 4 rows, 60 windows" in capsys.readouterr().out
    liver = ask("marginalize", "--motif", "T", environment="liver")
    assert liver["offset"].item() == 2
    assert abs(liver["effect"].item()) < 0.1


def test_iupac_letters_and_a_files_motifs(ask, folder):
    either = ask("marginalize", "--motif", "WNNW", "--offset", "-1")
    assert either["effect"].item() < -0.2
    table = ask("marginalize", "--motifs", folder / "known.meme", "--offset", "3")
    assert len(table) == 31
    assert table.row(0, named=True)["name"] == "rule"
    assert table.row(0, named=True)["motif"] == "ACG"


def test_a_motif_shuffled_away_gives_the_level_back(ask):
    at_site = ask("ablate", "--motif", "NNT", "--offset", "0")
    assert at_site["before"].item() < 0.2
    assert at_site["effect"].item() > 0.2
    anywhere = ask("ablate", "--motif", "GGCC")
    assert anywhere["offset"].item() is None
    assert abs(anywhere["effect"].item()) < 0.2
    stretch = ask("ablate", "--start", "-9", "--end", "-4", "--shuffles", "3")
    assert stretch["name"].item() == "-9 to -4"
    assert abs(stretch["effect"].item()) < 0.05


def test_two_motifs_at_distances(ask):
    table = ask("space", "--motif", "A", "--motif", "T", "--offset", "-1", "--distance", "2")
    row = table.row(0, named=True)
    assert row["effect"] < -0.3
    # Each alone lowers the level already, so both add up to less.
    assert row["interaction_low"] <= row["interaction"] <= row["interaction_high"]
    assert row["interaction"] > 0.1
    far = ask("space", "--motif", "GGA", "--motif", "CC")
    assert far["distance"].to_list() == [0, 1, 2, 3, 4]
    assert far["interaction"].abs().max() < 0.1


def test_bad_input_is_one_sentence(folder, tmp_path, capsys):
    def refuse(kind, *options):
        return refused(
            capsys, "experiment", folder / "model", kind, "-g", folder / "genome.fa",
            "--contig", "chr2", "--windows", "5", *options,
        )  # fmt: skip

    assert "no experiment 'swap': choose" in refuse("swap")
    assert "by --motif or --motifs" in refuse("marginalize")
    assert "or a stretch by --start" in refuse("ablate")
    assert "two motifs, and 1 were given" in refuse("space", "--motif", "ACG")
    assert "'AXG' is no motif" in refuse("marginalize", "--motif", "AXG")
    long = "A" * 30
    assert "of 30 bases at offset 2 does not fit into windows of 21" in refuse(
        "marginalize", "--motif", long
    )
    assert f"{long} does not fit into windows of 21" in refuse("ablate", "--motif", long)
    assert "puts another base on the site" in refuse(
        "marginalize", "--motif", "TTT", "--offset", "-1"
    )
    assert "go together" in refuse("ablate", "--start", "3")
    assert "hold the site alone" in refuse("ablate", "--start", "0", "--end", "2")
    assert "are no stretch of windows" in refuse("ablate", "--start", "-30", "--end", "2")
    assert "are for ablate" in refuse("marginalize", "--motif", "A", "--start", "3", "--end", "5")
    assert "--distance is for space" in refuse("ablate", "--motif", "A", "--distance", "2")
    assert "takes one --offset" in refuse(
        "ablate", "--motif", "A", "--offset", "2", "--offset", "3"
    )
    assert "not both" in refuse("ablate", "--motif", "A", "--start", "3", "--end", "5")
    assert "holds ACGTACGTACGTACG" in refuse("ablate", "--motif", "ACGTACGTACGTACG")
    assert "no database in MEME's format" in refuse("marginalize", "--motifs", folder / "genome.fa")
    assert "ends in .bed" in refuse("ablate", "--motif", "A", "-o", tmp_path / "x.bed")
