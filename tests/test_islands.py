"""CpG islands: a reference in plain Python, sequences worked by hand, and real methylomes."""

import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from melisma import progress
from melisma.cli import main
from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.islands import RULES, Rule, cpg_islands, merge_overlapping, shelves, shores

DATA = Path(__file__).parents[2] / "shared" / "data"
IMR90 = DATA / "vendorable" / "imr90_chr22"
HG18 = DATA / "reference" / "methylkit_hg18"
LADDER = DATA / "reference" / "modkit" / "CGI_ladder_3.6kb_ref.fa"
HM27 = DATA / "reference" / "hm27_brain" / "hm27_sequences.tsv.gz"


def genome_of(**contigs: str) -> Genome:
    bases = {name: np.frombuffer(text.upper().encode(), np.uint8) for name, text in contigs.items()}
    lengths = {name: len(text) for name, text in contigs.items()}
    return Genome("toy", lengths, lambda name, start, end: bases[name][start:end])


def places(table: pl.DataFrame) -> list[tuple[int, int]]:
    return table.select("start", "end").rows()


# The reference: strings and counts, one window at a time, no sharing with the kernels.


def fits(text: str, rule: Rule, min_cpgs: int) -> bool:
    c, g, cpgs = text.count("C"), text.count("G"), text.count("CG")
    if not c or not g or cpgs < min_cpgs:
        return False
    known = sum(text.count(base) for base in "ACGT")
    enough = cpgs * known / (c * g) >= rule.min_observed_expected
    return enough and (c + g) / len(text) >= rule.min_gc


def stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    left = len(piece) - len(re.sub("^[^ACGT]+", "", piece))
    return (
        (start + left, start + len(re.sub("[^ACGT]+$", "", piece)))
        if left < len(piece)
        else (
            end,
            end,
        )
    )


def reference(text: str, rule: Rule) -> list[tuple[int, int]]:
    text, w = text.upper(), rule.window

    def fit(start: int, end: int, cpgs: int = rule.min_cpgs) -> bool:
        return fits(text[start:end], rule, cpgs)

    found: list[tuple[int, int]] = []
    if rule.gap is None:
        good = [fit(i, i + w) for i in range(len(text) - w + 1)]
        for run in re.finditer("1+", "".join("01"[x] for x in good)):
            if run.end() - run.start() >= rule.min_length:
                found += [(run.start() + w // 2, run.end() + w // 2)]
    else:
        at = 0
        while at + w <= len(text):
            if not fit(at, at + w):
                at += 1
                continue
            last = at
            while last + 2 * w <= len(text) and fit(last + w, last + 2 * w):
                last += w
            back = min(last + w, len(text) - w)
            while not fit(back, back + w):
                back -= 1
            end = start_over = back + w
            start = at
            while end - start >= w and not fit(start, end):
                start, end = start + 1, end - 1
            if end - start >= w:
                if found and start - found[-1][1] < rule.gap and fit(found[-1][0], end):
                    found[-1] = (found[-1][0], end)
                else:
                    found.append((start, end))
            at = start_over
    found = [stripped(text, *place) for place in found]
    return [(s, e) for s, e in found if e - s >= rule.min_length and fit(s, e)]


# Short windows, so that short sequences have islands, joins, trims and ends of every kind.
SMALL = [
    Rule(10, 20, 0.55, 0.65, min_cpgs=1, gap=6),
    Rule(8, 8, 0.5, 0.6, gap=30),
    Rule(6, 9, 0.5, 0.6),
    Rule(7, 3, 0.4, 1.0),
]
PIECE = st.sampled_from(["CG", "GC", "A", "T", "ACG", "TTTT", "CCCC", "GGG", "N", "NNNN", "R"])
SEQUENCE = st.lists(PIECE, max_size=80).map("".join)


@pytest.mark.parametrize("rule", SMALL, ids=str)
@settings(max_examples=150, deadline=None)
@given(text=SEQUENCE)
def test_kernels_equal_the_reference(rule, text):
    assert places(cpg_islands(genome_of(c=text or "A"), rule)) == reference(text or "A", rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_published_rules_equal_the_reference_on_simulated_sequence(rule, seed):
    random = np.random.default_rng(seed)
    parts: list[str] = []
    for _ in range(30):
        gc, size = random.uniform(0.35, 0.75), random.integers(50, 900)
        p = [(1 - gc) / 2, gc / 2, gc / 2, (1 - gc) / 2]
        part = "".join(random.choice(list("ACGT"), size, p=p))
        if random.random() < 0.5:
            part = part.replace("CG", "TG")
        parts.append(part if random.random() < 0.9 else "N" * int(size // 6))
    text = "".join(parts)
    expected = reference(text, RULES[rule])
    assert len(expected) > 1
    assert places(cpg_islands(genome_of(c=text), rule)) == expected


def test_table_of_an_island():
    text = "AT" * 300 + "ACG" * 250 + "AT" * 300
    table = cpg_islands(genome_of(chr1=text, chr2="A"))
    # A window of 200 needs 110 of G and C: 165 bases from the left side, 164 from the right one.
    start, end = 600 + 165 - 200, 1350 - 164 + 200
    assert table.columns == [
        "contig", "start", "end", "strand", "name", "length", "cpgs", "gc", "observed_expected",
    ]  # fmt: skip
    assert table.rows() == [
        ("chr1", start, end, 0, f"chr1:{start}-{end}", end - start, 250, 500 / 821, 821 / 250)
    ]
    assert table.schema["strand"] == pl.Int8


def test_nothing_is_an_empty_table_with_the_columns():
    table = cpg_islands(genome_of(chr1="AT" * 400, chr2="CG"))
    assert table.is_empty()
    assert table.schema == cpg_islands(genome_of(c="CG" * 400)).schema


def test_case_does_not_matter(tmp_path):
    text = "at" * 300 + "aCg" * 250 + "AT" * 300
    for name, sequence in (("lower", text), ("upper", text.upper())):
        (tmp_path / f"{name}.fa").write_text(f">chr1\r\n{sequence}")
    lower, upper = (cpg_islands(Genome.open(tmp_path / f"{n}.fa")) for n in ("lower", "upper"))
    assert lower.equals(upper)
    assert len(lower) == 1


def test_a_whole_contig_is_an_island_and_its_ends_are_reached():
    assert places(cpg_islands(genome_of(c="CG" * 250))) == [(0, 500)]
    assert places(cpg_islands(genome_of(c="CG" * 249 + "C"))) == []
    # The average at a base is that of the 100 bases around it: 50 are lost on each side.
    assert places(cpg_islands(genome_of(c="CG" * 250), "gardiner-garden")) == [(50, 451)]


def test_unknown_bases_count_against_an_island_and_do_not_end_it():
    assert places(cpg_islands(genome_of(c="N" * 30 + "CG" * 300 + "N" * 300))) == [(30, 630)]
    inside = "CG" * 150 + "N" * 50 + "CG" * 150
    (island,) = cpg_islands(genome_of(c=inside)).iter_rows(named=True)
    assert (island["start"], island["end"], island["cpgs"]) == (0, 650, 300)
    assert island["gc"] == pytest.approx(600 / 650)
    assert island["observed_expected"] == pytest.approx(300 * 600 / 300**2)
    assert places(cpg_islands(genome_of(c="N" * 2000))) == []


def test_islands_are_joined_only_where_the_whole_still_fits():
    rich = "CG" * 300
    assert len(cpg_islands(genome_of(c=rich + "AT" * 40 + rich))) == 1
    assert len(cpg_islands(genome_of(c=rich + "AT" * 400 + rich))) == 2


def test_gc_without_cpgs_is_no_island():
    assert cpg_islands(genome_of(c="CCCTGGG" * 200)).is_empty()
    # "Mathematical" islands: one G, one CpG, and observed over expected near 1.
    text = ("C" * 150 + "CG" + "A" * 48) * 5
    assert fits(text[:200], RULES["takai-jones"], 0)
    assert cpg_islands(genome_of(c=text)).is_empty()


def test_contigs_are_chosen_by_any_of_their_names():
    genome = genome_of(chr1="CG" * 300, chr2="CG" * 300, chr3="CG" * 300)
    said: list[str] = []

    class Notes:
        def stage(self, name, total):
            from contextlib import nullcontext

            return nullcontext(lambda _: None)

        def note(self, text):
            said.append(text)

    with progress.reporting(Notes()):
        table = cpg_islands(genome, contigs=["3", "chr1"])
    assert table["contig"].to_list() == ["chr1", "chr3"]
    assert said == ["Contigs as genome toy names them: '3' is 'chr3'."]
    with pytest.raises(MelismaError, match="no contig 'chr9'; it has chr1, chr2, chr3"):
        cpg_islands(genome, contigs=["chr9"])
    with pytest.raises(MelismaError, match="no rule 'ucsc'.*takai-jones or gardiner-garden"):
        cpg_islands(genome, "ucsc")


# Shores and shelves


def intervals(*rows: tuple[str, int, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["contig", "start", "end"], orient="row")


def test_shores_and_shelves_of_one_island():
    one = intervals(("chr1", 10_000, 11_000))
    assert shores(one).rows() == [
        ("chr1", 8_000, 10_000, 0, "chr1:10000-11000", "before"),
        ("chr1", 11_000, 13_000, 0, "chr1:10000-11000", "after"),
    ]
    assert places(shelves(one)) == [(6_000, 8_000), (13_000, 15_000)]


def test_shores_end_with_the_contig():
    one = intervals(("chr1", 1_500, 2_000), ("chr2", 0, 100))
    lengths = {"chr1": 2_500, "chr2": 100}
    assert shores(one, lengths).select("contig", "start", "end").rows() == [
        ("chr1", 0, 1_500),
        ("chr1", 2_000, 2_500),
    ]
    assert shelves(one, lengths).is_empty()
    assert shores(one, {"chr2": 100})["end"].to_list() == [1_500, 4_000]


def test_a_gap_between_islands_is_shared():
    two = intervals(("c", 10_000, 11_000), ("c", 14_000, 15_000), ("c", 14_500, 16_000))
    assert places(shores(two)) == [
        (8_000, 10_000),
        (11_000, 12_500),
        (12_500, 14_000),
        (16_000, 18_000),
    ]
    assert places(shelves(two)) == [(6_000, 8_000), (18_000, 20_000)]


SPANS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 30_000), st.integers(1, 3_000)), max_size=8
)


@settings(max_examples=100, deadline=None)
@given(spans=SPANS)
def test_every_base_is_what_its_distance_to_the_nearest_island_says(spans):
    islands = intervals(*((c, s, s + n) for c, s, n in spans)).cast({"contig": pl.String})
    lengths = {"a": 33_000, "b": 34_000}
    # Every fifth base is looked at.
    for contig, length in lengths.items():
        at = np.arange(0, length, 5)
        distance = np.full(length // 5 + (length % 5 > 0), 1 << 30)
        for c, start, end in islands.rows():
            if c == contig:
                away = np.maximum(np.maximum(start - at, at - end + 1), 0)
                distance = np.minimum(distance, away)
        for table, low, high in ((shores(islands, lengths), 0, 2_000),
                                 (shelves(islands, lengths), 2_000, 4_000)):  # fmt: skip
            inside = np.zeros(len(at), int)
            for start, end in places(table.filter(pl.col("contig") == contig)):
                inside += (at >= start) & (at < end)
            assert np.array_equal(inside, (distance > low) & (distance <= high))


def test_merging_keeps_the_first_name_and_the_order_of_contigs():
    table = intervals(("b", 5, 9), ("a", 1, 3), ("b", 1, 5), ("b", 2, 3), ("b", 20, 30))
    merged = merge_overlapping(table.with_columns(name=pl.Series(list("vwxyz"))))
    assert merged.drop("order").rows() == [
        ("b", 1, 9, 0, "x"),
        ("b", 20, 30, 0, "z"),
        ("a", 1, 3, 0, "w"),
    ]


# The verb


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    return int(done.value.code or 0)


def test_the_verb_writes_bed_and_tsv(tmp_path, capsys):
    genome = tmp_path / "toy.fa"
    genome.write_text(f">chr1\n{'CG' * 300}\n>chr2\n{'CG' * 300}\n")
    assert run("islands", str(genome), "--contig", "chr2", "-o", str(tmp_path / "i.bed")) == 0
    printed = capsys.readouterr().out
    assert "takai-jones: 1 CpG island of 600 bases" in printed
    assert "i.bed, 1 island." in printed
    assert (tmp_path / "i.bed").read_text() == "chr2\t0\t600\tchr2:0-600\n"
    out = tmp_path / "i.tsv"
    assert run("islands", str(genome), "--rule", "gardiner-garden", "-o", str(out)) == 0
    assert pl.read_csv(out, separator="\t")["end"].to_list() == [551, 551]
    assert run("islands", str(genome), "--rule", "x") == 2
    assert "There is no rule 'x'" in capsys.readouterr().err
    assert run("islands", str(genome), "-o", "x.xls") == 2


# Real data

needs_imr90 = pytest.mark.skipif(not IMR90.exists(), reason="no ../shared/data/vendorable")


@pytest.fixture(scope="module")
def chr22() -> Genome:
    return Genome.open(IMR90 / "chr22.hg19.fa.gz")


@pytest.mark.reference
@needs_imr90
def test_islands_are_less_methylated_than_their_surroundings(chr22):
    """IMR90, both replicates. Rows without a methylated read are missing from the data, so an
    island's CpGs should be seldom recorded, and at a lower level where they are."""
    calls = pl.read_csv(IMR90 / "calls.tsv.gz", separator="\t")
    bases = chr22.bases("chr22")
    cpgs = np.flatnonzero((bases[:-1] == ord("C")) & (bases[1:] == ord("G")))
    at = calls["start"].to_numpy()
    methylated, coverage = (
        calls.select(a + b for a, b in [(pl.col(f"rep1_{x}"), pl.col(f"rep2_{x}"))])
        .to_series()
        .to_numpy()
        for x in ("methylated", "coverage")
    )
    level = methylated / np.maximum(coverage, 1)
    islands = cpg_islands(chr22)
    share, mean = {}, {}
    for name, table in {
        "island": islands,
        "shore": shores(islands, chr22.lengths),
        "shelf": shelves(islands, chr22.lengths),
    }.items():
        start, end = (table.sort("start")[x].to_numpy() for x in ("start", "end"))

        def within(position, start=start, end=end):
            k = np.searchsorted(start, position, "right") - 1
            return (k >= 0) & (position < end[np.maximum(k, 0)])

        share[name] = np.isin(cpgs[within(cpgs)], at).mean()
        mean[name] = level[within(at) & np.isin(at, cpgs)].mean()
    assert len(islands) == 305
    assert share["island"] < 0.5 * share["shore"]
    assert share["shore"] < share["shelf"]
    assert mean["island"] < mean["shore"] < mean["shelf"]


# hg18 to hg19 on chr22, in pieces: where IMR90's rows of the two builds agree in their counts.
LIFTS = (1670000, 1670054, 1621336, 1620000, 1670056, 1613996, 1668667, 1657873, 1653134, 1613994)


@pytest.mark.reference
@needs_imr90
@pytest.mark.skipif(not HG18.exists(), reason="no ../shared/data/reference")
def test_longer_islands_of_ucsc_are_found(chr22):
    """UCSC's islands (hg18, Gardiner-Garden's rule on masked sequence) against Takai and Jones's.

    An island is placed on hg19 where exactly one shift gives as many CpGs as its name says,
    between a CG at its start and one at its end.
    """
    bases = chr22.bases("chr22").tobytes()
    found = cpg_islands(chr22)
    start, end = found["start"].to_numpy(), found["end"].to_numpy()
    placed = hit = 0
    for line in (HG18 / "cpgi.hg18.bed.txt").read_text().splitlines():
        contig, first, last, name = line.split("\t")
        if contig != "chr22" or int(last) - int(first) < 500:
            continue
        fitting = []
        for shift in LIFTS:
            s, e = int(first) + shift, int(last) + shift
            piece = bases[s:e]
            if piece[:2] == piece[-2:] == b"CG" and f"_{piece.count(b'CG')}" == name[4:]:
                fitting.append((s, e))
        if len(fitting) == 1:
            placed += 1
            s, e = fitting[0]
            hit += bool(((start < e) & (end > s)).any())
    assert (hit, placed) == (65, 74)


@pytest.mark.reference
@pytest.mark.skipif(not LADDER.exists(), reason="no ../shared/data/reference")
def test_the_ladder_of_island_fragments(tmp_path):
    """Oligonucleotides from CpG islands, 156 bp to 3.6 kb: those of 500 bases or more."""
    shutil.copy(LADDER, tmp_path / "ladder.fa")
    genome = Genome.open(tmp_path / "ladder.fa")
    for rule in RULES:
        expected = {
            contig: reference(genome.bases(contig).tobytes().decode(), RULES[rule])
            for contig in genome.contigs
        }
        table = cpg_islands(genome, rule)
        assert {c: places(table.filter(pl.col("contig") == c)) for c in genome.contigs} == expected


@pytest.mark.reference
@pytest.mark.skipif(not HM27.exists(), reason="no ../shared/data/reference")
def test_probes_in_islands_look_like_islands():
    """27,578 stretches of 122 bases: Illumina's island flag against the thresholds of 1987."""
    with gzip.open(HM27, "rt") as file:
        table = pl.read_csv(file.read().encode(), separator="\t")
    rule = RULES["gardiner-garden"]
    text = table["top_seq122"].str.replace_all(r"[\[\]]", "")
    looks = np.array([fits(sequence, rule, 0) for sequence in text])
    flagged = (table["cpg_island"].cast(pl.String).str.to_lowercase() == "true").to_numpy()
    inside, outside = looks[flagged].mean(), looks[~flagged].mean()
    assert inside > 2 * outside, (inside, outside)
