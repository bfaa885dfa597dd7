"""A study's trace: columns, tables and stores in, edges that add up, refusals, the verb."""

import gzip
import json
import math

import numpy as np
import polars as pl
import pytest
from scipy.stats import false_discovery_control

from melisma import datasets
from melisma.cli import main
from melisma.errors import MelismaError
from melisma.methylome import dataset, write
from melisma.samples import read_columns
from melisma.trace import Trace
from melisma.trace.study import Mediators, Question, read_mediators, store_mediators, trace_study

N = 200


class Called:
    """What a procedure of the composite null gives back."""

    def __init__(self, q, called):
        self.q, self.called = q, called


def largest_p(p_exposure, p_outcome, *, q):
    """Benjamini-Hochberg on the larger p: plain, and conservative."""
    found = false_discovery_control(np.maximum(p_exposure, p_outcome))
    return Called(found, found <= q)


def study(many=3, seed=1, linked=2):
    """A simulated sheet and mediators: smoking moves the first ones, and they the weight."""
    rng = np.random.default_rng(seed)
    smoking = rng.binomial(1, 0.5, N)
    age = rng.normal(50, 8, N)
    levels = 0.5 + 0.05 * rng.normal(size=(N, many))
    levels[:, :linked] -= 0.06 * smoking[:, None]
    expression = 3 - 10 * levels[:, 0] + 0.3 * rng.normal(size=N)
    weight = 70 + 2 * smoking - 20 * levels[:, :linked].sum(1) + expression + rng.normal(size=N)
    rate = np.maximum(0.05 + 0.02 * smoking + 0.05 * (expression + 2), 0.01)
    own, end = rng.exponential(1 / rate), rng.exponential(8, N)
    sheet = {
        "sample": [f"s{k:03d}" for k in range(N)],
        "smoking": ["yes" if s else "no" for s in smoking],
        "age": list(age),
        "centre": [f"c{k % 20}" for k in range(N)],
        "AHRR": list(expression),
        "weight": list(weight),
        "heavy": ["heavy" if w > np.median(weight) else "light" for w in weight],
        "months": list(np.minimum(own, end)),
        "dead": list((own <= end).astype(float)),
    }
    names = tuple(f"cg{k:05d}" for k in range(many))
    return sheet, Mediators(levels, tuple(sheet["sample"]), names, "probe")


def traced(question, sheet=None, mediators=None, **options):
    own, levels = study()
    options = {"bootstraps": 50, "composite": largest_p} | options
    return trace_study(
        own if sheet is None else sheet, levels if mediators is None else mediators,
        question, **options,
    )  # fmt: skip


WEIGHT = Question("smoking=yes", "weight", covariates=("age",))


# ---------------------------------------------------------------- the trace


def test_edges_into_the_outcome_add_up_and_flows_are_kept():
    found = traced(Question("smoking=yes", "weight", covariates=("age",), via="AHRR"))
    trace = found.trace
    assert [(n.name, n.layer, n.kind) for n in trace.nodes] == [
        ("smoking=yes", 0, "exposure"), ("cg00000", 1, "probe"), ("cg00001", 1, "probe"),
        ("cg00002", 1, "probe"), ("AHRR", 2, "expression"), ("weight", 3, "phenotype"),
    ]  # fmt: skip
    assert trace.completeness == pytest.approx(1)
    for node in trace.nodes[1:-1]:
        enters = math.fsum(e.effect for e in trace.into(node.name))
        leaves = math.fsum(e.effect for e in trace.edges if e.source == node.name)
        assert enters == pytest.approx(leaves)
    effects = {(e.source, e.target): e for e in trace.edges}
    onward = effects["cg00000", "AHRR"]
    # The simulated path: -0.06 of level, -10 of expression, 1 of weight.
    assert onward.effect == pytest.approx(0.6, abs=0.25)
    assert onward.evidence["low"] < onward.effect < onward.evidence["high"]
    assert onward.evidence["coefficient"]["value"] == pytest.approx(-10, abs=1.5)
    assert effects["smoking=yes", "cg00000"].evidence["coefficient"]["value"] < -0.03
    assert effects["cg00001", "weight"].evidence["correlation_at_zero"] < -0.3
    assert 0 < effects["cg00001", "weight"].evidence["robustness"] < 1
    assert trace.about["mediated_share"]["value"] == pytest.approx(
        found.mediation.indirect.value / trace.total
    )
    assert "consistent with mediation" in trace.assumptions[0]
    assert any("AHRR" in said for said in trace.assumptions)


def test_a_trace_is_saved_and_read_again(tmp_path):
    trace = traced(WEIGHT).trace
    trace.save(tmp_path / "trace.json")
    again = Trace.load(tmp_path / "trace.json")
    assert again.edges == trace.edges
    assert again.total_error == trace.total_error
    assert again.about["mediated_share"] == trace.about["mediated_share"]


@pytest.mark.parametrize(
    ("question", "unit"),
    [
        (Question("smoking=yes", "heavy=heavy", kind="cohort"), "log odds"),
        (Question("smoking=yes", "heavy=heavy", kind="case-control"), "log odds"),
        (Question("smoking=yes", time="months", event="dead"), "events per unit of time"),
        (Question("smoking=yes", time="months", event="dead", kind="aft"), "log time"),
        (Question("age", "weight", block="centre"), "units of the outcome"),
    ],
)
def test_every_kind_of_outcome_gives_a_trace(question, unit):
    trace = traced(question).trace
    assert trace.unit == unit
    assert trace.completeness == pytest.approx(1, abs=0.35)
    into = [e for e in trace.edges if e.source.startswith("cg")]
    assert all("robustness" in e.evidence for e in into)
    assert all(("e_value" in e.evidence) == (unit == "log odds") for e in into)
    json.loads(trace.to_json())


def test_of_many_mediators_the_called_enter_the_model():
    sheet, mediators = study(many=60)
    found = traced(WEIGHT, sheet, mediators)
    table = found.mediators
    assert table.height == 60
    assert table.filter("called")["mediator"].to_list()[:2] == ["cg00000", "cg00001"]
    assert table["called"].sum() <= 3
    assert table["called"].to_list() == table["in_model"].to_list()
    assert len(found.trace.nodes) == table["called"].sum() + 2
    assert found.trace.about["screened"] == 60
    assert any("winner" in said for said in found.trace.assumptions)
    every = traced(WEIGHT, sheet, mediators, every=True)
    assert every.trace.about["components"] is not None
    assert len(every.trace.nodes) == 62
    assert every.mediators["called"].null_count() == 60


def test_where_none_is_called_the_whole_effect_is_direct():
    sheet, mediators = study(many=60, linked=0)
    found = traced(WEIGHT, sheet, mediators, q=0.001)
    assert found.trace.about["in_model"] == 0
    assert [e.target for e in found.trace.edges] == ["weight"]
    assert found.trace.completeness == pytest.approx(1)


def test_the_composite_null_is_the_procedure_unless_another_is_given():
    pytest.importorskip("melisma.trace.composite")
    sheet, mediators = study(many=300)
    found = traced(WEIGHT, sheet, mediators, composite=None)
    assert {"cg00000", "cg00001"} <= set(found.mediators.filter("called")["mediator"])
    assert found.mediators["called"].sum() < 10


# ---------------------------------------------------------------- tables and stores


def test_a_table_lies_either_way_round_and_may_be_compressed(tmp_path):
    rows = "sample\tcg1\tcg2\na\t0.1\t0.5\nb\t0.2\tNA\n"
    turned = "probe,a,b\ncg1,0.1,0.2\ncg2,0.5,\n"
    (tmp_path / "rows.tsv.gz").write_bytes(gzip.compress(rows.encode()))
    (tmp_path / "turned.csv").write_text(turned)
    for name in ("rows.tsv.gz", "turned.csv"):
        found = read_mediators(tmp_path / name, known={"a", "b"})
        assert (found.samples, found.names) == (("a", "b"), ("cg1", "cg2"))
        np.testing.assert_array_equal(found.values, [[0.1, 0.5], [0.2, np.nan]])


def test_tables_that_are_none_are_refused(tmp_path):
    path = tmp_path / "levels.tsv"
    refused = {
        "sample\tcg1\na\t0.1\na\t0.2\n": "two rows named 'a'",
        "sample\tcg1\tcg1\na\t0.1\t0.2\n": "two columns named 'cg1'",
        "sample\tcg1\na\thigh\n": "'high' in the column 'cg1'",
        "sample\na\n": "1 row and 1 column",
        "sample\tcg1\n": "0 rows",
    }
    for text, said in refused.items():
        path.write_text(text)
        with pytest.raises(MelismaError, match=said):
            read_mediators(path)
    with pytest.raises(MelismaError, match="no table of mediators"):
        read_mediators(tmp_path / "none.tsv")


@pytest.fixture
def store(tmp_path):
    methylome = dataset(
        {"contig": [0, 0, 0, 1], "position": [10, 20, 90, 5]},
        {
            "methylated": np.array([[1, 2], [3, 0], [0, 4], [5, 0]], np.uint16),
            "coverage": np.array([[4, 4], [4, 6], [2, 4], [5, 0]], np.uint16),
        },
        {"sample": ["a", "b"]},
        contigs=["chr1", "chr2"],
        strands="merged",
    )
    write(methylome, tmp_path / "study.zarr")
    return tmp_path / "study.zarr"


def test_a_stores_sites_and_regions_become_levels(store, tmp_path):
    sites = store_mediators(store)
    assert (sites.samples, sites.kind) == (("a", "b"), "site")
    assert sites.names == ("chr1:10", "chr1:20", "chr1:90", "chr2:5")
    np.testing.assert_allclose(sites.values, [[0.25, 0.75, 0, 1], [0.5, 0, 1, np.nan]])
    table = tmp_path / "regions.tsv"
    table.write_text(
        "region\tcontig\tstart\tend\tq\n"
        "chr1:10-21\tchr1\t10\t21\t0.01\nchr1:300-400\tchr1\t300\t400\t0.2\n"
    )
    regions = store_mediators(store, regions=table)
    assert (regions.names, regions.kind) == (("chr1:10-21",), "region")
    # Reads are pooled: 4 of 8, 2 of 10.
    np.testing.assert_allclose(regions.values, [[0.5], [0.2]])
    (tmp_path / "r.bed").write_text("chr1\t15\t95\nchr2\t0\t9\tpromoter\n")
    bed = store_mediators(store, regions=tmp_path / "r.bed")
    assert bed.names == ("chr1:15-95", "promoter")
    np.testing.assert_allclose(bed.values, [[0.5, 1], [0.4, np.nan]])
    (tmp_path / "far.bed").write_text("chr1\t1000\t2000\n")
    with pytest.raises(MelismaError, match="another genome build"):
        store_mediators(store, regions=tmp_path / "far.bed")


def test_samples_and_values_that_are_not_there_are_said():
    sheet, mediators = study()
    apart = mediators._replace(samples=tuple(f"x{k}" for k in range(N)))
    with pytest.raises(MelismaError, match=r"in both the sample sheet \(s000.*\(x000|x0"):
        traced(WEIGHT, sheet, apart)
    fewer = mediators.taken(rows=list(range(5, N)))
    notes = traced(WEIGHT, sheet, fewer).trace.about["notes"]
    assert "5 samples only in the sample sheet left out." in notes
    doubled = {name: [*column, column[0]] for name, column in sheet.items()}
    with pytest.raises(MelismaError, match="'s000' is twice in the sample sheet"):
        traced(WEIGHT, doubled, mediators)


def test_missing_values_are_counted_and_left_out_on_request():
    sheet, mediators = study()
    sheet["age"][3] = sheet["age"][4] = float("nan")
    with pytest.raises(MelismaError, match=r"2 in age\): --drop-missing leaves out these 2 of 200"):
        traced(WEIGHT, sheet, mediators)
    assert traced(WEIGHT, sheet, mediators, drop_missing=True).mediation.n == N - 2
    sheet, mediators = study()
    mediators.values[:7, 2] = np.nan
    with pytest.raises(MelismaError, match=r"\(7 in cg00002\).*--drop-missing.*--drop-mediators"):
        traced(WEIGHT, sheet, mediators)
    assert traced(WEIGHT, sheet, mediators, drop_missing=True).mediation.n == N - 7
    kept = traced(WEIGHT, sheet, mediators, drop_mediators=True)
    assert (kept.mediation.n, kept.mediators.height) == (N, 2)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question("smokin", "weight"), "no column 'smokin': did you mean 'smoking'"),
        (Question("smoking=Yes", "weight"), "no level 'Yes': did you mean 'yes'"),
        (Question("centre", "weight"), "20 levels.*as centre="),
        (Question("smoking", "heavy"), "--kind case-control"),
        (Question("smoking"), "Name one outcome"),
        (Question("smoking", "weight", time="months", event="dead"), "Name one outcome"),
        (Question("smoking", time="months"), "both --time and --event"),
        (Question("smoking", "weight", kind="aft"), "named with --time and --event"),
        (Question("smoking", "weight", kind="linear"), "no outcome kind 'linear'"),  # type: ignore[arg-type]
        (Question("smoking", "heavy", kind="continuous"), "'heavy' has the word"),
        (Question("smoking", "weight", covariates=("age", "age")), "cannot be two parts"),
        (Question("smoking", "mgmt_status"), "derived from methylation itself"),
        (Question("smoking", "weight", covariates=("twice", "age")), "follows.*exactly"),
        (Question("smoking", "weight", covariates=("smoker",)), "smoking=yes follows"),
        (Question("still", "weight"), "is yes in all 200"),
        (Question("smoking", time="months", event="once"), "1 event among 200"),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_answered_are_refused(question, said):
    sheet, mediators = study()
    sheet["mgmt_status"] = sheet["heavy"]
    sheet["twice"] = [2 * a for a in sheet["age"]]
    sheet["smoker"] = [float(s == "yes") for s in sheet["smoking"]]
    sheet["still"] = ["yes"] * N
    sheet["once"] = [1.0] + [0.0] * (N - 1)
    with pytest.raises(MelismaError, match=said):
        traced(question, sheet, mediators)


def test_an_outcome_that_a_mediator_tells_is_called_circular():
    sheet, mediators = study()
    sheet["silenced"] = ["yes" if m > 0.5 else "no" for m in mediators.values[:, 1]]
    question = Question("age", "silenced", kind="cohort", covariates=("smoking",))
    with pytest.raises(MelismaError, match="apart without error"):
        traced(question, sheet, mediators)
    sheet["score"] = list(mediators.values[:, 1] + 1e-4 * np.arange(N) / N)
    notes = traced(Question("smoking", "score"), sheet, mediators).trace.about["notes"]
    assert any("Circular? cg00001" in note for note in notes)


def test_parts_that_do_not_make_the_total_are_said():
    # Not rare at all, and told almost wholly by the mediator.
    sheet, mediators = study()
    rng = np.random.default_rng(2)
    sheet["ill"] = [
        "yes" if m + 0.02 * e > 0.47 else "no"
        for m, e in zip(mediators.values[:, 1], rng.normal(size=N), strict=True)
    ]
    question = Question("smoking=yes", "ill=yes", kind="case-control")
    notes = traced(question, sheet, mediators).trace.about["notes"]
    assert any("do not fit each other" in note for note in notes)
    common = traced(Question("smoking=yes", "ill=yes", kind="cohort"), sheet, mediators)
    assert not any("do not fit each other" in note for note in common.trace.about["notes"])


# ---------------------------------------------------------------- the verb


def glioma(tmp_path, *arguments):
    folder = datasets.folder("glioma")
    words = ["trace", "study", folder / "samples.tsv", folder / "betas.tsv.gz"]
    try:
        main([*map(str, words), *arguments])
    except SystemExit as ended:
        return ended.code
    return 0


def test_the_verb_shows_a_table_and_writes_the_trace(tmp_path, capsys):
    out, table = tmp_path / "trace.json", tmp_path / "mediators.tsv"
    code = glioma(
        tmp_path, "-x", "idh=Mutant", "-y", "immune_score", "--covariates", "age,sex,platform",
        "--via", "tert_expression", "--every", "--bootstraps", "50", "-o", str(out), "--table",
        str(table),
    )  # fmt: skip
    said = capsys.readouterr().out
    assert code == 0
    assert "idh=Mutant on immune_score" in said
    assert "association consistent with mediation" in said
    assert "components stand for 60 mediators" in said
    trace = Trace.load(out)
    assert trace.outcome == "immune_score"
    assert trace.completeness == pytest.approx(1)
    # Immune cells are fewer where IDH is mutated, and that goes with methylation.
    indirect = trace.about["indirect"]
    assert indirect["high"] < 0
    assert pl.read_csv(table, separator="\t").height == 60


def test_the_verb_refuses_in_one_sentence(tmp_path, capsys):
    assert glioma(tmp_path, "-x", "idh", "-y", "immune") == 2
    assert "did you mean 'immune_score'" in capsys.readouterr().err
    assert glioma(tmp_path, "-x", "idh", "-y", "grade=G4", "--regions", "r.bed") == 2
    assert "--regions and --mark are for a store" in capsys.readouterr().err
    assert glioma(tmp_path, "-x", "idh", "-y", "age", "-o", "trace.txt") == 2
    assert "written as .json" in capsys.readouterr().err


def test_survival_of_gliomas_goes_with_methylation():
    folder = datasets.folder("glioma")
    sheet = read_columns(folder / "samples.tsv")
    mediators = read_mediators(folder / "betas.tsv.gz", known=set(sheet["sample"]))
    question = Question(
        "idh=Mutant", time="survival_months", event="dead", covariates=("age", "sex", "platform")
    )
    found = trace_study(sheet, mediators, question, every=True, bootstraps=100)
    assert found.mediation.total.high is not None
    assert found.mediation.total.high < 0
    assert found.trace.about["informative"] == 149
    assert isinstance(found.trace, Trace)
