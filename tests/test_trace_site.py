"""`melisma trace site` on a small trained model: what it says adds up and is what was planted."""

import json

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
from melisma.trace.site import shuffled_around_site, trace_windows  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """CpGs (simulated) that are low in brain where a T stands three bases after the C."""
    where = tmp_path_factory.mktemp("trace")
    rng = np.random.default_rng(0)
    bases = rng.choice(list("ACGT"), 40_000)
    at = np.flatnonzero((bases[:-30] == "C") & (bases[1:-29] == "G"))
    at = at[at > 30]
    (where / "genome.fa").write_text(f">chr1\n{''.join(bases)}\n")
    low = bases[at + 3] == "T"
    level = np.stack([np.where(low, 0.1, 0.8), np.full(len(at), 0.8)] * 2, axis=1)
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
    low_sites = at[low & (at > 1000)]
    return where, int(low_sites[3]), "".join(bases)


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
    _, place, _ = folder
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
    _, place, _ = folder
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
