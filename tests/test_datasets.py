"""The packaged data: complete, readable as study and sheet, and equal to where they came from."""

import gzip
import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from melisma import datasets
from melisma.design import read_sheet
from melisma.errors import MelismaError
from melisma.study._config import read_study

ROOT = Path(__file__).parents[1]
SOURCE = ROOT.parent / "shared" / "data" / "vendorable" / "lupus_rrbs"
SAID = {
    "lupus": ("r-bioc-dss", "General Public License"),
    "imr90": ("r-bioc-bsseq", "Artistic License 2.0", "unmethylated"),
    "glioma": ("r-bioc-tcgabiolinksgui.data", "General Public License, version 3", "MGMT"),
}
COLUMNS = ["chrom", "start", "end", "percent", "methylated", "unmethylated"]


def coverage_file(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, separator="\t", has_header=False, new_columns=COLUMNS)


def test_every_data_set_has_a_study_a_sheet_and_a_notice():
    for name in datasets.names():
        folder = datasets.folder(name)
        study = read_study(folder / "study.toml")
        assert study.input.samples == folder.resolve() / "samples.tsv"
        notice = (folder / "NOTICE.md").read_text(encoding="utf-8")
        for said in (*SAID[name], "does not cover"):
            assert said in notice
        assert all(datasets.describe(name))


def test_an_unknown_data_set_is_refused():
    for ask in (datasets.folder, datasets.describe):
        with pytest.raises(MelismaError, match="no data set 'mice': there is lupus, imr90"):
            ask("mice")


def test_the_lupus_sheet_is_a_balanced_cross():
    sheet = read_sheet(datasets.folder("lupus") / "samples.tsv")
    assert sheet["sample"].to_list() == [f"sample{i}" for i in range(1, 17)]
    cells = sheet.group_by("disease", "cell").len().sort("disease", "cell")
    assert cells.rows() == [
        ("healthy", "activated_naive", 4),
        ("healthy", "resting_naive", 4),
        ("lupus", "activated_naive", 4),
        ("lupus", "resting_naive", 4),
    ]


def test_the_lupus_files_are_bismark_coverage():
    for path in sorted(datasets.folder("lupus").glob("*.cov.gz")):
        table = coverage_file(path)
        coverage = table["methylated"] + table["unmethylated"]
        assert coverage.min() >= 1
        assert (table["start"] == table["end"]).all()
        assert table["start"].is_sorted()
        assert table["start"].is_unique().all()
        level = 100 * table["methylated"] / coverage
        np.testing.assert_allclose(table["percent"], level, rtol=1e-12)
        # No clock and no name in the gzip header, so that building again changes nothing.
        assert path.read_bytes()[3:8] == bytes(5)


@pytest.mark.reference
@pytest.mark.skipif(not SOURCE.exists(), reason="../shared is absent")
def test_the_lupus_counts_equal_their_source():
    source = pl.read_csv(SOURCE / "calls.tsv.gz", separator="\t")
    sheet = read_sheet(datasets.folder("lupus") / "samples.tsv")
    published = pl.read_csv(SOURCE / "samples.tsv", separator="\t")
    assert sheet.select("sample", "disease", "cell").equals(published)
    assert len(sheet) == 16
    for sample, path in sheet.select("sample", "path").rows():
        seen = source.filter(pl.col(f"{sample}_coverage") > 0)
        found = coverage_file(Path(path))
        assert found["chrom"].to_list() == seen["chrom"].to_list()
        assert (found["start"] - 1).to_list() == seen["start"].to_list()
        assert found["methylated"].to_list() == seen[f"{sample}_methylated"].to_list()
        coverage = found["methylated"] + found["unmethylated"]
        assert coverage.to_list() == seen[f"{sample}_coverage"].to_list()


@pytest.mark.reference
@pytest.mark.skipif(not SOURCE.exists(), reason="../shared is absent")
def test_the_builder_gives_the_packaged_files(tmp_path):
    runpy.run_path(str(ROOT / "tools" / "build_lupus.py"))["build"](SOURCE, tmp_path)
    packaged = datasets.folder("lupus")
    built = sorted(path.name for path in tmp_path.iterdir())
    written_by_hand = {"NOTICE.md", "study.toml"}
    assert set(built) == {path.name for path in packaged.iterdir()} - written_by_hand
    for name in built:
        new, old = (tmp_path / name).read_bytes(), (packaged / name).read_bytes()
        if name.endswith(".gz"):
            new, old = gzip.decompress(new), gzip.decompress(old)
        assert new == old


@pytest.mark.reference
@pytest.mark.skipif(not SOURCE.exists(), reason="../shared is absent")
def test_the_builder_gives_the_packaged_imr90_files(tmp_path):
    source = SOURCE.parent / "imr90_chr22"
    runpy.run_path(str(ROOT / "tools" / "build_imr90.py"))["build"](source, tmp_path)
    packaged = datasets.folder("imr90")
    built = sorted(path.name for path in tmp_path.iterdir())
    assert set(built) == {path.name for path in packaged.iterdir()} - {"NOTICE.md", "study.toml"}
    for name in built:
        new, old = (tmp_path / name).read_bytes(), (packaged / name).read_bytes()
        if name.endswith(".gz"):
            new, old = gzip.decompress(new), gzip.decompress(old)
        assert new == old


@pytest.mark.reference
@pytest.mark.skipif(not SOURCE.exists(), reason="../shared is absent")
def test_the_builder_gives_the_packaged_glioma_files(tmp_path):
    source = SOURCE.parent / "tcga_glioma"
    runpy.run_path(str(ROOT / "tools" / "build_glioma.py"))["build"](source, tmp_path)
    packaged = datasets.folder("glioma")
    built = sorted(path.name for path in tmp_path.iterdir())
    assert set(built) == {path.name for path in packaged.iterdir()} - {"NOTICE.md", "study.toml"}
    for name in built:
        new, old = (tmp_path / name).read_bytes(), (packaged / name).read_bytes()
        if name.endswith(".gz"):
            new, old = gzip.decompress(new), gzip.decompress(old)
        assert new == old


def test_the_glioma_sheet_and_levels_are_of_the_same_patients():
    folder = datasets.folder("glioma")
    sheet = pl.read_csv(folder / "samples.tsv", separator="\t")
    levels = pl.read_csv(folder / "betas.tsv.gz", separator="\t")
    assert levels.columns == ["probe", *sheet["sample"]]
    assert levels.height == 60
    assert levels.null_count().sum_horizontal()[0] == sheet.null_count().sum_horizontal()[0] == 0
    values = levels.drop("probe").to_numpy()
    assert values.min() >= 0
    assert values.max() <= 1
    assert sheet["survival_months"].min() > 0
    # The mutation's own mark: levels are higher where IDH is mutated.
    assert values[:, (sheet["idh"] == "Mutant").to_numpy()].mean() > 0.5
    assert values[:, (sheet["idh"] == "WT").to_numpy()].mean() < 0.3
    assert sum(path.stat().st_size for path in folder.iterdir()) < 250_000


def test_the_imr90_calls_lie_on_cpgs_of_their_genome():
    from melisma.genome import Genome

    folder = datasets.folder("imr90")
    bases = Genome.open(folder / "genome.fa.gz").bases("chr22")
    for sample in ("rep1", "rep2"):
        table = coverage_file(folder / f"{sample}.cov.gz")
        at = table["start"].to_numpy() - 1
        cpg = (bases[at] == ord("C")) & (bases[at + 1] == ord("G"))
        assert cpg.mean() > 0.99
        assert (table["methylated"] > 0).all()
