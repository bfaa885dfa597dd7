"""Limits and statuses by hand, the gate's exit codes, and MultiQC's files."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from melisma.cli import main
from melisma.errors import MelismaError
from melisma.methylome import CONTEXTS, dataset, write
from melisma.quality import check_quality
from melisma.quality._checks import LIMITS, read_limits


def lambda_store(failed, reads, depth=20):
    """One sample of 1,200 CpGs and a lambda contig with `failed` of `reads` unconverted."""
    rng = np.random.default_rng(0)
    coverage = np.append(rng.poisson(depth, 1200), reads)[:, None]
    methylated = np.append(rng.binomial(coverage[:1200, 0], 0.7), failed)[:, None]
    return dataset(
        {
            "contig": np.append(np.zeros(1200), 1),
            "position": np.arange(1201) * 10,
            "context": np.full(1201, CONTEXTS.index("CG")),
        },
        {"methylated": methylated, "coverage": coverage},
        {"sample": ["a"]},
        contigs=["chr1", "lambda"],
    )


def status(quality, check):
    return quality.checks.filter(check=check)["status"].to_list()


@pytest.mark.parametrize(
    ("failed", "reads", "expected"),
    # Wilson of 12 in 1,000 is 0.69% to 2.09%; of 30 in 1,000, 2.11% to 4.25%.
    [(5, 1000, "pass"), (12, 1000, "warn"), (30, 1000, "fail")],
)
def test_conversion_fails_only_where_it_surely_exceeds_the_limit(failed, reads, expected):
    quality = check_quality(lambda_store(failed, reads))
    assert status(quality, "max_conversion_failure") == [expected]
    assert bool(quality.failed) == (expected == "fail")


def test_limits_by_hand():
    quality = check_quality(lambda_store(0, 1000), limits=["min_coverage=50", "min_sites=1300"])
    assert status(quality, "min_coverage") == ["fail"]
    assert status(quality, "min_sites") == ["fail"]
    row = quality.checks.filter(check="min_sites").row(0, named=True)
    assert (row["sample"], row["value"], row["limit"]) == ("a", 1201.0, 1300.0)
    assert quality.failed[1] == "min_sites: a has 1,201 sites; the limit is 1,300."
    assert status(check_quality(lambda_store(0, 1000)), "min_coverage") == ["pass"]


def test_limits_are_read_and_refused_in_words():
    assert read_limits({}) == {name: default for name, (default, _) in LIMITS.items()}
    with pytest.raises(MelismaError, match="'depth' is not a limit; the limits are min_coverage"):
        read_limits(["depth=3"])
    for word in ("min_coverage", "min_coverage=x", "min_coverage=-1", "min_coverage=nan"):
        with pytest.raises(MelismaError, match="give a number of 0 or more, such as"):
            read_limits([word])


def ended(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in arguments])
    return done.value.code, capsys.readouterr()


def test_the_gate_exits_with_1_after_writing_and_0_where_all_is_well(tmp_path, capsys):
    write(lambda_store(30, 1000), tmp_path / "a.zarr")
    code, printed = ended(["qc", tmp_path / "a.zarr", "--strict", "-o", tmp_path / "qc"], capsys)
    assert code == 1
    assert "1 check failed:" in printed.err
    assert "max_conversion_failure: a: 3.00% of 1,000 cytosine reads (lambda) were" in printed.err
    summary = json.loads((tmp_path / "qc" / "qc.json").read_text())
    assert len(summary["failed"]) == 1
    assert summary["checks"]["fail"] == 1
    loose = ["--strict", "--limit", "max_conversion_failure=0.05"]
    code, printed = ended(["qc", tmp_path / "a.zarr", *loose], capsys)
    assert (code, printed.err) == (0, "")
    assert "Failed conversion is 3.00% in the worst sample" in printed.out
    assert ended(["qc", tmp_path / "a.zarr"], capsys)[0] == 0
    code, printed = ended(["qc", tmp_path / "a.zarr", "--limit", "depth=1"], capsys)
    assert code == 2
    assert "'depth' is not a limit" in printed.err


def test_outliers_and_strangers_fail_their_samples():
    rng = np.random.default_rng(0)
    coverage = rng.poisson(20, (3000, 8))
    methylated = rng.binomial(coverage, rng.random((3000, 1)))
    methylated[:, 2] = coverage[:, 2] - methylated[:, 2]
    coverage[:1500, 5], coverage[1500:, :5], coverage[1500:, 6:] = 0, 0, 0
    methylated = np.minimum(methylated, coverage)
    made = dataset(
        {"contig": np.zeros(3000), "position": np.arange(3000) * 9},
        {"methylated": methylated, "coverage": coverage},
        {"sample": [f"s{i}" for i in range(8)]},
        contigs=["chr1"],
    )
    quality = check_quality(made)
    assert status(quality, "min_shared_sites") == ["pass"] * 5 + ["fail"] + ["pass"] * 2
    assert status(quality, "max_outliers")[2] == "fail"
    assert status(check_quality(made, limits={"max_outliers": 8}), "max_outliers")[2] == "warn"


def test_multiqc_files_are_plain_json():
    files = check_quality(lambda_store(5, 1000)).multiqc()
    assert json.loads(json.dumps(files, allow_nan=False)) == files
    general = files["melisma_qc_mqc.json"]
    assert general["plot_type"] == "generalstats"
    assert general["data"]["a"]["melisma_sites"] == 1201
    assert general["data"]["a"]["melisma_failure"] == 0.5
    named = [key for column in general["pconfig"] for key in column]
    assert set(general["data"]["a"]) == set(named)
    assert files["melisma_checks_mqc.json"]["data"]["a"]["min_sites"] == "pass"
    lines = files["melisma_saturation_mqc.json"]["data"]
    assert [[f for f, _ in line["a"]][-1] for line in lines] == [2.0, 2.0, 2.0]


def test_multiqc_itself_reads_the_files(tmp_path):
    multiqc = shutil.which("multiqc")
    if multiqc is None:
        pytest.skip("multiqc is not installed")
    write(lambda_store(30, 1000), tmp_path / "a.zarr")
    with pytest.raises(SystemExit):
        main(["qc", str(tmp_path / "a.zarr"), "-o", str(tmp_path / "qc")])
    subprocess.run([multiqc, "-o", tmp_path / "report", tmp_path / "qc"], check=True)
    text = (tmp_path / "report" / "multiqc_data" / "multiqc_general_stats.txt").read_text()
    head, row = (line.split("\t") for line in text.splitlines())
    shown = {name.rpartition("melisma_")[2]: value for name, value in zip(head, row, strict=True)}
    assert float(shown["failure"]) == 3.0
    assert float(shown["failed"]) == 1
    page = (tmp_path / "report" / "multiqc_report.html").read_text()
    assert "melisma_saturation" in page
    assert "melisma_checks" in page
