"""What places lie in and near: by hand, against brute force, and the null of enrichment."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma._overlaps import nearest, overlap_any, overlap_pairs
from melisma.annotate import annotate, enrichment, feature_sets, read_places
from melisma.cli import main
from melisma.errors import MelismaError
from melisma.genes import read_genes
from melisma.methylome import dataset, write

GTF = """\
chr1\thand\texon\t2001\t2300\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_name "ABC";
chr1\thand\texon\t3001\t3400\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_name "ABC";
chr1\thand\tCDS\t2101\t2300\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_name "ABC";
chr1\thand\tCDS\t3001\t3200\t.\t+\t.\tgene_id "g1"; transcript_id "t1"; gene_name "ABC";
chr1\thand\texon\t9001\t9500\t.\t-\t.\tgene_id "g2"; transcript_id "t2"; gene_name "XYZ";
"""


@pytest.fixture
def genes(tmp_path):
    (tmp_path / "genes.gtf").write_text(GTF)
    return read_genes(tmp_path / "genes.gtf")


def places(*spans, contig="chr1"):
    return pl.DataFrame(
        {
            "contig": [contig] * len(spans),
            "start": [s for s, _ in spans],
            "end": [e for _, e in spans],
        }
    )


def test_locations_by_hand(genes):
    table = places(
        (1500, 1501),  # 500 before g1: promoter
        (2050, 2051),  # before the coding sequence
        (2150, 2151),
        (2500, 2501),  # between the exons
        (3300, 3301),  # after the coding sequence
        (9100, 9101),  # an exon of a gene that codes nothing
        (9700, 9701),  # upstream of g2, which runs backwards
        (6000, 6001),
        (1999, 2001),  # the promoter's last base and the first of the transcript
    )
    found = annotate(table, genes=genes)
    assert found["location"].to_list() == [
        "promoter", "five_prime_UTR", "CDS", "intron", "three_prime_UTR", "exon", "promoter",
        "intergenic", "promoter",
    ]  # fmt: skip
    assert found["nearest_name"].to_list() == ["ABC"] * 5 + ["XYZ", "XYZ", "XYZ", "ABC"]
    # Starts are at 2000 (+) and 9499 (-).
    assert found["tss_distance"].to_list() == [-500, 50, 150, 500, 1300, 399, -201, 3499, 0]
    assert found["genes"].to_list() == ["ABC"] * 5 + ["XYZ", "XYZ", None, "ABC"]
    assert found["nearest_gene"].to_list()[:1] == ["g1"]


def test_promoters_are_as_long_as_asked(genes):
    near = annotate(places((1500, 1501), (2100, 2101)), genes=genes, upstream=300, downstream=200)
    assert near["location"].to_list() == ["intergenic", "promoter"]


def test_island_relations_end_where_shores_and_shelves_do():
    islands = pl.DataFrame({"contig": ["chr1"], "start": [10_000], "end": [11_000], "name": ["i"]})
    spans = [(10_999, 11_000), (11_000, 11_001), (12_999, 13_000), (13_000, 13_001),
             (14_999, 15_000), (15_000, 15_001), (7_999, 8_000), (8_000, 8_001)]  # fmt: skip
    found = annotate(places(*spans), islands=islands)
    assert found["island_relation"].to_list() == [
        "island", "shore", "shore", "shelf", "shelf", "open sea", "shelf", "shore",
    ]  # fmt: skip
    assert found["island_distance"].to_list() == [0, 1, 2000, 2001, 4000, 4001, 2001, 2000]
    assert found["island"].to_list() == ["i"] * 5 + [None, "i", "i"]
    elsewhere = pl.concat([places((1, 2)), places((1, 2), contig="chrM")])
    told = annotate(elsewhere, islands=islands)
    assert told["island_relation"].to_list() == ["open sea"] * 2
    assert told["island_distance"].to_list() == [9999, None]


def test_beds_and_columns_that_are_kept():
    peaks = places((5, 10), (8, 30), (100, 200)).with_columns(name=pl.Series(["a", "b", "c"]))
    table = pl.DataFrame({"contig": ["chr1"] * 3, "position": [9, 50, 99], "q": [0.1, 0.2, 0.3]})
    found = annotate(table, beds={"peaks": peaks})
    assert found["peaks"].to_list() == ["a, b", None, None]
    assert found["peaks_distance"].to_list() == [0, 21, 1]
    assert found["q"].to_list() == [0.1, 0.2, 0.3]
    with pytest.raises(MelismaError, match="annotated before"):
        annotate(found, beds={"peaks": peaks})


def test_many_names_are_cut():
    many = places(*[(0, 10)] * 8).with_columns(name=pl.Series([f"n{k}" for k in range(8)]))
    assert annotate(places((3, 4)), beds={"b": many})["b"].item() == "n0, n1, n2, n3, n4 and 3 more"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pl.DataFrame({"chrom": ["chr1"], "start": [1]}), "places need contig"),
        (pl.DataFrame({"contig": ["chr1"], "start": [1.5], "end": [2.5]}), "whole numbers"),
        (places((1, 2), contig="chr9"), "none is shared"),
    ],
)
def test_bad_tables(table, words):
    peaks = places((5, 10)).with_columns(name=pl.lit("a"))
    with pytest.raises(MelismaError, match=words):
        annotate(table, beds={"peaks": peaks})


def test_nothing_to_annotate_with():
    with pytest.raises(MelismaError, match="nothing to annotate with"):
        annotate(places((1, 2)))


SPANS = st.lists(
    st.tuples(st.sampled_from(["chr1", "chr2"]), st.integers(0, 60), st.integers(1, 12)),
    min_size=1,
    max_size=25,
)


def table_of(spans):
    return pl.DataFrame(
        {
            "contig": [c for c, _, _ in spans],
            "start": [s for _, s, _ in spans],
            "end": [s + n for _, s, n in spans],
        }
    )


@given(SPANS, SPANS)
@settings(max_examples=60, deadline=None)
def test_overlaps_and_nearest_equal_brute_force(left, right):
    a, b = table_of(left), table_of(right)
    pairs, near, any_ = [], [], []
    for i, (c, s, n) in enumerate(left):
        apart = {}
        for j, (d, t, m) in enumerate(right):
            if c == d:
                gap = max(t - (s + n), s - (t + m)) + 1
                apart[j] = max(gap, 0)
                if gap <= 0:
                    pairs.append((i, j))
        near.append(min(apart.values()) if apart else None)
        any_.append(bool(apart) and min(apart.values()) == 0)
    assert overlap_pairs(a, b).rows() == pairs
    assert overlap_any(a, b).tolist() == any_
    found = nearest(a, b)
    for i, expected in enumerate(near):
        assert (found.row[i] < 0) == (expected is None)
        if expected is not None:
            assert abs(found.distance[i]) == expected
            d, t, m = right[found.row[i]]
            c, s, n = left[i]
            assert d == c
            assert max(t - (s + n) + 1, s - (t + m) + 1, 0) == expected
            assert np.sign(found.distance[i]) == (0 if not expected else 1 if t > s else -1)


@pytest.fixture(scope="module")
def methylome():
    """60,000 sites, dense in the first 500 bases of every 5,000; denser sites are deeper."""
    rng = np.random.default_rng(3)
    dense = (np.arange(1000)[:, None] * 5000 + np.sort(rng.choice(500, (1000, 40)), axis=1)).ravel()
    sparse = rng.integers(0, 5_000_000, 20_000)
    position = np.unique(np.concatenate([dense, sparse]))
    depth = np.where(position % 5000 < 500, 30, 10)
    coverage = rng.poisson(depth[:, None], (len(position), 4)).astype(np.uint16)
    return dataset(
        {"contig": np.zeros(len(position)), "position": position},
        {"methylated": coverage // 2, "coverage": coverage},
        {"sample": list("abcd")},
        contigs=["chr1"],
        strands="merged",
    )


def test_density_alone_is_no_enrichment(methylome):
    """Places in dense stretches meet what lies there, and no more than matched places do."""
    rng = np.random.default_rng(5)
    position = methylome["position"].values
    inside = position[position % 5000 < 500]
    half = rng.random(1000) < 0.5
    features = places(*[(k * 5000, k * 5000 + 500) for k in np.flatnonzero(half)])
    small = []
    for _ in range(20):
        chosen = np.sort(rng.choice(inside, 40, replace=False))
        found = enrichment(places(*[(p, p + 1) for p in chosen]), methylome, {"f": features},
                           draws=199, seed=1)  # fmt: skip
        # Unmatched, 6 in 10 sites lie in dense stretches and half of these in a feature.
        assert 14 < found["expected"].item() < 26
        small.append(found["p"].item() < 0.05)
    assert sum(small) <= 4


def test_enrichment_finds_what_is_there(methylome):
    position = methylome["position"].values
    chosen = position[(position % 10_000 < 500)][::60]
    features = places(*[(k * 10_000, k * 10_000 + 500) for k in range(500)])
    table = places(*[(p, p + 1) for p in chosen])
    found = enrichment(table, methylome, {"even": features, "odd": features.with_columns(
        pl.col("start", "end") + 5000)}, draws=199)  # fmt: skip
    even, odd = found.rows(named=True)
    assert even["observed"] == even["clusters"]
    assert even["fold"] > 1.5
    assert even["p"] == pytest.approx(2 / 200)
    assert odd["observed"] == 0
    assert odd["p"] == pytest.approx(2 / 200)
    again = enrichment(table.sample(fraction=1.0, shuffle=True, seed=2), methylome,
                       {"even": features}, draws=199)  # fmt: skip
    assert again["expected"].item() == even["expected"]


def test_neighbours_are_one_cluster(methylome):
    position = methylome["position"].values
    near = position[position < 900]
    assert len(near) > 30
    table = places(*[(p, p + 1) for p in near], (int(position[20_000]), int(position[20_000]) + 1))
    found = enrichment(table, methylome, {"f": places((0, 10_000))}, draws=99)
    assert found["clusters"].item() == 2
    with pytest.raises(MelismaError, match="at least 2"):
        enrichment(table.head(3), methylome, {"f": places((0, 10_000))}, draws=99)


def run(capsys, *arguments, code=0):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    assert (ended.value.code or 0) == code
    printed = capsys.readouterr()
    return printed.out if not code else printed.err


def test_the_verb(tmp_path, methylome, capsys):
    write(methylome, tmp_path / "s.zarr")
    (tmp_path / "genes.gtf").write_text(GTF.replace("chr1", "1"))
    (tmp_path / "i.bed").write_text("chr1\t0\t500\ncpg\t1\t2\n".replace("cpg", "chr2"))
    sites = places((0, 300), (1500, 1900), (9100, 9400), (4_000_000, 4_000_400)).with_columns(
        q=pl.Series([0.01, 0.02, 0.01, 0.9])
    )
    sites.write_csv(tmp_path / "sites.tsv", separator="\t")
    shown = run(
        capsys, "annotate", tmp_path / "sites.tsv", "--genes", tmp_path / "genes.gtf", "--islands",
        tmp_path / "i.bed", "--bed", f"mine={tmp_path / 'i.bed'}", "--store", tmp_path / "s.zarr",
        "--draws", 99, "-o", tmp_path / "out.tsv", "--enrichment", tmp_path / "e.parquet",
    )  # fmt: skip
    assert "of 3 with q < 0.05" in shown
    assert "promoter" in shown
    out = pl.read_csv(tmp_path / "out.tsv", separator="\t")
    assert out["location"].to_list() == ["intergenic", "promoter", "exon", "intergenic"]
    assert out["mine_distance"].to_list()[:2] == [0, 1001]
    told = pl.read_parquet(tmp_path / "e.parquet")
    assert told["feature"].to_list() == [
        "promoter", "exon", "intron", "gene", "island", "shore", "shelf", "mine",
    ]  # fmt: skip


def test_regions_in_uneven_coverage_are_not_depleted(methylome):
    """Regions dense in sites, as in RRBS, are compared with such, not with as many sparse sites."""
    position = methylome["position"].values
    starts = position[position % 5000 < 500][::40] // 5000 * 5000
    # Features lie between the dense stretches: a dense region of 500 bases never meets one.
    features = places(*[(k * 5000 + 2000, k * 5000 + 4000) for k in range(1000)])
    rng = np.random.default_rng(2)
    for _ in range(5):
        chosen = np.sort(rng.choice(np.unique(starts), 8, replace=False))
        found = enrichment(places(*[(s, s + 500) for s in chosen]), methylome, {"f": features},
                           draws=199)  # fmt: skip
        assert found["expected"].item() < 0.5
        assert found["p"].item() > 0.5


def test_probes_without_positions(tmp_path, capsys):
    (tmp_path / "a.bed").write_text("chr1\t0\t500\tx\n")
    bare = pl.DataFrame({"probe": ["cg1", "cg2"], "contig": [None, None], "position": [None, None]})
    bare.write_csv(tmp_path / "t.tsv", separator="\t")
    told = run(capsys, "annotate", tmp_path / "t.tsv", "--bed", f"a={tmp_path / 'a.bed'}", code=2)
    assert "--manifest" in told
    some = pl.DataFrame({"contig": [None, "chr1"], "position": [None, 10], "q": [0.5, 0.9]})
    peaks = places((0, 500)).with_columns(name=pl.lit("x"))
    found = annotate(some, beds={"a": peaks})
    assert found.select("q", "a", "a_distance").rows() == [(0.5, None, None), (0.9, "x", 0)]


def test_nothing_called_is_said(tmp_path, methylome, capsys):
    write(methylome, tmp_path / "s.zarr")
    (tmp_path / "a.bed").write_text("chr1\t0\t500\tx\n")
    places((0, 300)).with_columns(q=0.9).write_csv(tmp_path / "t.tsv", separator="\t")
    shown = run(capsys, "annotate", tmp_path / "t.tsv", "--bed", f"a={tmp_path / 'a.bed'}",
                "--store", tmp_path / "s.zarr", "-o", tmp_path / "o.tsv")  # fmt: skip
    assert "No place has q < 0.05" in shown
    assert pl.read_csv(tmp_path / "o.tsv", separator="\t")["a"].to_list() == ["x"]


def test_a_bed_is_no_genes(tmp_path):
    (tmp_path / "b.bed").write_text("chr1\t0\t500\tx\t0\t+\t0\t500\t0\t1\t500,\t0,\n")
    with pytest.raises(MelismaError, match="--bed NAME=FILE"):
        read_genes(tmp_path / "b.bed")


def test_the_verb_refuses(tmp_path, capsys):
    (tmp_path / "a.bed").write_text("chr1\t0\t500\n")
    bed = tmp_path / "a.bed"
    told = run(capsys, "annotate", bed, "--bed", "no_name", code=2)
    assert "should be NAME=FILE" in told
    assert "nothing to annotate with" in run(capsys, "annotate", bed, code=2)
    assert "There is no table" in run(capsys, "annotate", tmp_path / "b.tsv", code=2)
    told = run(capsys, "annotate", bed, "--bed", f"a={bed}", "--bed", f"a={bed}", code=2)
    assert "twice" in told
    told = run(capsys, "annotate", bed, "--bed", f"a={bed}", "--enrichment", "e.tsv", code=2)
    assert "needs --store" in told


def test_tables_are_read_as_they_are_written(tmp_path):
    table = pl.DataFrame({"contig": ["1", "2"], "start": [1, 2], "end": [3, 4], "p": [0.1, None]})
    table.write_parquet(tmp_path / "t.parquet")
    table.write_csv(tmp_path / "t.tsv", separator="\t")
    table.write_csv(tmp_path / "t.csv")
    assert read_places(tmp_path / "t.parquet").rows() == table.rows()
    assert read_places(tmp_path / "t.csv")["end"].to_list() == [3, 4]
    with pytest.raises(MelismaError, match="cannot be read"):
        (tmp_path / "bad.parquet").write_text("no")
        read_places(tmp_path / "bad.parquet")


def test_feature_sets(genes):
    sets = feature_sets(genes, None, {})
    assert list(sets) == ["promoter", "exon", "intron", "gene"]
    assert sets["intron"].select("start", "end").rows() == [(2300, 3000)]
