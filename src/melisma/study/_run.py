"""The steps of a study: ingest, quality, one step a contrast, report."""

import json
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl
import xarray as xr

from melisma import __version__, progress
from melisma.calls import ingest, read_samples
from melisma.design import (
    Contrast,
    Design,
    NoReplicates,
    compare,
    make_contrasts,
    make_design,
)
from melisma.differential.sites import of_design
from melisma.errors import MelismaError
from melisma.methylome import atomic_file, open_methylome, parse_mark, sample_sheet
from melisma.quality import check_quality
from melisma.report import write_report
from melisma.study._analysis import Question, analyse, slug
from melisma.study._annotation import check_beside, read_annotation
from melisma.study._config import IDENTITY, DesignSection, StudyConfig, read_study
from melisma.study._folder import RunFolder, digest
from melisma.study._inputs import hash_inputs
from melisma.study._sequence import KEPT, MODEL, TABLES, check_sequence, read_sequence
from melisma.study._sequence import STORE as SEQUENCE_STORE
from melisma.study._traces import FOLDER, Reading, files, make_traces
from melisma.study._words import in_toml, messages_of_a_study

STORE = "study.zarr"
REPORT = "report.html"
_PACKAGES = ("numpy", "scipy", "polars", "xarray", "zarr", "numba", "formulaic", "pysam", "plotly")
_QUALITY_TABLES = (
    "qc_samples", "qc_levels", "qc_coverage", "qc_correlation", "identity_pairs",
    "identity_distance", "qc_conversion", "qc_bias", "qc_sex", "qc_saturation", "qc_covariates",
    "qc_confounding", "qc_checks",
)  # fmt: skip
# A store of levels has no coverage.
_OF_COUNTS = ("qc_coverage", "qc_saturation")


@dataclass(frozen=True)
class Run:
    """Where a run's results lie, and which steps were computed and which were up to date.

    left_out : a sentence for each thing that was not tested, and why
    failed : the failed checks of a study whose `[qc]` is strict; nothing was tested then
    """

    folder: Path
    report: Path
    done: tuple[str, ...]
    skipped: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def run_study(
    study: StudyConfig | Path | str, out: Path | str | None = None, *, notices: Sequence[str] = (),
    traces: Mapping[str, Reading] | None = None,
) -> Run:  # fmt: skip
    """From calls to report: every step of a study, into one folder.

    Parameters
    ----------
    study : a study.toml, or what `read_study` made of it
    out : the folder; default the study's `[output] folder`, else `melisma-out`
    notices : where the data come from and under which licence, Markdown, shown in the report
    traces : by their headings in the report: functions of the run's folder and of what run.json
        keeps of its sequence (None without), each to a `Trace`; its `about["note"]` is shown

    Returns
    -------
    Run. Steps whose inputs and parameters have not changed are skipped; interrupted work is
    resumed from `<out>.part`.

    Raises
    ------
    MelismaError
        The input is bad; nothing is left behind.
    """
    config = study if isinstance(study, StudyConfig) else read_study(study)
    with messages_of_a_study():
        sheet = read_samples(config.input.samples, matrix=config.input.matrix)
        _check_designs(config, sheet)
        check_beside(config)
        check_sequence(config)
        final = Path(out or config.output.folder or "melisma-out")
        folder = RunFolder(final, _study(config))
        try:
            return _run(config, sheet, folder, tuple(notices), traces or {})
        except MelismaError:
            folder.discard()
            raise


def _study(config: StudyConfig) -> dict[str, str]:
    """What tells one study from another: its title and its sample sheet."""
    return {"title": config.title, "samples": str(config.input.samples)}


def _check_designs(config: StudyConfig, sheet: pl.DataFrame) -> None:
    """Refuse designs that cannot be estimated before anything is read."""
    for section in config.design:
        block = None if section.block == IDENTITY else section.block
        design = make_design(sheet, section.formula, block=block, drop_missing=section.drop_missing)
        for contrast in _contrasts(section, design):
            _without_replicates(design, contrast)


def _contrasts(section: DesignSection, design: Design) -> list[Contrast]:
    """The contrasts that a design asks for, each once."""
    found = [c for text in section.contrasts for c in make_contrasts(design, text)]
    return list({contrast.name: contrast for contrast in found}.values())


def _without_replicates(design: Design, contrast: Contrast) -> str:
    """Why a contrast is left out: it has no replicates; empty where it can be tested."""
    try:
        compare(design, contrast)
    except NoReplicates as error:
        searched = (
            " Or search it for regions with `[regions] no_replicates = true`: their variance is "
            "then that of reads and neighbouring sites only."
        )
        return f"Not tested: {in_toml(str(error))}{searched if contrast.levels else ''}"
    return ""


def _run(
    config: StudyConfig, sheet: pl.DataFrame, folder: RunFolder, notices: tuple[str, ...],
    readings: Mapping[str, Reading],
) -> Run:  # fmt: skip
    inputs, beside = hash_inputs(config, sheet, folder.before.get("inputs", []))
    hashes, about = ([(i["path"], i["sha256"]) for i in part] for part in (inputs, beside))
    ingested = {"inputs": hashes, "version": __version__, "ingest": config.ingest.model_dump()}
    if _changed_by_hand(folder):
        progress.note(
            f"{folder.final / STORE} was changed since this run made it: it is made again from the "
            "sample sheet."
        )
        shutil.rmtree(folder.path / STORE)
    folder.step("ingest", ingested, [STORE], lambda: _ingest(config, sheet, folder))
    methylome = open_methylome(folder.path / STORE)
    quality = folder.step(
        "qc",
        {**ingested, "qc": config.qc.model_dump(exclude={"strict"})},
        [f"tables/{name}.parquet" for name in _QUALITY_TABLES if name not in _OF_COUNTS],
        lambda: _quality(methylome, folder, config),
    )
    failed = tuple(quality["failed"]) if config.qc.strict else ()
    left_out = _nothing_tested(config, failed)
    kept = {f"{name}.{kind}" for name in _QUALITY_TABLES for kind in ("parquet", "tsv")}
    annotation = cache(lambda: read_annotation(config, methylome.attrs["contigs"]))
    designs = []
    for section in () if failed else config.design:
        design = _design(section, methylome, quality)
        contrasts = []
        for contrast in _contrasts(section, design):
            reason = _without_replicates(design, contrast)
            if reason and not config.regions.no_replicates:
                left_out.append(reason)
                continue
            stem = f"{section.name or 'design'}.{slug(contrast)}"
            question = Question(of_design(methylome, design), design, contrast, stem, reason)
            result = folder.step(
                stem,
                [ingested, about, section.model_dump(), design.block, _parameters(config)],
                [f"tables/{stem}.{'regions' if reason else 'sites'}.parquet"],
                _bound(analyse, question, config, folder, annotation),
            )
            kept |= {f"{stem}.{name}" for name in result["tables"]}
            contrasts.append(result["contrast"])
        designs.append(_design_record(section, design, contrasts))
    sequence = None
    if config.sequence is not None and not failed:
        sequence = folder.step(
            "sequence",
            [ingested, about, config.sequence.model_dump(), KEPT],
            [f"{MODEL}/model.json", *(f"tables/{name}.parquet" for name in TABLES)],
            lambda: read_sequence(config, folder),
        )
        kept |= {f"sequence.{name}" for name in sequence["tables"]}
    else:
        for name in (MODEL, SEQUENCE_STORE):
            shutil.rmtree(folder.path / name, ignore_errors=True)
    traced: list[dict[str, Any]] = []
    if readings and not failed:
        read = folder.steps.get("sequence", {}).get("key")
        traced = folder.step(
            "traces",
            [__version__, read, list(readings)],
            files(readings),
            lambda: make_traces(readings, folder, sequence),
        )["traces"]
    else:
        shutil.rmtree(folder.path / FOLDER, ignore_errors=True)
    folder.remove_stale(kept)
    record = _record(config, methylome, inputs + beside, quality, designs, notices)
    record["left_out"] = left_out
    record["sequence"] = sequence
    record["traces"] = traced
    unchanged = not folder.done and (folder.path / REPORT).exists()
    if unchanged and folder.before.get("created"):
        record["created"] = folder.before["created"]
    folder.write_record(record | {"steps": dict(folder.steps)})
    folder.step(
        "report",
        digest({k: v for k, v in record.items() if k != "created"}),
        [REPORT],
        lambda: _report(folder),
    )
    folder.write_record(record | {"steps": dict(folder.steps)})
    final = folder.finish()
    steps = tuple(folder.done), tuple(folder.skipped)
    return Run(final, final / REPORT, *steps, left_out=tuple(left_out), failed=failed)


def _nothing_tested(config: StudyConfig, failed: Sequence[str]) -> list[str]:
    """Why no contrast at all is tested: the quality gate, or a study that asks for none."""
    if failed:
        noun = "check" if len(failed) == 1 else "checks"
        return [f"Nothing was tested: {len(failed)} quality {noun} failed and the study is strict."]
    if not config.design:
        return [
            "The study has no [design], so this run is ingest and quality only: no sites, no "
            "regions and no calibration were computed."
        ]
    return []


def _bound(
    function: Callable[..., dict[str, Any]], *arguments: Any
) -> Callable[[], dict[str, Any]]:
    return lambda: function(*arguments)


def _ingest(config: StudyConfig, sheet: pl.DataFrame, folder: RunFolder) -> dict[str, Any]:
    summary = ingest(
        sheet,
        folder.path / STORE,
        matrix=config.input.matrix,
        manifest=config.input.manifest,
        genome=config.input.genome,
        merge_strands=config.ingest.merge_strands,
        mark=config.ingest.mark,
        overwrite=True,
    )
    return {
        "samples": summary.samples,
        "sites": summary.sites,
        "inputs": _made_from(folder.path / STORE),
    }


def _made_from(store: Path) -> str | None:
    """What tells a store from one that was appended to, renamed or annotated since."""
    return open_methylome(store).attrs.get("ingest", {}).get("inputs")


def _changed_by_hand(folder: RunFolder) -> bool:
    """Whether the store is not the one that this run's ingest left."""
    made = folder.before.get("steps", {}).get("ingest", {}).get("result", {}).get("inputs")
    store = folder.path / STORE
    return made is not None and store.exists() and _made_from(store) != made


def _quality(methylome: xr.Dataset, folder: RunFolder, config: StudyConfig) -> dict[str, Any]:
    mark = None if len(methylome.attrs["marks"]) == 1 else methylome.attrs["marks"][0]
    quality = check_quality(
        methylome,
        mark=mark,
        spike_in=config.qc.spike_in,
        methylated_control=config.qc.methylated_control,
        limits=config.qc.limits,
    )
    for name, table in quality.tables().items():
        folder.table(name, table)
    for name, content in quality.multiqc().items():
        with atomic_file(folder.path / "multiqc" / name) as work:
            work.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    return quality.summary()


def _design(section: DesignSection, methylome: xr.Dataset, quality: Mapping[str, Any]) -> Design:
    sheet: Mapping[str, Sequence[Any]] = sample_sheet(methylome)
    if section.block == IDENTITY:
        sheet = with_identity(sheet, quality["identity"])
    return make_design(
        sheet, section.formula, block=section.block, drop_missing=section.drop_missing
    )


def with_identity(
    sheet: Mapping[str, Sequence[Any]], identity: Mapping[str, Any]
) -> dict[str, Sequence[Any]]:
    """The sheet with a column of the people that the identity check found.

    Raises
    ------
    MelismaError
        The identity check could not tell the people apart.
    """
    if not identity["resolved"]:
        raise MelismaError(
            f"The block 'identity' needs people told apart from the calls: {identity['reason']} "
            "Name a column of the sample sheet instead."
        )
    people = identity["people"]
    return {**sheet, IDENTITY: [people[str(sample)] for sample in sheet["sample"]]}


def _design_record(
    section: DesignSection, design: Design, contrasts: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "name": section.name or "design",
        "formula": design.formula,
        "block": section.block,
        "left_out": list(design.dropped),
        "contrasts": contrasts,
    }


def _parameters(config: StudyConfig) -> dict[str, Any]:
    return {"sites": config.sites.model_dump(), "regions": config.regions.model_dump()}


def _record(
    config: StudyConfig,
    methylome: xr.Dataset,
    inputs: list[dict[str, Any]],
    quality: Mapping[str, Any],
    designs: list[dict[str, Any]],
    notices: tuple[str, ...],
) -> dict[str, Any]:
    genome = methylome.attrs.get("genome")
    return {
        "title": config.title,
        "study": _study(config),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "melisma": __version__,
        "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
        "inputs": inputs,
        "data_notices": list(notices),
        "samples": methylome.sizes["sample"],
        "sites": methylome.sizes["site"],
        "mark": ", ".join(parse_mark(mark).name for mark in methylome.attrs["marks"]),
        "genome": {"name": genome["name"]} if genome else None,
        "qc": dict(quality),
        "designs": designs,
        "parameters": {"ingest": config.ingest.model_dump(), "qc": config.qc.model_dump()}
        | _parameters(config),
    }


def _report(folder: RunFolder) -> dict[str, Any]:
    write_report(folder.path)
    return {}


def open_with_design(
    store: Path | str, formula: str, block: str | None, *, drop_missing: bool = False
) -> tuple[xr.Dataset, Design]:
    """Open a store and build a design over it; `block` may be "identity".

    With `drop_missing` both are without the samples that lack a value in a column that is used.

    Raises
    ------
    MelismaError
        As `open_methylome`, `make_design` and `with_identity`.
    """
    methylome = open_methylome(store)
    sheet: Mapping[str, Sequence[Any]] = sample_sheet(methylome)
    if block == IDENTITY and IDENTITY not in sheet:
        make_design(sheet, formula, drop_missing=drop_missing)
        progress.note("Telling people apart from the calls.")
        sheet = with_identity(sheet, check_quality(methylome).summary()["identity"])
    design = make_design(sheet, formula, block=block, drop_missing=drop_missing)
    return of_design(methylome, design), design
