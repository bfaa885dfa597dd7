"""`melisma trace site` on a small trained model: what it says adds up and is what was planted."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sequence_run import main_ok as run
from sequence_run import refused

from melisma.errors import MelismaError
from melisma.genome import Genome
from melisma.methylome import dataset, write

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from melisma.sequence.checkpoint import load  # noqa: E402
from melisma.sequence.predict import predict_sites, sites_of_contigs  # noqa: E402
from melisma.trace import Trace  # noqa: E402
from melisma.trace.site import (  # noqa: E402
    SiteEffects,
    shuffled_around_site,
    site_trace,
    trace_windows,
    traces_between,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CpGs (simulated) that are low in brain where TACT stands three bases after the C, mostly for
    its T; what its other bases do adds to that."""
    where = tmp_path_factory.mktemp("trace")
    rng = np.random.default_rng(0)
    bases = rng.choice(list("ACGT"), 40_000)
    at = np.flatnonzero((bases[:-30] == "C") & (bases[1:-29] == "G"))
    at = at[at > 30]
    (where / "genome.fa").write_text(f">chr1\n{''.join(bases)}\n")
    has = np.stack([bases[at + 3 + k] == base for k, base in enumerate("TACT")])
    brain = 1 / (1 + np.exp(-(2.0 - np.array([3.0, 1.2, 1.2, 1.2]) @ has)))
    level = np.stack([brain, np.full(len(at), 0.8)] * 2, axis=1)
    coverage = rng.poisson(20, level.shape)
    made = dataset(
        {
            "contig": np.zeros(len(at)), "position": at, "strand": np.zeros(len(at)),
            "context": np.zeros(len(at)),
        },
        {
            "methylated": rng.binomial(coverage, level).astype(np.uint16),
            "coverage": coverage.astype(np.uint16),
        },
        {"sample": list("abcd"), "tissue": ["brain", "liver"] * 2},
        contigs=["chr1"],
    )  # fmt: skip
    write(made, where / "study.zarr")
    run(
        "train", where / "study.zarr", "-g", where / "genome.fa", "-e", "tissue", "--width", "21",
        "--block", "2000", "--epochs", "6", "--batch", "32", "--rate", "0.01", "-o",
        where / "model",
    )  # fmt: skip
    return where, int(at[has.all(0)][0]), "".join(bases)


def asked(folder, place, *more):
    return (
        "trace", "site", place, "-m", folder[0] / "model", "-g", folder[0] / "genome.fa", *more,
    )  # fmt: skip


def strongest(trace, layer):
    """What leaves each node of a layer, the strongest first."""
    own = {node.name for node in trace.nodes if node.layer == layer}
    found = {}
    for edge in trace.edges:
        if edge.source in own:
            found[edge.source] = found.get(edge.source, 0) + edge.effect
    return dict(sorted(found.items(), key=lambda item: -abs(item[1])))


def test_the_base_that_decides_carries_most_and_all_add_up(folder, tmp_path):
    place = folder[1]
    run(*asked(folder, f"chr1:{place}", "-e", "tissue=brain", "-o", tmp_path / "t.json"))
    trace = Trace.load(tmp_path / "t.json")
    bases = strongest(trace, 0)
    assert next(iter(bases)) == "+3 T"
    assert bases["+3 T"] < -1
    motif = next(node for node in trace.nodes if node.kind == "motif" and node.about["p"] < 0.5)
    assert motif.about["first"] <= 3 <= motif.about["last"]
    assert trace.completeness == pytest.approx(1, abs=0.02)
    assert trace.about["added_up"] == 1
    assert trace.about["converged"]
    model, genome = load(folder[0] / "model"), Genome.open(folder[0] / "genome.fa")
    table = predict_sites(
        model, genome, sites_of_contigs(genome, model, ["chr1"]), environment={"tissue": "brain"}
    )
    level = table.filter(position=place)["level"].item()
    assert trace.about["level"] == pytest.approx(level, abs=1e-4)


def test_two_environments_differ_by_what_only_one_reads(folder, tmp_path):
    place = folder[1]
    run(
        *asked(
            folder, f"chr1:{place}", "-e", "tissue=brain", "--against", "tissue=liver", "-o",
            tmp_path / "t.json",
        )
    )  # fmt: skip
    told = json.loads((tmp_path / "t.json").read_text())
    assert [one["environment"] for one in told["about"]["difference"]] == [
        {"tissue": "brain"}, {"tissue": "liver"},
    ]  # fmt: skip
    trace = Trace.load(tmp_path / "t.json")
    assert next(iter(strongest(trace, 0))) == "+3 T"
    assert trace.total < -1


def test_what_enters_a_node_leaves_it(folder, tmp_path):
    place = folder[1]
    run(*asked(folder, f"chr1:{place}", "-e", "tissue=brain", "-o", tmp_path / "t.json"))
    trace = Trace.load(tmp_path / "t.json")
    assert {node.layer for node in trace.nodes} == {0, 1, 2, 3}
    parts = [node.name for node in trace.nodes if node.kind == "part"]
    assert parts[0] == "stem"
    assert parts[-1] == "motif_path"
    for node in trace.nodes:
        inward = sum(edge.effect for edge in trace.edges if edge.target == node.name)
        outward = sum(edge.effect for edge in trace.edges if edge.source == node.name)
        if node.layer in (1, 2):
            assert inward == pytest.approx(outward, abs=1e-5)
        if node.layer == 1:
            assert node.about["effect"] == pytest.approx(outward, abs=1e-5)
    by_base = sum(strongest(trace, 0).values())
    assert by_base == pytest.approx(trace.explained, abs=1e-5)
    assert trace.completeness_error < 0.01
    assert trace.about["completeness_error"] == pytest.approx(trace.completeness_error, abs=1e-6)
    assert all(edge.evidence["standard_error"] > 0 for edge in trace.into(trace.outcome))


def test_a_stretch_is_named_by_the_motif_it_resembles(folder, tmp_path, capsys):
    place = folder[1]
    plain = asked(folder, f"chr1:{place}", "-e", "tissue=brain", "-o", tmp_path / "t.json")
    run(*plain)
    motif = max(
        (node for node in Trace.load(tmp_path / "t.json").nodes if node.kind == "motif"),
        key=lambda node: abs(node.about["effect"]),
    )
    letters = motif.about["letters"]
    assert "TACT" in letters
    # A motif of its letters and of bases that are not told, beside one of other letters.
    other = "".join("CGTA"["ACGT".index(letter)] for letter in letters)
    text = "MEME version 4\n\nALPHABET= ACGT\n\n"
    for name, word in (("other", other), ("rule", letters)):
        text += f"MOTIF {name}\nletter-probability matrix: alength= 4 w= {len(word)} nsites= 20\n"
        text += "".join(
            " ".join("0.97" if base == letter else "0.01" for base in "ACGT") + "\n"
            for letter in word
        )
    (tmp_path / "known.meme").write_text(text)
    run(*plain, "--motifs", tmp_path / "known.meme")
    named = {node.name: node for node in Trace.load(tmp_path / "t.json").nodes}
    assert named[motif.name].about.get("resembles") == "rule"
    assert "rule (e " in capsys.readouterr().out


def effects(value, null=None, **changes):
    """Two parts: half of the value each."""
    value = np.asarray(value, np.float32)
    n, width = value.shape
    told = {
        "window": np.zeros(width, np.uint8), "parts": ("stem", "layer.0.convolution"),
        "value": np.stack([value / 2] * 2, axis=2),
        "null": np.ones((n, width), np.float32) / 10 if null is None else null,
        "difference": value.sum(1), "log_odds": 0.0, "added_up": 1.0, "steps": 8,
    }  # fmt: skip
    return SiteEffects(**(told | changes))


def test_environments_share_motifs_and_shuffles():
    base = np.zeros((4, 9))
    ours, theirs = base.copy(), base.copy()
    ours[:, 1:3], theirs[:, 6:8] = 2.0, 1.0
    noise = np.arange(4)[:, None] - 1.5
    ours[:, 1:2] += noise
    theirs[:, 1:2] += noise
    first, second, less = traces_between(effects(ours), effects(theirs), width=2)
    names = ["motif -3..-2 AA", "motif +2..+3 AA", "other bases"]
    assert [node.name for node in less.nodes if node.layer == 1] == names
    assert [node.about["effect"] for node in less.nodes if node.layer == 1] == [4, -2, 0]
    # What both environments share of the shuffles' noise is gone.
    assert less.nodes[9].about["error"] == pytest.approx(0, abs=1e-6)
    assert first.nodes[9].about["error"] > 0.5
    plain = first.diff(second)
    assert plain.total == pytest.approx(less.total) == 2
    own = {(edge.source, edge.target): edge.effect for edge in less.edges}
    for edge in plain.edges:
        assert edge.effect == pytest.approx(own[edge.source, edge.target], abs=1e-6)
    assert "level" not in less.about
    # Traces whose motifs were found each for itself differ in names, and still add up.
    apart = site_trace(effects(ours), effects(ours).motifs(2)).diff(
        site_trace(effects(theirs), effects(theirs).motifs(2))
    )
    assert apart.explained == pytest.approx(apart.total)
    with pytest.raises(MelismaError, match="trace one window twice"):
        effects(ours).less(effects(theirs[:, :8]))


def test_what_does_not_add_up_is_flagged():
    value = np.zeros((4, 9))
    value[:, 1] = 1.0
    rough = site_trace(effects(value, difference=np.full(4, 1.25)))
    assert rough.about["completeness_error"] == pytest.approx(0.2)
    assert rough.completeness_error == pytest.approx(0.2)
    assert not rough.about["converged"]
    assert site_trace(effects(value)).about["converged"]


def test_the_site_stays_in_every_shuffle(folder):
    rng = np.random.default_rng(3)
    window = rng.integers(0, 4, 21).astype(np.uint8)
    from melisma.sequence.experiments import dinucleotide_shuffle

    others = shuffled_around_site(window, 30, 2, dinucleotide_shuffle)
    assert others.shape == (30, 21)
    assert (others[:, 10:12] == window[10:12]).all()
    assert (np.sort(others, axis=1) == np.sort(window)).all()
    assert len(np.unique(others, axis=0)) > 10
    model = load(folder[0] / "model")
    with pytest.raises(MelismaError, match="20 or more"):
        trace_windows(model.members, window, others[:5], {})


def test_a_language_model_has_no_gradient_by_base(folder, capsys, monkeypatch):
    model = load(folder[0] / "model")
    other = replace(model, config=replace(model.config, backbone="somewhere"))
    monkeypatch.setattr("melisma.sequence.checkpoint.load", lambda _: other)
    assert "ask `melisma explain`" in refused(capsys, *asked(folder, f"chr1:{folder[1]}"))


def test_bad_places_are_one_sentence(folder, capsys, tmp_path):
    _, place, text = folder
    other = next(k for k in range(2000, 3000) if text[k] == "C" and text[k + 1] != "G")
    a = text.index("A", 500)
    for where, words in (
        ("chr1", "write contig:position"),
        ("chr1:x", "write contig:position"),
        ("chr9:5", "no contig 'chr9'"),
        ("chr1:99,999,999", "lies beyond the 40,000 bases"),
        (f"chr1:{a}", "holds A, and m sits on C"),
        (f"chr1:{other}", "the model learned CG"),
    ):
        assert words in refused(capsys, *asked(folder, where))
    assert "never seen" in refused(capsys, *asked(folder, f"chr1:{place}", "-e", "tissue=eye"))
    wrong = refused(capsys, *asked(folder, f"chr1:{place}", "-o", tmp_path / "t.tsv"))
    assert "written as .json" in wrong
