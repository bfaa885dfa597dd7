"""Surroundings, end to end: a level that only the composition of a wide stretch tells."""

import numpy as np
import polars as pl
import pytest

from melisma.cli import main
from melisma.methylome import dataset, write

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from melisma.genome import Genome  # noqa: E402
from melisma.sequence.checkpoint import load  # noqa: E402
from melisma.sequence.mutagenesis import mutagenesis  # noqa: E402
from melisma.sequence.predict import predict_sites, sites_of_contigs  # noqa: E402
from melisma.sequence.variants import Variant, variant_effects  # noqa: E402

DOMAIN, DOMAINS = 4_000, 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three contigs of domains (simulated): CpGs are low where G and C are rare, and every CpG has
    the same bases around it."""
    where = tmp_path_factory.mktemp("domains")
    rng = np.random.default_rng(2)
    text, contig, position, low = "", [], [], []
    for k, name in enumerate(("chr1", "chr2", "chr3")):
        poor = rng.random(DOMAINS) < 0.5
        parts = [
            rng.choice(list("ACGT"), DOMAIN, p=[0.4, 0.1, 0.1, 0.4] if each else [0.25] * 4)
            for each in poor
        ]
        bases = np.concatenate(parts)
        at = np.arange(50, len(bases) - 50, 40)
        for shift, letter in enumerate("AACGTT"):
            bases[at - 2 + shift] = letter
        text += f">{name}\n{''.join(bases)}\n"
        contig.append(np.full(len(at), k))
        position.append(at)
        low.append(poor[at // DOMAIN])
    (where / "genome.fa").write_text(text)
    low = np.concatenate(low)
    coverage = rng.poisson(20, (len(low), 2))
    level = np.where(low, 0.2, 0.8)[:, None]
    made = dataset(
        {
            "contig": np.concatenate(contig), "position": np.concatenate(position),
            "strand": np.zeros(len(low)), "context": np.zeros(len(low)),
        },
        {
            "methylated": rng.binomial(coverage, level).astype(np.uint16),
            "coverage": coverage.astype(np.uint16),
        },
        {"sample": ["s1", "s2"]},
        contigs=["chr1", "chr2", "chr3"],
        strands="merged",
    )  # fmt: skip
    write(made, where / "study.zarr")
    run(
        "train", where / "study.zarr", "-g", where / "genome.fa", "--width", "5",
        "--surroundings", "300,1200", "--test", "chr3", "--validation", "chr2", "--epochs", "6",
        "--batch", "64", "--rate", "0.01", "-o", where / "model",
    )  # fmt: skip
    return where


def run(*arguments, code=0):
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    assert done.value.code == code


def test_the_domain_is_read_where_the_window_says_nothing(folder):
    scores = pl.read_csv(folder / "model" / "scores.tsv", separator="\t")
    pearson = dict(scores.filter(metric="pearson", stratum="all").select("model", "value").rows())
    assert pearson["model"] > 0.8
    assert abs(pearson["words"] or 0.0) < 0.2


def test_prediction_and_variants_are_told_of_the_surroundings(folder):
    model, genome = load(folder / "model"), Genome.open(folder / "genome.fa")
    assert model.config.surroundings == (300, 1200)
    sites = sites_of_contigs(genome, model, ["chr3"])
    table = predict_sites(model, genome, sites)
    bases = genome.bases("chr3")
    middle = (sites.position % DOMAIN > 1300) & (sites.position % DOMAIN < DOMAIN - 1300)
    gc = np.isin(bases, [67, 71]).reshape(DOMAINS, DOMAIN).mean(axis=1)[sites.position // DOMAIN]
    level = table["level"].to_numpy()
    ours = bases[sites.position - 1] == ord("A")
    assert level[middle & ours & (gc < 0.3)].mean() < 0.35
    assert level[middle & ours & (gc > 0.4)].mean() > 0.65
    at = int(sites.position[middle & ours & (gc < 0.3)][0])
    told = chr(bases[at - 1])
    found, _ = variant_effects(model, genome, [Variant("chr3", at - 1, told, "G", "v")])
    assert found.filter(site=at)["level_reference"].item() == pytest.approx(
        table.filter(position=at)["level"].item(), abs=1e-5
    )


def test_mutagenesis_without_surroundings_is_of_their_mean(folder):
    model = load(folder / "model")
    codes = np.array([[0, 0, 1, 2, 3]], np.uint8)
    found = mutagenesis(model, codes)
    mutant = codes.copy()
    mutant[0, 1] = 2
    level = model.predict(np.concatenate([codes, mutant])).level[:, 0]
    assert found.level[0] == pytest.approx(level[0], abs=1e-5)
    assert found.effect[0, 1, 2] == pytest.approx(level[1] - level[0], abs=1e-5)


def test_surroundings_that_are_no_bases_and_blocks_too_short_are_refused(folder, capsys):
    store, genome = folder / "study.zarr", folder / "genome.fa"
    run("train", store, "-g", genome, "--surroundings", "1kb", "-o", folder / "x", code=2)
    assert "write 1000,10000" in " ".join(capsys.readouterr().err.split())
    run(
        "train", store, "-g", genome, "--surroundings", "2000", "--block", "5000",
        "-o", folder / "x", code=2,
    )  # fmt: skip
    assert "too short for windows of 4,001" in " ".join(capsys.readouterr().err.split())
