"""Variants on a small genome with a model that can be worked by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.sequence.environment import Environment
from melisma.sequence.variants import Variant, read_variants, variant_effects

#            0         1         2
#            0123456789012345678901234567
SEQUENCE = "AATTCGATTAACCGGTTACATGAATTTT"


class Counting:
    """A stand-in whose level is the share of A in the window: answers can be counted."""

    def __init__(self, width=9, merged=True):
        self.config = SimpleNamespace(width=width, heads=("m",), surroundings=())
        self.environment = Environment()
        self.record = {"contexts": ["CG"], "strands": "merged" if merged else "separate"}

    def predict(self, codes, told, surroundings=None):
        return SimpleNamespace(level=(codes == 0).mean(axis=1, keepdims=True).astype(np.float32))


@pytest.fixture
def genome(tmp_path):
    (tmp_path / "g.fa").write_text(f">c1\n{SEQUENCE}\n")
    return Genome.open(tmp_path / "g.fa")


def effects(genome, *alleles, **options):
    rows = [Variant("c1", p, r, a, f"v{k}") for k, (p, r, a) in enumerate(alleles)]
    table, skipped = variant_effects(Counting(), genome, rows, **options)
    return table.select("site", "change", "level_reference", "level_alternative").rows(), skipped


def test_a_substitution_beside_a_site(genome):
    # CpG at 4: its window is 0 to 8, AATTCGATT: three A; with A at 3 four.
    rows, _ = effects(genome, (3, "T", "A"))
    assert rows == [(4, "kept", pytest.approx(3 / 9), pytest.approx(4 / 9))]
    table, _ = variant_effects(Counting(), genome, [Variant("c1", 3, "T", "A", "v")])
    assert table["delta"].item() == pytest.approx(1 / 9)


def test_sites_are_lost_and_gained(genome):
    # C of the CpG at 4; G of the same; a T before G becomes C: a CpG at 20.
    assert effects(genome, (4, "C", "T"), reach=0)[0] == [(4, "lost", pytest.approx(3 / 9), None)]
    lost = effects(genome, (5, "G", "A"), reach=1)[0]
    assert lost == [(4, "lost", pytest.approx(3 / 9), None)]
    # 16 to 24 TACACGAAT: four A; reference T there.
    assert effects(genome, (20, "T", "C"), reach=0)[0] == [
        (20, "gained", None, pytest.approx(4 / 9))
    ]


def test_insertions_and_deletions_move_what_comes_after(genome):
    # AAA put in after base 2 (T>TAAA): the site is at 7 there, its window 3 to 11, AAATCGATT.
    rows, _ = effects(genome, (2, "T", "TAAA"), reach=4)
    assert rows == [(4, "kept", pytest.approx(3 / 9), pytest.approx(4 / 9))]
    # A CG put in is gained without a place on the reference.
    rows, _ = effects(genome, (8, "T", "TCG"), reach=0)
    assert [row[:2] for row in rows] == [(None, "gained")]
    rows, _ = effects(genome, (3, "TCG", "T"), reach=0)
    assert [row[:2] for row in rows] == [(4, "lost")]


def test_exchanging_the_alleles_negates_the_difference(genome, tmp_path):
    for position, reference, alternative in ((3, "T", "A"), (2, "T", "TAAA"), (6, "AT", "A")):
        there = SEQUENCE[:position] + alternative + SEQUENCE[position + len(reference) :]
        (tmp_path / "h.fa").write_text(f">c1\n{there}\n")
        other = Genome.open(tmp_path / "h.fa")
        one, _ = variant_effects(
            Counting(), genome, [Variant("c1", position, reference, alternative, "v")]
        )
        two, _ = variant_effects(
            Counting(), other, [Variant("c1", position, alternative, reference, "v")]
        )
        assert len(one) > 0
        assert one["delta"].to_list() == pytest.approx([-d for d in two["delta"].to_list()])


def test_both_strands_are_sites_where_they_were_not_merged(genome):
    table, _ = variant_effects(
        Counting(merged=False), genome, [Variant("c1", 3, "T", "A", "v")], reach=2
    )
    assert table.select("site", "strand").rows() == [(4, "+"), (5, "-")]


def test_another_build_is_refused_and_single_rows_are_counted(genome):
    wrong = [Variant("c1", 3, "G", "A", "v")]
    with pytest.raises(MelismaError, match=r"1 of 1 reference alleles.*c1:4 holds T"):
        variant_effects(Counting(), genome, wrong)
    many = [Variant("c1", 3, "T", "A", "v")] * 20
    odd = [Variant("c9", 3, "T", "A", "v"), Variant("c1", 3, "T", "<DEL>", "v")]
    _, skipped = variant_effects(Counting(), genome, many + wrong + odd)
    assert skipped[:3] == (1, 1, 1)
    with pytest.raises(MelismaError, match="choose 0 to 4"):
        variant_effects(Counting(), genome, many, reach=5)
    with pytest.raises(MelismaError, match="was not told 'tissue'"):
        variant_effects(Counting(), genome, many, environment={"tissue": "brain"})


def test_a_vcf_is_read_allele_by_allele(tmp_path):
    path = tmp_path / "calls.vcf"
    path.write_text(
        "##fileformat=VCFv4.2\n##contig=<ID=c1,length=28>\n"
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        "c1\t4\trs1\tT\tA,C\t.\t.\t.\nc1\t9\t.\tT\tTCG\t.\t.\t.\n"
    )
    assert read_variants(path) == [
        Variant("c1", 3, "T", "A", "rs1"),
        Variant("c1", 3, "T", "C", "rs1"),
        Variant("c1", 8, "T", "TCG", "c1:9"),
    ]
    path.write_text("no vcf at all\n")
    with pytest.raises(MelismaError, match="cannot be read as VCF"):
        read_variants(path)
