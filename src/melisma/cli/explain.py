"""`melisma explain`: which bases and motifs decide a model's levels."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from melisma.cli._options import EnvironmentOption, GenomeOption, ModelArgument, ModelMark
from melisma.errors import MelismaError

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    from melisma.genome import Genome
    from melisma.sequence.explanation import Explanation

_KINDS = (".tsv", ".parquet", ".meme", ".npz", ".bw", ".html")
# Reads that a measured level needs.
_READS = 10
# What a folder of explain's own holds; another folder is not written over.
_RECORD = "explain.json"


def explain(
    model: ModelArgument,
    genome: GenomeOption,
    contig: Annotated[
        list[str] | None, typer.Option(help="Sites of this contig; may be given again.")
    ] = None,
    bed: Annotated[Path | None, typer.Option(help="Sites in these intervals.")] = None,
    store: Annotated[Path | None, typer.Option(help="The sites of a store.")] = None,
    environment: EnvironmentOption = None,
    mark: ModelMark = None,
    sites: Annotated[
        int, typer.Option(min=0, help="Sites that are drawn at random; 0: all.")
    ] = 1000,
    database: Annotated[
        Path | None, typer.Option(help="Known motifs in MEME's format, to name the found ones.")
    ] = None,
    seqlet: Annotated[int, typer.Option(help="Bases of a stretch that matters.")] = 6,
    fewest: Annotated[int, typer.Option(min=2, help="Seqlets that a motif needs.")] = 20,
    strands: Annotated[
        bool, typer.Option("--both-strands", help="A motif and its reverse complement are one.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="A folder for everything, or .tsv, .parquet, .meme, .npz, .bw, .html.",
        ),
    ] = None,
) -> None:
    """Find the bases and motifs that decide a model's levels, and test the motifs.

    \b
    Example:
      melisma explain model -g genome.fa --contig chr21 -e tissue=brain -o explained
      melisma explain model -g genome.fa --bed promoters.bed -o contributions.bw
    """
    from melisma._extras import require
    from melisma.cli._places import asked_sites, one_place
    from melisma.cli._terminal import terminal

    require("deep", "torch", "safetensors", what="Explaining a model")
    from melisma.cli.predict import environment_of
    from melisma.genome import Genome
    from melisma.sequence.checkpoint import load
    from melisma.sequence.explanation import explain as explain_model

    one_place(contig, bed, store)
    _check_out(out)
    told = environment_of(environment)
    with terminal():
        trained, opened = load(model), Genome.open(genome)
        asked = asked_sites(opened, trained, contig=contig, bed=bed, store=store, mark=mark)
        explained = explain_model(
            trained, opened, asked, environment=told, mark=mark, most=sites or None,
            database=database, seqlet=seqlet, fewest=fewest, strands=strands, seed=seed,
            test=out is None or out.suffix not in (".meme", ".npz", ".bw"),
            measure=None if store is None else _measured(store, mark, told),
        )  # fmt: skip
        written = ""
        if out is not None:
            record = {
                "model": str(model), "genome": str(genome), "environment": told, "mark": mark,
                "contig": contig, "bed": str(bed) if bed else None,
                "store": str(store) if store else None, "sites": len(explained.found.windows),
                "sites_in_reach": len(asked.position),
                "database": str(database) if database else None, "seqlet": seqlet,
                "fewest": fewest, "both_strands": strands, "seed": seed,
            }  # fmt: skip
            written = _write(out, explained, opened, record, _scores(model))
    _show(explained, len(asked.position))
    if out is not None:
        typer.echo(f"Written: {written}.")


def _scores(model: Path) -> "pl.DataFrame | None":
    """The model's scores beside its baselines, as training left them."""
    import polars as pl

    path = model / "scores.tsv"
    return pl.read_csv(path, separator="\t") if path.is_file() else None


def _measured(store: Path, mark: str | None, told: dict[str, Any]) -> "Callable[[Any], Any]":
    """From rows of a store's sites to levels, pooled over the samples of the environment."""
    import numpy as np

    from melisma import progress
    from melisma.methylome import open_methylome, sample_sheet, single_mark

    methylome = single_mark(open_methylome(store), mark)
    sheet = sample_sheet(methylome)
    keep = np.ones(methylome.sizes["sample"], bool)
    for name, value in told.items():
        if name in sheet:
            keep &= np.array([str(own) == str(value) for own in sheet[name]])
    if not keep.any():
        progress.note(f"{store} has no sample of {told}, so no level is measured.")

    def measure(rows: Any) -> Any:
        some = methylome.isel(site=rows, sample=np.flatnonzero(keep))
        if "beta" in methylome:
            beta = np.asarray(some["beta"].values, float)
            held = np.isfinite(beta).sum(axis=1)
            return np.where(held > 0, np.nansum(beta, axis=1) / np.maximum(held, 1), np.nan)
        coverage = np.asarray(some["coverage"].values, float).sum(axis=1)
        methylated = np.asarray(some["methylated"].values, float).sum(axis=1)
        return np.where(coverage >= _READS, methylated / np.maximum(coverage, 1), np.nan)

    return measure


def _check_out(out: Path | None) -> None:
    """Refuse an output that cannot be written before anything is computed."""
    if out is None:
        return
    if out.suffix in (".bw", ""):
        _require_bigwig(whole=not out.suffix)
    if out.suffix:
        if out.suffix not in _KINDS:
            raise MelismaError(
                f"{out} ends in {out.suffix}; use {', '.join(_KINDS)}, or a folder's name."
            )
        if out.is_dir():
            raise MelismaError(f"{out} is a folder; name a file.")
    elif out.is_file():
        raise MelismaError(f"{out} is a file; name a folder, or a file ending in .tsv.")
    elif out.is_dir() and any(out.iterdir()) and not (out / _RECORD).is_file():
        raise MelismaError(f"{out} holds something else than an explanation: name another folder.")


def _require_bigwig(*, whole: bool) -> bool:
    from importlib.util import find_spec

    found = find_spec("pybigtools") is not None
    if not found and not whole:
        raise MelismaError(
            'bigWig files need the package pybigtools: pip install "melisma[bigwig]".'
        )
    return found


def _write(
    out: Path, explained: "Explanation", genome: "Genome", record: dict[str, Any],
    scores: "pl.DataFrame | None",
) -> str:  # fmt: skip
    """Write one file or the whole folder; returns what to say of it."""
    from melisma.cli._tables import write_table
    from melisma.sequence.attributions import to_bigwig, to_npz
    from melisma.sequence.motifs import write_meme

    n = len(explained.motifs)
    if out.suffix in (".tsv", ".parquet"):
        write_table(out, explained.table)
        return f"{out}, {n:,} motifs"
    if out.suffix == ".meme":
        write_meme(explained.motifs, out)
        return f"{out}, {n:,} motifs"
    if out.suffix == ".npz":
        to_npz(explained.found, out)
        return f"{out}, {len(explained.found.windows):,} windows"
    if out.suffix == ".bw":
        return f"{out}, {to_bigwig(explained.found, out, dict(genome.lengths)):,} bases"
    if out.suffix == ".html":
        from melisma.report import write_explanation

        write_explanation(explained, out, scores=scores, record=record)
        return f"{out}, one page"
    return _write_folder(out, explained, genome, record, scores)


def _write_folder(
    out: Path, explained: "Explanation", genome: "Genome", record: dict[str, Any],
    scores: "pl.DataFrame | None",
) -> str:  # fmt: skip  # fmt: skip
    import json
    import shutil

    from melisma import __version__
    from melisma.methylome import part_folder, replace_folder
    from melisma.report import write_explanation
    from melisma.sequence.attributions import to_bigwig, to_modisco, to_npz
    from melisma.sequence.motifs import write_meme

    work = part_folder(out)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        tables = {"motifs": explained.table, "experiments": explained.experiments}
        if len(explained.names):
            tables["names"] = explained.names
        if explained.flanks is not None:
            tables["flanks"] = explained.flanks
        for name, table in tables.items():
            table.write_csv(work / f"{name}.tsv", separator="\t")
        write_meme(explained.motifs, work / "motifs.meme")
        to_npz(explained.found, work / "contributions.npz")
        to_modisco(explained.found, work / "ohe.npz", work / "attr.npz")
        if _require_bigwig(whole=True):
            to_bigwig(explained.found, work / "contributions.bw", dict(genome.lengths))
        _draw(explained, work / "logos")
        write_explanation(explained, work / "report.html", scores=scores, record=record)
        (work / _RECORD).write_text(json.dumps({"melisma": __version__} | record, indent=1) + "\n")
        names = sorted(path.name for path in work.iterdir())
        replace_folder(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return f"{out}, {', '.join(names)}"


def _draw(explained: "Explanation", folder: Path) -> None:
    """A logo a motif, and what bases do by position."""
    from melisma.sequence.logos import logo

    folder.mkdir()
    profile = explained.found.by_position()
    drawn = {
        "positions": logo(
            profile, kind="contributions", first=-(profile.shape[1] // 2),
            label="What each base does to the level, by position",
        )
    }  # fmt: skip
    for k, motif in enumerate(explained.motifs, 1):
        label = f"Motif {k}, {motif.consensus}, {motif.seqlets} seqlets"
        counts = motif.frequency * motif.seqlets
        drawn[f"motif-{k}"] = logo(counts, kind="counts", first=motif.offset, label=label)
    for name, text in drawn.items():
        (folder / f"{name}.svg").write_text(text + "\n")


def _show(explained: "Explanation", sites: int) -> None:
    from melisma.cli._terminal import show_table
    from melisma.cli.sites import SHOWN

    n = len(explained.found.windows)
    of = f"{n:,} sites" if n == sites else f"{n:,} of {sites:,} sites"
    table = explained.table
    show_table(
        f"{of}: {len(explained.seqlets):,} seqlets, {len(table):,} motifs",
        ("motif", "consensus", "name", "seqlets", "offset", "effect", "95%"),
        [
            (
                row["motif"], row["consensus"], row["name"] or "–", row["seqlets"], row["offset"],
                "–" if row["effect"] is None else f"{row['effect']:+.3f}",
                "–" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}",
            )
            for row in table.head(SHOWN).iter_rows(named=True)
        ],
    )  # fmt: skip
    if len(table) > SHOWN:
        typer.echo(f"{len(table) - SHOWN:,} more motifs are not shown: --out writes all.")
