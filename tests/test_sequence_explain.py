"""`melisma explain` and what it is made of: contributions, logos, flanks, files for other tools."""

from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma.cli import main
from melisma.genome import Genome
from melisma.methylome import dataset, write
from melisma.sequence.flanks import ALONE, CLASSES, flank_class, levels_by_flank
from melisma.sequence.logo import information, logo

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from melisma.sequence.checkpoint import load  # noqa: E402
from melisma.sequence.explain import explain  # noqa: E402
from melisma.sequence.predict import sites_of_contigs  # noqa: E402

BASES = 60_000


def run(*arguments, code=0):
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    assert done.value.code == code


def refused(capsys, *arguments):
    run(*arguments, code=2)
    return " ".join(capsys.readouterr().err.split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store (simulated) in which TTGA five bases after a CpG takes its methylation away."""
    where = tmp_path_factory.mktemp("explain")
    rng = np.random.default_rng(0)
    bases = rng.choice(list("ACGT"), BASES, p=[0.25, 0.25, 0.25, 0.25])
    at = np.flatnonzero((bases[:-30] == "C") & (bases[1:-29] == "G"))
    at = at[(at > 30)]
    for place in at[::2]:
        if not (bases[place + 4 : place + 11] == "C").any():
            bases[place + 5 : place + 9] = list("TTGA")
    at = np.flatnonzero((bases[:-30] == "C") & (bases[1:-29] == "G"))
    at = at[at > 30]
    text = "".join(bases)
    (where / "genome.fa").write_text(f">chr1\n{text}\n")
    low = np.array([text[p + 5 : p + 9] == "TTGA" for p in at])
    coverage = rng.poisson(20, (len(at), 2))
    level = np.where(low, 0.1, 0.85)[:, None]
    made = dataset(
        {
            "contig": np.zeros(len(at)), "position": at, "strand": np.zeros(len(at)),
            "context": np.zeros(len(at)),
        },
        {
            "methylated": rng.binomial(coverage, level).astype(np.uint16),
            "coverage": coverage.astype(np.uint16),
        },
        {"sample": ["s1", "s2"]},
        contigs=["chr1"],
    )  # fmt: skip
    write(made, where / "study.zarr")
    run(
        "train", where / "study.zarr", "-g", where / "genome.fa", "--width", "41", "--block",
        "3000", "--epochs", "8", "--batch", "32", "--rate", "0.01", "-o", where / "model",
    )  # fmt: skip
    return where


def test_the_planted_motif_is_found_at_its_place(folder, tmp_path):
    out = tmp_path / "why"
    run(
        "explain", folder / "model", "-g", folder / "genome.fa", "--store", folder / "study.zarr",
        "--sites", "200", "--seqlet", "4", "-o", out,
    )  # fmt: skip
    motifs = pl.read_csv(out / "motifs.tsv", separator="\t")
    first = motifs.row(0, named=True)
    assert "TTGA" in first["consensus"]
    assert first["first_base"] + first["consensus"].index("TTGA") == 5
    assert first["raises"] is False
    assert first["contribution"] < -0.5
    meme = (out / "motifs.meme").read_text()
    assert meme.startswith("MEME version 4")
    assert f"nsites= {first['seqlets']}" in meme


def test_files_for_other_tools_hold_the_same_numbers(folder, tmp_path):
    pybigtools = pytest.importorskip("pybigtools")
    out = tmp_path / "why"
    run(
        "explain", folder / "model", "-g", folder / "genome.fa", "--store", folder / "study.zarr",
        "--sites", "40", "--seqlet", "4", "-o", out,
    )  # fmt: skip
    bases = np.load(out / "ohe.npz")["arr_0"]
    values = np.load(out / "contributions.npz")["arr_0"]
    assert bases.shape == values.shape == (40, 4, 41)
    assert (bases.sum(axis=1) <= 1).all()
    np.testing.assert_allclose(values.sum(axis=1), 0, atol=1e-5)
    # What a base adds is its hypothetical value against the mean of the other three.
    own = (values * bases).sum(axis=1) * 4 / 3
    track = pybigtools.open(str(out / "contributions.bw"))
    told = np.array(track.values("chr1", 0, BASES, fillna=0))
    # Where windows overlap the track has their mean, so it lies within them.
    assert own.min() - 1e-5 <= told.min() < 0
    assert (told != 0).sum() > 500
    text = "".join(np.array(list("ACGTN"))[np.where(bases.any(1), bases.argmax(1), 4)[0]])
    genome = (folder / "genome.fa").read_text().splitlines()[1]
    assert text in genome
    place = genome.index(text)
    np.testing.assert_allclose(told[place : place + 3], own[0, :3], atol=1e-5)
    pictures = sorted(out.glob("*.svg"))
    assert pictures
    for picture in pictures:
        root = ElementTree.fromstring(picture.read_text())
        assert root.find("{http://www.w3.org/2000/svg}title").text


def test_contributions_say_what_mutation_does(folder):
    model, genome = load(folder / "model"), Genome.open(folder / "genome.fa")
    sites = sites_of_contigs(genome, model, ["chr1"])
    found = explain(model, genome, sites, most=5, seqlet=4)
    window = found.codes[2].copy()
    for base in range(4):
        other = window.copy()
        other[25] = base
        level = model.predict(np.stack([window, other])).level[:, 0]
        assert found.effect[2, 25, base] == pytest.approx(level[1] - level[0], abs=1e-5)
    np.testing.assert_allclose(found.by_position().sum(axis=0), 0, atol=1e-5)


def test_bad_input_is_one_sentence(folder, tmp_path, capsys):
    ask = ("explain", folder / "model", "-g", folder / "genome.fa", "-o", tmp_path / "x")
    assert "one of --contig, --bed and --store" in refused(capsys, *ask)
    assert "no contig 'chr7'" in refused(capsys, *ask, "--contig", "chr7")
    long = refused(capsys, *ask, "--contig", "chr1", "--sites", "3", "--seqlet", "50")
    assert "does not fit into windows of 41" in long
    (tmp_path / "one.meme").write_text("MEME version 4\n\nALPHABET= ACGT\n")
    few = refused(
        capsys, *ask, "--contig", "chr1", "--sites", "60", "--database", tmp_path / "one.meme"
    )
    assert "give a whole database" in few
    assert not (tmp_path / "x").exists()
    (tmp_path / "x").mkdir()
    assert "exists: choose another folder" in refused(capsys, *ask, "--contig", "chr1")


def test_lone_cpgs_are_chosen(folder, tmp_path):
    run(
        "explain", folder / "model", "-g", folder / "genome.fa", "--contig", "chr1", "--lone",
        "--sites", "10", "-o", tmp_path / "lone",
    )  # fmt: skip
    assert len(np.load(tmp_path / "lone" / "ohe.npz")["arr_0"]) == 10


@given(st.text("ACGTN", min_size=4, max_size=400), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_flank_classes_are_what_their_words_say(text, seed):
    text = text + "CG" * (seed % 2)
    bases = np.frombuffer(text.encode(), np.uint8)
    position = np.arange(len(text))
    cpgs = [k for k in range(len(text) - 1) if text[k : k + 2] == "CG"]
    for place, found in zip(position, flank_class(bases, position), strict=True):
        others = [c for c in cpgs if c != place and abs(c - place) <= ALONE]
        lone = place in cpgs and not others and 0 < place < len(text) - 2
        if lone and "N" not in text[place - 1] + text[place + 2]:
            weak = sum(text[k] in "AT" for k in (place - 1, place + 2))
            assert found == weak
        else:
            assert found == -1


def test_levels_by_flank(tmp_path):
    far = "A" * 60
    (tmp_path / "g.fa").write_text(f">c\n{far}ACGT{far}ACGC{far}GCGC{far}TCGA{far}CGCG{far}\n")
    genome = Genome.open(tmp_path / "g.fa")
    position = np.array([61, 125, 189, 253, 316])
    table = levels_by_flank(
        genome, ("c",), np.zeros(5, int), position, {"m": np.array([0.1, 0.5, 0.9, 0.3, 1.0])}
    )
    assert table["flank"].to_list() == list(CLASSES)
    assert table["n"].to_list() == [1, 1, 2]
    assert table["m"].to_list() == pytest.approx([0.9, 0.5, 0.2])


def test_a_logo_stacks_letters_by_height():
    matrix = np.array([[1.0, 0.25, 0.5], [0, 0.25, 0.5], [0, 0.25, 0], [0, 0.25, 0]])
    heights = information(matrix)
    np.testing.assert_allclose(heights.sum(axis=0), [2, 0, 1])
    drawn = logo(heights, "A & B", first=-1, unit="bits")
    root = ElementTree.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title").text == "A & B"
    letters = [t.text for t in root.iter(f"{space}text") if "letter" in t.get("class")]
    assert sorted(letters) == ["A", "A", "C"]
    places = [t.text for t in root.iter(f"{space}text") if t.get("class") == "place"]
    assert places == ["-1", "0", "1"]
    down = logo(np.array([[-1.0], [0], [0], [2.0]]), "x", styled=False)
    assert "<style>" not in down
    assert logo(np.zeros((4, 3)), "nothing")
