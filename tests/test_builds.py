"""Samples of different builds, told by accessions, chromosomes' ends, and the sites they share."""

import numpy as np
import polars as pl
import pytest
from calls_files import SHARED, cov, ingested, put, sheet_of

from melisma.calls import append, ingest
from melisma.calls._builds import fitting
from melisma.calls._kernels import coincidences
from melisma.errors import MelismaError
from melisma.methylome import open_methylome


def refused(tmp_path, *texts, **options):
    with pytest.raises(MelismaError) as caught:
        ingested(tmp_path, *texts, **options)
    assert not (tmp_path / "out.zarr").exists()
    return str(caught.value)


def positions(seed, share=0.02, length=400_000):
    """Sites at random places, as the CpGs of a made-up genome."""
    return np.flatnonzero(np.random.default_rng(seed).random(length) < share)


def calls(places):
    return cov(*((int(p) + 1, 1, 1) for p in places))


def test_which_known_assemblies_fit():
    assert fitting({"chr22": 51_304_565}) == {"hg19"}
    assert fitting({"chr22": 51_304_566}) == set()
    assert fitting({"chr22": 49_000_000, "lambda": 48_000}) == {"hg18", "hg19", "hg38"}
    assert fitting({"chr1": 30_427_670}) >= {"TAIR10", "hg38", "mm10"}
    assert "TAIR10" not in fitting({"1": 30_427_671})
    assert fitting({"chr19": 61_400_000}) == {"hg18", "mm10", "mm39"}
    assert fitting({"lambda": 5}) == fitting({"chrM": 5}) == set()
    assert fitting({"chr1": 5}, ["NC_000001.11"]) == {"hg38"}
    assert fitting({"chr1": 5}, ["NC_000001.11", "NC_000002.11"]) == set()
    assert fitting({"chr1": 5}, ["NC_000001"]) == fitting({"chr1": 5})


def test_calls_past_the_end_of_the_other_samples_build(tmp_path):
    # Ends in hg19 and hg38: chr22 51,304,566 and 50,818,468; chr17 81,195,210 and 83,257,441.
    texts = cov((51_000_000, 1, 1), contig="chr22"), cov((83_000_000, 1, 1), contig="chr17")
    assert refused(tmp_path, *texts) == (
        "Samples a and b are on different genome builds: of the human ones a fits hg19 and b "
        "fits hg38; a has a call at chr22:50,999,999, past the end in hg38. Bring the calls to "
        "one build (align again, or lift them over)."
    )


def test_accessions_against_positions(tmp_path):
    texts = cov((5, 1, 1), contig="NC_000022.11"), cov((51_000_000, 1, 1), contig="chr22")
    assert "a fits hg38 and b fits hg19" in refused(tmp_path, *texts)


def test_an_unknown_genome_is_not_judged_by_its_ends(tmp_path):
    # No known assembly has a chr22 that long; and chr30 is in none of them.
    texts = cov((90_000_000, 1, 1), contig="chr22"), cov((51_000_000, 1, 1), contig="chr22")
    assert "build" not in ingested(tmp_path, *texts).attrs
    texts = cov((5, 1, 1), contig="chr30"), cov((51_000_000, 1, 1), contig="chr22")
    assert "build" not in ingested(tmp_path, *texts).attrs


def test_samples_that_share_no_more_than_chance(tmp_path):
    sentence = refused(tmp_path, calls(positions(1)), calls(positions(2)))
    assert sentence.startswith("Samples a and b share ")
    assert "sites compared on chr1, and chance alone gives " in sentence
    assert "they are on different genome builds" in sentence


@pytest.mark.parametrize("keep", [1.0, 0.3])
def test_thinned_samples_of_one_genome_are_let_through(tmp_path, keep):
    rng = np.random.default_rng(3)
    places = positions(1)
    texts = [calls(places[rng.random(len(places)) < keep]) for _ in range(3)]
    assert ingested(tmp_path, *texts).sizes["sample"] == 3


def test_a_base_that_is_common_is_no_sign(tmp_path):
    """All cytosines of both strands without strands: four of ten bases."""
    rng = np.random.default_rng(3)
    places = positions(1, share=0.4, length=100_000)
    texts = [calls(places[rng.random(len(places)) < 0.5]) for _ in range(2)]
    assert ingested(tmp_path, *texts).sizes["sample"] == 2


def test_few_sites_prove_nothing(tmp_path):
    texts = calls(positions(1, length=20_000)), calls(positions(2, length=20_000))
    assert ingested(tmp_path, *texts).sizes["sample"] == 2


def test_positions_one_apart(tmp_path):
    places = positions(1)
    sentence = refused(tmp_path, calls(places), calls(places + 1))
    assert sentence.startswith(
        "Samples a and b share their sites if every position of a is moved by +1: one of them"
    )


def imr90(name):
    if name == "hg19":
        table = pl.read_csv(
            SHARED / "vendorable" / "imr90_chr22" / "calls.tsv.gz", separator="\t"
        ).select(c="chrom", p=pl.col("start") + 1, n="rep1_coverage", m="rep1_methylated")
    else:
        table = pl.read_csv(
            SHARED / "reference" / "bsseq_chr22_hg18" / "calls.tsv.gz", separator="\t"
        ).select(c="chr", p="pos", n="N.r2", m="M.r2")
    table = table.filter(pl.col("n") > 0)
    return "chr\tpos\tN\tX\n" + table.write_csv(separator="\t", include_header=False)


@pytest.mark.reference
@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is absent")
def test_real_calls_in_hg18_and_hg19(tmp_path):
    sentence = refused(tmp_path, imr90("hg19"), imr90("hg18"))
    assert "sites compared on chr22" in sentence
    assert "they are on different genome builds" in sentence
    alone = ingested(tmp_path, imr90("hg19"))
    assert alone.attrs["build"] == {"name": "hg19", "told_by": "positions"}
    # hg18's chromosome 22 is the shortest: any build could be meant.
    assert "build" not in ingested(tmp_path, imr90("hg18")).attrs


@pytest.mark.reference
@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is absent")
def test_real_samples_of_one_build_are_let_through(tmp_path):
    folder = SHARED / "reference"
    files = sorted((folder / "methylkit_hg18").glob("*myCpG.txt"))
    assert ingest(sheet_of(files), tmp_path / "rrbs.zarr").samples == 4
    files = sorted((folder / "dss_chr18").glob("*.txt.gz"))
    assert ingest(sheet_of(files), tmp_path / "dss.zarr").samples == 4
    # Two nanopore runs, tumour and normal.
    files = sorted((folder / "modkit").glob("lung*.bed.gz"))
    assert ingest(sheet_of(files), tmp_path / "lung.zarr").samples == 2


def test_the_build_of_accessions(tmp_path):
    put(tmp_path / "x.txt", "")
    found = ingested(tmp_path, cov((5, 1, 1), contig="NC_000067.7"))
    assert found.attrs["build"] == {"name": "mm39", "told_by": "accessions"}
    assert "build" not in ingested(tmp_path, cov((5, 1, 1))).attrs


def appended(tmp_path, first, second):
    """The store of the first text, with the second one's calls appended."""
    files = [put(tmp_path / "a.txt", first), put(tmp_path / "b.txt", second)]
    ingest(sheet_of(files[:1]), tmp_path / "s.zarr")
    new = pl.DataFrame({"sample": ["b"], "path": [str(files[1])]})
    return append(tmp_path / "s.zarr", new)


def test_an_appended_sample_of_another_build_is_refused(tmp_path):
    mine, other = positions(1), positions(2)
    with pytest.raises(MelismaError, match=r"Samples of .*s.zarr and b share .* genome builds"):
        appended(tmp_path, calls(mine), calls(other))
    with pytest.raises(MelismaError, match="one of them counts from 0 and the other from 1"):
        append(
            tmp_path / "s.zarr",
            sheet_of([put(tmp_path / "c.txt", calls(mine + 1))]).with_columns(sample=pl.lit("c")),
        )
    assert open_methylome(tmp_path / "s.zarr").sizes["sample"] == 1
    assert not list(tmp_path.glob("s.zarr.part"))
    # Half of the same sites, with some of its own, is of the same build.
    some = np.union1d(mine[::2], other[::9])
    done = append(
        tmp_path / "s.zarr",
        sheet_of([put(tmp_path / "d.txt", calls(some))]).with_columns(sample=pl.lit("d")),
    )
    assert done.samples == 2


@pytest.mark.reference
@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is absent")
def test_real_calls_in_hg18_are_not_appended_to_hg19(tmp_path):
    with pytest.raises(MelismaError, match="compared on chr22.*they are on different genome"):
        appended(tmp_path, imr90("hg19"), imr90("hg18"))


@pytest.mark.parametrize("move", [0, 1, -1, 7])
def test_coincidences_equal_a_set(move):
    rng = np.random.default_rng(3)
    mine, theirs = (np.sort(rng.choice(4000, 900, replace=False)) for _ in range(2))
    expected = len({int(p) + move for p in mine} & {int(p) for p in theirs})
    assert coincidences(mine << 5, theirs << 5, move) == expected
    assert coincidences(mine[:0], theirs, move) == coincidences(mine, theirs[:0], move) == 0
