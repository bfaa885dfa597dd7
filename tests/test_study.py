"""The main job on a small study of Bismark cov files."""

import json

import numpy as np
import polars as pl
import pytest
from calls_files import noted

from melisma.cli import main
from melisma.differential import simulate
from melisma.errors import MelismaError
from melisma.methylome import open_methylome
from melisma.samples import annotate_samples, remove_samples, rename_samples
from melisma.study import _run, open_with_design, read_study, run_study
from melisma.study._folder import RunFolder

SHEET = {"sample": [f"s{i}" for i in range(12)], "g": ["a"] * 6 + ["b"] * 6}
STUDY = """
title = "A small simulated study"
[input]
samples = "samples.tsv"
[design]
formula = "~ g"
contrasts = ["g[b] - g[a]"]
[regions]
relabellings = 30
"""


@pytest.fixture
def study(tmp_path):
    rng = np.random.default_rng(7)
    made = simulate(
        np.cumsum(rng.integers(2, 90, 1500)),
        rng.beta(2, 1, 1500),
        np.full(1500, 12.0),
        SHEET,
        seed=7,
        exposure=np.array([0.0] * 6 + [1.0] * 6),
        regions=6,
        delta=0.4,
    ).methylome
    lines = ["sample\tpath\tg"]
    for k, sample in enumerate(SHEET["sample"]):
        m = made["methylated"].values[:, k].astype(int)
        n = made["coverage"].values[:, k].astype(int)
        rows = [
            f"chr22\t{p + 1}\t{p + 1}\t{100 * a / b:.6f}\t{a}\t{b - a}\n"
            for p, a, b in zip(made["position"].values, m, n, strict=True)
            if b
        ]
        (tmp_path / f"{sample}.cov").write_text("".join(rows))
        lines.append(f"{sample}\t{sample}.cov\t{SHEET['g'][k]}")
    (tmp_path / "samples.tsv").write_text("\n".join(lines) + "\n")
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


def test_a_study_fills_a_folder_and_is_skipped_when_nothing_changed(study, tmp_path):
    out = tmp_path / "out"
    first = run_study(study, out)
    stem = "design.g_b_vs_a"
    assert first.done == ("ingest", "qc", stem, "report")
    record = json.loads((out / "run.json").read_text())
    assert record["samples"] == 12
    assert record["mark"] == "5mC"
    assert len(record["inputs"]) == 13
    assert all(len(entry["sha256"]) == 64 for entry in record["inputs"])
    (contrast,) = record["designs"][0]["contrasts"]
    table = pl.read_parquet(out / "tables" / f"{stem}.sites.parquet")
    assert contrast["sites"]["tested"] == table["p"].count()
    assert contrast["sites"]["significant"] == (table["q"] < 0.05).sum() > 0
    regions = pl.read_parquet(out / "tables" / f"{stem}.regions.parquet")
    assert contrast["regions"]["significant"] == (regions["q"] < 0.05).sum() > 0
    bed = (out / "tables" / f"{stem}.regions.bed").read_text().splitlines()
    assert len(bed) == contrast["regions"]["significant"]
    assert len(contrast["calibration"]["relabelled_site_calls"]) == 20
    assert "A small simulated study" in (out / "report.html").read_text()
    assert not (tmp_path / "out.part").exists()
    stamp = (out / "report.html").stat().st_mtime_ns
    second = run_study(study, out)
    assert second.done == ()
    assert second.skipped == first.done
    assert (out / "report.html").stat().st_mtime_ns == stamp
    assert json.loads((out / "run.json").read_text())["created"] == record["created"]


def test_only_what_changed_is_computed_again(study, tmp_path):
    out = tmp_path / "out"
    run_study(study, out)
    study.write_text(STUDY.replace("relabellings = 30", "relabellings = 25"))
    assert run_study(study, out).done == ("design.g_b_vs_a", "report")
    study.write_text(STUDY.replace('"g[b] - g[a]"', '"g[a] - g[b]"'))
    assert "design.g_a_vs_b" in run_study(study, out).done
    names = {path.name.split(".")[1] for path in (out / "tables").glob("design.*")}
    assert names == {"g_a_vs_b"}
    calls = tmp_path / "s3.cov"
    calls.write_text(calls.read_text() + "chr22\t900000\t900000\t50\t1\t1\n")
    assert run_study(study, out).done[0] == "ingest"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[design]", "[desing]"), "desing is not a key of a study; known here are title, input"),
        (("formula", "formla"), "design.0.formla is not a key of a study; known here are name"),
        (('contrasts = ["g[b] - g[a]"]', ""), "design.0.contrasts is missing"),
        (('"g[b] - g[a]"', '"g[c] - g[a]"'), "no level 'c'; its levels are a, b"),
        (('"~ g"', '"~ h"'), "'h', which is not a column"),
        (('samples = "samples.tsv"', 'samples = "none.tsv"'), "no sample sheet"),
        (("relabellings = 30", "relabellings = 0"), "regions.relabellings: input should be"),
        (("title", "title = "), "is not a TOML file"),
    ],
)
def test_a_bad_study_is_refused_before_anything_is_written(study, tmp_path, change, message):
    study.write_text(STUDY.replace(*change))
    with pytest.raises(MelismaError, match=message):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.part").exists()


def test_bad_calls_leave_nothing_behind(study, tmp_path):
    (tmp_path / "s2.cov").write_text("chr22\t5\t5\t50\t1\t-1\n")
    with pytest.raises(MelismaError, match="s2.cov"):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.part").exists()


def test_a_folder_of_other_files_is_refused(study, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.doc").write_text("mine")
    with pytest.raises(MelismaError, match="holds files that are not from a run"):
        run_study(study, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.doc").exists()


def test_several_designs_need_names(study):
    study.write_text(STUDY.replace("[design]", "[[design]]") + '[[design]]\nformula = "~ g"\n')
    with pytest.raises(MelismaError, match="contrasts is missing"):
        read_study(study)
    text = STUDY.split("[design]")[0] + 2 * '[[design]]\nformula = "~ g"\ncontrasts = ["g"]\n'
    study.write_text(text)
    with pytest.raises(MelismaError, match="several designs need a `name` each"):
        read_study(study)


def test_identity_as_a_block_needs_people_to_be_told_apart(study, tmp_path):
    run_study(study, tmp_path / "out")
    with pytest.raises(MelismaError, match="The block 'identity' needs people told apart"):
        open_with_design(tmp_path / "out" / "study.zarr", "~ g", "identity")


def test_another_studys_folder_is_not_overwritten(study, tmp_path):
    run_study(study, tmp_path / "out")
    study.write_text(STUDY.replace("A small simulated study", "Another"))
    with pytest.raises(MelismaError, match="holds the run of another study, 'A small simulated"):
        run_study(study, tmp_path / "out")


def test_a_users_file_beside_the_tables_stays(study, tmp_path):
    run_study(study, tmp_path / "out")
    mine = tmp_path / "out" / "tables" / "annotated.tsv"
    mine.write_text("mine")
    study.write_text(STUDY.replace('"g[b] - g[a]"', '"g[a] - g[b]"'))
    run_study(study, tmp_path / "out")
    assert mine.read_text() == "mine"
    assert not list((tmp_path / "out" / "tables").glob("design.g_b_vs_a.*"))


def test_two_files_of_the_same_bytes_are_refused(study, tmp_path):
    (tmp_path / "s2.cov").write_bytes((tmp_path / "s1.cov").read_bytes())
    with pytest.raises(MelismaError, match="are the same, byte for byte"):
        run_study(study, tmp_path / "out")


def test_two_runs_of_one_folder_do_not_mix(study, tmp_path):
    config = read_study(study)
    about = {"title": config.title, "samples": str(config.input.samples)}
    first = RunFolder(tmp_path / "out", about)
    with pytest.raises(MelismaError, match="Another run is writing"):
        run_study(study, tmp_path / "out")
    first.discard()
    assert run_study(study, tmp_path / "out").done
    assert not list(tmp_path.glob("out.part*"))


def test_the_current_folder_is_no_place_for_a_run(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MelismaError, match="holds files that are not from a run"):
        run_study(study, ".")


def test_a_study_without_a_design_is_quality_only(study, tmp_path):
    study.write_text(STUDY.split("[design]")[0])
    done = run_study(study, tmp_path / "out")
    assert done.done == ("ingest", "qc", "report")
    (sentence,) = done.left_out
    assert sentence.startswith("The study has no [design], so this run is ingest and quality only")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (record["designs"], record["left_out"]) == ([], [sentence])
    report = (tmp_path / "out" / "report.html").read_text()
    assert "no sites, no regions and no calibration" in report
    assert (tmp_path / "out" / "multiqc" / "melisma_qc_mqc.json").exists()
    assert run_study(study, tmp_path / "out").done == ()


def test_contrasts_without_replicates_are_left_out_and_said(study, tmp_path):
    sheet = tmp_path / "samples.tsv"
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join([lines[0], lines[1], lines[7]]) + "\n")
    done = run_study(study, tmp_path / "out")
    assert done.done == ("ingest", "qc", "report")
    (sentence,) = done.left_out
    assert sentence.startswith("Not tested: g[b] - g[a] has no replicates: 2 samples and 2")
    assert "`[regions] no_replicates = true`" in sentence
    assert sentence in (tmp_path / "out" / "report.html").read_text()


def test_messages_name_the_keys_of_the_study(study, tmp_path):
    sheet = tmp_path / "samples.tsv"
    lines = sheet.read_text().splitlines()
    sheet.write_text("\n".join([*lines[:-1], lines[-1].removesuffix("b")]) + "\n")
    with pytest.raises(MelismaError, match=r"out with `\[design\] drop_missing = true`\.") as said:
        run_study(study, tmp_path / "out")
    assert "--" not in str(said.value)
    assert "drop_missing=True" not in str(said.value)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('annotation = "genes.bed"', "genes.bed is a BED file"),
        ('islands = "none.bed"', "There is no file at .*none.bed"),
        ('islands = "broken.bed"', "broken.bed"),
    ],
)
def test_what_lies_beside_the_calls_is_checked_before_they_are_read(
    study, tmp_path, monkeypatch, lines, message
):
    block = "chr22\t0\t90\tg1\t0\t+\t0\t90\t0\t1\t90,\t0,\n"
    (tmp_path / "genes.bed").write_text(block)
    (tmp_path / "broken.bed").write_text("chr22\t90\t80\n")
    study.write_text(STUDY.replace("[design]", f"{lines}\n[design]"))
    monkeypatch.setattr(_run, "hash_inputs", lambda *_: pytest.fail("calls were read"))
    with pytest.raises(MelismaError, match=message):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out.part").exists()


def test_a_strict_study_stops_at_a_failed_check(study, tmp_path, capsys):
    text = STUDY + "[qc]\nstrict = true\nmin_coverage = 500\n"
    study.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(study), "--out", str(tmp_path / "out")])
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert "- min_coverage: s0 has 11.8 reads" in printed.err
    assert "Nothing was tested: 12 quality checks failed and the study is strict." in printed.out
    assert (tmp_path / "out" / "report.html").exists()
    study.write_text(text.replace("500", "5"))
    assert run_study(study, tmp_path / "out").failed == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("min_depth = 3", "qc.min_depth is not a key of a study; known here are strict, spike_in"),
        ("min_coverage = -1", "qc.min_coverage: input should be greater than or equal to 0"),
        ('spike_in = "lambda"', r"`\[qc\] spike_in` names the contig 'lambda'"),
    ],
)
def test_a_bad_qc_section_is_refused(study, tmp_path, line, message):
    study.write_text(f"{STUDY}[qc]\n{line}\n")
    with pytest.raises(MelismaError, match=message):
        run_study(study, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_store_changed_by_hand_is_made_again(study, tmp_path):
    out = tmp_path / "out"
    first = run_study(study, out)
    before = open_methylome(out / "study.zarr").load()
    rename_samples(out / "study.zarr", {"s0": "other"})
    with noted() as notes:
        again = run_study(study, out)
    assert any("study.zarr was changed since this run made it" in note for note in notes)
    assert again.done == ("ingest",)
    assert again.skipped == first.done[1:]
    assert open_methylome(out / "study.zarr").load().identical(before)
    assert run_study(study, out).done == ()
    remove_samples(out / "study.zarr", ["s3"])
    annotate_samples(out / "study.zarr", drop=["g"])
    assert run_study(study, out).done == ("ingest",)
    assert open_methylome(out / "study.zarr").load().identical(before)
