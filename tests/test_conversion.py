"""Conversion from spike-ins, chloroplast and CHH: literals by hand, as no real file has them."""

from pathlib import Path

import numpy as np
import pytest

from melisma.calls import ingest
from melisma.design import read_sheet
from melisma.errors import MelismaError
from melisma.methylome import CONTEXTS, dataset, open_methylome
from melisma.quality import check_quality
from melisma.quality._intervals import wilson

REFERENCE = Path(__file__).parents[2] / "shared" / "data" / "reference"


def store(rows, contigs, *, form="bismark-cov", marks=("m",), attrs=None):
    """One sample; rows are (contig, context, methylated, coverage), a site each."""
    order = sorted(range(len(rows)), key=lambda i: contigs.index(rows[i][0]))
    rows = [rows[i] for i in order]
    return dataset(
        {
            "contig": [contigs.index(r[0]) for r in rows],
            "position": np.arange(len(rows)) * 10,
            "context": [CONTEXTS.index(r[1]) for r in rows],
        },
        {
            "methylated": np.array([[r[2]] for r in rows]),
            "coverage": np.array([[r[3]] for r in rows]),
        },
        {"sample": ["a"]},
        contigs=contigs,
        marks=marks,
        attrs={"ingest": {"samples": {"a": {"format": form}}}} | (attrs or {}),
    )


def told(*arguments, spike_in=None, methylated_control=None, **more):
    quality = check_quality(
        store(*arguments, **more), spike_in=spike_in, methylated_control=methylated_control
    )
    return quality.conversion.row(0, named=True)


GENOME = [("chr1", "CG", 700, 1000), ("chr1", "CHG", 8, 1000), ("chr1", "CHH", 20, 4000)]


def test_wilson_is_the_textbook_interval():
    # Newcombe (1998, Statistics in Medicine 17, 857-872), Table I: 81 of 263 and 15 of 148.
    low, high = wilson(np.array([81.0, 15.0, 0.0]), np.array([263.0, 148.0, 20.0]))
    assert low[:2] == pytest.approx([0.2553, 0.0624], abs=5e-5)
    assert high[:2] == pytest.approx([0.3662, 0.1605], abs=5e-5)
    assert low[2] == 0
    assert high[2] == pytest.approx(0.1611, abs=5e-5)


@pytest.mark.parametrize("name", ["lambda", "chrL", "NC_001416.1", "J02459.1", "gi|1|NC_001416.1|"])
def test_lambda_is_known_by_its_names_and_all_its_cytosines_count(name):
    row = told([*GENOME, (name, "CG", 2, 300), (name, "CHH", 3, 700)], ["chr1", name])
    assert (row["kind"], row["source"], row["contig"]) == ("measured", "lambda", name)
    assert (row["reads"], row["failure"], row["conversion"]) == (1000, 0.005, 0.995)
    assert row["context"] == "CG+CHH"
    # Wilson of 5 in 1,000.
    assert (row["failure_low"], row["failure_high"]) == pytest.approx((0.00214, 0.01165), abs=1e-5)


def test_a_chloroplast_tells_in_a_plant_and_chh_never_does():
    plant = [("Chr1", "CG", 240, 1000), ("Chr1", "CHG", 70, 1000), ("Chr1", "CHH", 20, 1000)]
    row = told([*plant, ("ChrC", "CHH", 4, 1000)], ["Chr1", "ChrC"])
    assert (row["kind"], row["source"], row["failure"]) == ("measured", "chloroplast", 0.004)
    row = told(plant, ["Chr1"])
    assert row["kind"] == "cannot be told"
    assert "CHH says nothing in a plant (CHG at 7.0% and CHH at 2.0%)" in row["reason"]
    # The chloroplast is among the contigs, but has no reads.
    row = told([*plant, ("ChrC", "CHH", 0, 0)], ["Chr1", "ChrC"])
    assert (row["kind"], row["failure"]) == ("cannot be told", None)
    assert row["reason"].startswith("ChrC has no reads, and CHH says nothing in a plant")


@pytest.mark.parametrize(
    ("contigs", "attrs"),
    [(["chr1", "chrX"], None), (["chr1"], {"genome": {"name": "GRCm39.fa"}}), (["chr1"], None)],
)
def test_chh_of_an_animal_is_an_upper_bound(contigs, attrs):
    row = told(GENOME, contigs, attrs=attrs)
    assert (row["kind"], row["source"], row["context"]) == ("upper bound", "CHH", "CHH")
    assert (row["reads"], row["failure"]) == (4000, 0.005)
    assert "neurons" in row["reason"]


def test_what_does_not_tell_a_plant_from_an_animal_is_refused():
    unclear = [("1", "CG", 140, 1000), ("1", "CHG", 36, 1000), ("1", "CHH", 28, 1000)]
    row = told(unclear, ["1"])
    assert row["kind"] == "cannot be told"
    assert "neither the contigs' names nor the levels" in row["reason"]
    plant_like = [("chr1", "CG", 800, 1000), ("chr1", "CHG", 500, 1000), ("chr1", "CHH", 20, 1000)]
    row = told(plant_like, ["chr1", "chrX"])
    assert "the contigs are an animal's, but CHG at 50.0%" in row["reason"]
    row = told([("chr1", "CG", 700, 1000)], ["chr1", "chrX"])
    assert row["reason"] == "no unmethylated control among the contigs, and no calls in CHH"


@pytest.mark.parametrize("form", ["modbam", "bedmethyl"])
def test_native_reads_are_not_converted(form):
    row = told([*GENOME, ("lambda", "CG", 2, 300)], ["chr1", "lambda"], form=form)
    assert (row["kind"], row["failure"]) == ("not applicable", None)
    assert row["reason"] == f"native reads ({form}) are not converted"


def test_a_mark_that_conversion_does_not_tell():
    assert told(GENOME, ["chr1"], marks=("h",))["kind"] == "not applicable"


def test_levels_without_counts_are_not_applicable():
    made = dataset(
        {"contig": [0], "position": [1]},
        {"beta": np.array([[0.5]], dtype=np.float32)},
        {"sample": ["a"]},
        contigs=["lambda"],
    )
    assert check_quality(made).conversion["kind"].to_list() == ["not applicable"]


def test_named_contigs_and_the_methylated_control():
    rows = [*GENOME, ("phix", "CHH", 990, 1000), ("mine", "CHH", 1, 100), ("pUC19", "CG", 96, 100)]
    contigs = ["chr1", "phix", "mine", "pUC19"]
    row = told(rows, contigs, spike_in="lambda=mine")
    assert (row["source"], row["contig"], row["failure"]) == ("lambda", "mine", 0.01)
    assert (row["control_contig"], row["control_reads"], row["control_level"]) == (
        "pUC19",
        100,
        0.96,
    )
    # PhiX is added after conversion: it counts only where it is named.
    assert told(rows, contigs)["source"] == "CHH"
    assert told(rows, contigs, spike_in="phix")["failure"] == 0.99
    assert told(rows, contigs, methylated_control="phix")["control_level"] is None
    with pytest.raises(MelismaError, match="--spike-in names the contig 'chrL', which the store"):
        told(rows, contigs, spike_in="lambda=chrL")


@pytest.mark.reference
@pytest.mark.skipif(not REFERENCE.exists(), reason="needs ../shared/data/reference")
def test_arabidopsis_without_a_chloroplast_is_refused_and_its_strands_agree(tmp_path):
    calls = REFERENCE / "arabidopsis_col0_chr1" / "bsseeker.txt.gz"
    (tmp_path / "samples.tsv").write_text(f"sample\tpath\ncol0\t{calls}\n")
    ingest(read_sheet(tmp_path / "samples.tsv"), tmp_path / "out.zarr")
    quality = check_quality(open_methylome(tmp_path / "out.zarr"))
    row = quality.conversion.row(0, named=True)
    assert row["kind"] == "cannot be told"
    assert "(CHG at 3.6% and CHH at 2.8%) tell an animal from a plant" in row["reason"]
    assert abs(quality.bias["strand_difference"][0]) < 0.01
