"""Traces joined: a reading hangs under a node, and no sum mixes the two (all made up)."""

import math

import pytest

from melisma.errors import MelismaError
from melisma.trace import Edge, Node, Trace


def study():
    """Exposure, two regions, outcome, and a direct path."""
    nodes = (
        Node("smoking", 0, "exposure"), Node("chr1:5", 1, "site"), Node("chr2:9", 1, "site"),
        Node("+1 A", 1, "site"), Node("weight", 2, "phenotype"),
    )  # fmt: skip
    edges = (
        Edge("smoking", "chr1:5", 0.2, 0.05), Edge("smoking", "chr2:9", 0.1),
        Edge("chr1:5", "weight", 0.6, 0.3), Edge("chr2:9", "weight", 0.1, 0.4),
        Edge("smoking", "weight", 0.2),
    )  # fmt: skip
    return Trace(nodes, edges, "weight", 1.0, 0.2, "kg", ("No confounding.",))


def reading(layers=2, first="+1 A"):
    """Two bases, directly or through a motif, to a level; and a node that comes after it."""
    nodes = [Node(first, 0, "base"), Node("-2 T", 0, "base")]
    nodes += [Node("motif", 1, "motif")] if layers == 2 else []
    nodes += [Node("log odds", layers, "level", -1.5), Node("later", layers + 1)]
    through = "motif" if layers == 2 else "log odds"
    edges = [Edge(first, through, -3.0, 0.1), Edge("-2 T", "log odds", 1.0, None, "gradients")]
    edges += [Edge("motif", "log odds", -2.0, 0.2)] if layers == 2 else []
    edges += [Edge("log odds", "later", 9.0)]
    return Trace(
        tuple(nodes), tuple(edges), "log odds", -1.25, 0.1, "log odds", ("Of the model.",),
        {"model": "m"},
    )  # fmt: skip


def layers_of(trace):
    return {node.name: node.layer for node in trace.nodes}


def test_a_reading_hangs_under_its_node_and_sums_stay_apart():
    outer, whole = study(), study().join(reading(), "chr1:5")
    assert layers_of(whole) == {
        "smoking": 0, "chr1:5: +1 A": 1, "-2 T": 1, "motif": 2, "chr1:5": 3, "chr2:9": 3, "+1 A": 3,
        "weight": 4,
    }  # fmt: skip
    assert (whole.total, whole.unit, whole.outcome) == (1.0, "kg", "weight")
    assert whole.explained == pytest.approx(0.9)
    assert whole.explained_error == pytest.approx(0.5)
    assert whole.completeness_error == outer.completeness_error
    hung = [edge for edge in whole.edges if edge.evidence.get("under") == "chr1:5"]
    assert [(e.source, e.target, e.evidence["unit"]) for e in hung] == [
        ("chr1:5: +1 A", "motif", "log odds"), ("-2 T", "chr1:5", "log odds"),
        ("motif", "chr1:5", "log odds"),
    ]  # fmt: skip
    told = whole.about["joined"]["chr1:5"]
    assert told["total"] == -1.25
    assert told["completeness"] == pytest.approx(0.8)
    assert told["explained_error"] == pytest.approx(0.2)
    assert told["assumptions"] == ["Of the model."]
    assert told["about"] == {"model": "m"}
    assert whole.assumptions == ("No confounding.",)
    table = whole.table()
    assert table["share"].to_list() == pytest.approx([0.2, 0.1, 0.6, 0.1, 0.2] + [None] * 3)
    assert table["unit"].to_list() == [None, None, "kg", "kg", "kg"] + ["log odds"] * 3


def test_a_reading_of_the_outcome_enters_no_sum():
    whole = study().join(reading(), "weight")
    assert whole.explained == pytest.approx(0.9)
    assert whole.completeness == pytest.approx(0.9)
    assert layers_of(whole)["weight"] == 4


@pytest.mark.parametrize(("first", "second"), [(2, 1), (1, 2), (2, 2)])
def test_readings_of_one_layer_share_their_layers(first, second):
    whole = study().join(reading(first), "chr1:5").join(reading(second), "chr2:9")
    layers = layers_of(whole)
    assert (layers["smoking"], layers["chr1:5"], layers["chr2:9"], layers["weight"]) == (0, 3, 3, 4)
    names = {node.name for node in whole.nodes if node.about.get("under") == "chr2:9"}
    assert {"chr2:9: +1 A", "chr2:9: -2 T"} <= names
    for name in names:
        assert layers[name] == (1 if second == 2 and not name.endswith("motif") else 2)
    assert set(whole.about["joined"]) == {"chr1:5", "chr2:9"}


def test_a_joined_trace_is_joined_again():
    inner = reading(first="+3 C").join(reading(1, first="pixel"), "motif")
    whole = study().join(inner, "chr1:5")
    assert layers_of(whole)["pixel"] < layers_of(whole)["motif"] < layers_of(whole)["chr1:5"]
    units = {(e.source, e.target): e.evidence.get("under") for e in whole.edges}
    assert units["pixel", "motif"] == "motif"
    assert units["motif", "chr1:5"] == "chr1:5"
    assert units["smoking", "weight"] is None
    assert set(whole.about["joined"]) == {"chr1:5", "motif"}
    assert whole.explained == pytest.approx(0.9)


def test_joined_traces_are_saved_filtered_and_compared(tmp_path):
    whole = study().join(reading(), "chr1:5")
    whole.save(tmp_path / "t.json")
    assert Trace.load(tmp_path / "t.json") == whole
    strong = whole.filter(strongest=1)
    kept = {(e.source, e.target) for e in strong.edges}
    # One edge a node and unit: log odds do not push out a study's smaller effect.
    assert {("smoking", "chr1:5"), ("motif", "chr1:5"), ("chr1:5", "weight")} == kept - {
        ("chr1:5: +1 A", "motif")
    }
    found = whole.diff(study().join(reading(), "chr1:5"))
    assert found.explained == 0
    assert math.isnan(found.completeness)
    assert [e.evidence.get("unit") for e in found.edges][-1] == "log odds"


def test_what_cannot_be_joined_is_refused():
    with pytest.raises(MelismaError, match="no node 'chr3:1' to hang another under: it has smoki"):
        study().join(reading(), "chr3:1")
    with pytest.raises(MelismaError, match="hangs under 'chr1:5' already"):
        study().join(reading(), "chr1:5").join(reading(), "chr1:5")
    with pytest.raises(MelismaError, match="Nothing leads to 'weight'"):
        study().join(Trace((Node("weight", 1),), (), "weight", 1.0), "chr1:5")
