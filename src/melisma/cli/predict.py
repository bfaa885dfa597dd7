"""`melisma predict`: a mark's level at sites and regions, in any environment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from melisma.cli._options import EnvironmentOption, ModelArgument, ModelMark
from melisma.errors import MelismaError

if TYPE_CHECKING:
    import polars as pl

    from melisma.genome import Genome
    from melisma.sequence.checkpoint import Model

_KINDS = (".tsv", ".parquet", ".bed", ".bw")


def predict(
    model: ModelArgument,
    genome: Annotated[
        Path, typer.Option("--genome", "-g", help="FASTA or 2bit.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help=".tsv, .parquet, .bed (bedMethyl) or .bw (bigWig)."),
    ] = None,
    contig: Annotated[
        list[str] | None, typer.Option(help="Every site of this contig; may be given again.")
    ] = None,
    bed: Annotated[Path | None, typer.Option(help="Every site in these intervals.")] = None,
    store: Annotated[Path | None, typer.Option(help="The sites of a store.")] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            help="With --store: this sample's environment, and the marks around each site."
        ),
    ] = None,
    environment: EnvironmentOption = None,
    mark: ModelMark = None,
    unseen: Annotated[
        bool,
        typer.Option("--allow-unseen", help="Levels never seen are the mean, flagged."),
    ] = False,
) -> None:
    """Predict a mark's level, with its interval, from sequence and environment.

    \b
    Example:
      melisma predict model -g genome.fa --contig chr21 -e tissue=brain -o predicted.bw
      melisma predict model -g genome.fa --store study.zarr --sample s7 -o imputed.tsv
    """
    from melisma._extras import require
    from melisma.cli._places import asked_sites, one_place
    from melisma.cli._tables import check_output
    from melisma.cli._terminal import terminal

    require("deep", "torch", "safetensors", what="Prediction")
    from melisma.genome import Genome
    from melisma.sequence.checkpoint import load
    from melisma.sequence.predict import predict_sites

    check_output(out, _KINDS)
    one_place(contig, bed, store)
    if sample is not None and store is None:
        raise MelismaError("--sample is one of a store: give --store too.")
    with terminal():
        trained, opened = load(model), Genome.open(genome)
        given = environment_of(environment)
        known = None
        if store is not None:
            sites, known, own = _of_store(store, sample, trained, mark)
            given = own | given
        else:
            sites = asked_sites(opened, trained, contig=contig, bed=bed, mark=mark)
        table = predict_sites(
            trained, opened, sites,
            environment=given, mark=mark, known=known, allow_unseen=unseen,
        )  # fmt: skip
        if out is not None:
            _write(out, table, opened)
    _show(table, out, given, trained)


def environment_of(given: list[str] | None) -> dict[str, Any]:
    """`tissue=brain` and the like as a mapping."""
    found: dict[str, Any] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise MelismaError(f"{text!r} is no environment: write column=value, as tissue=brain.")
        found[name.strip()] = value.strip()
    return found


def _of_store(store: Path, sample: str | None, model: "Model", mark: str | None) -> Any:
    """Sites, the sample's levels (or None), and its environment."""
    import numpy as np

    from melisma.methylome import open_methylome, sample_sheet, single_mark
    from melisma.sequence.predict import sites_of_store

    methylome = single_mark(open_methylome(store), mark)
    sites = sites_of_store(methylome)
    if sample is None:
        return sites, None, {}
    sheet = sample_sheet(methylome)
    names = [str(name) for name in sheet["sample"]]
    if sample not in names:
        raise MelismaError(f"{store} has no sample {sample!r}; it has {', '.join(names[:8])}.")
    at = names.index(sample)
    own = {name: sheet[name][at] for name in model.environment.names if name in sheet}
    one = methylome.isel(sample=at)
    if "beta" in methylome:
        return sites, np.asarray(one["beta"].values, np.float32), own
    coverage = np.asarray(one["coverage"].values, np.float32)
    level = np.full(len(coverage), np.nan, np.float32)
    seen = coverage > 0
    level[seen] = np.asarray(one["methylated"].values, np.float32)[seen] / coverage[seen]
    return sites, level, own


def _write(out: Path, table: "pl.DataFrame", genome: "Genome") -> None:
    from melisma.cli._tables import write_table
    from melisma.methylome import atomic_file
    from melisma.sequence.predict import as_bedmethyl

    if out.suffix == ".bed":
        with atomic_file(out) as work:
            as_bedmethyl(table).write_csv(work, separator="\t", include_header=False)
    elif out.suffix == ".bw":
        from melisma.export.bigwig import write_values

        write_values(out, table, dict(genome.lengths))
    else:
        write_table(out, table)


def _show(table: "pl.DataFrame", out: Path | None, given: dict[str, Any], model: "Model") -> None:
    from melisma.cli._terminal import show_table
    from melisma.cli.sites import SHOWN, show_rest

    told = ", ".join(f"{name}={value}" for name, value in given.items()) or "the mean environment"
    spread = f", {len(model.members)} networks" if len(model.members) > 1 else ""
    show_table(
        f"{len(table):,} sites of {table['mark'][0]}, {told}{spread}",
        ("site (0-based)", "strand", "level", "90% interval"),
        [
            (
                f"{row['contig']}:{row['position']}", row["strand"], f"{row['level']:.3f}",
                "–" if row["low"] is None else f"{row['low']:.3f} to {row['high']:.3f}",
            )
            for row in table.head(SHOWN).iter_rows(named=True)
        ],
    )  # fmt: skip
    flagged = table["unseen"][0]
    if flagged:
        typer.echo(f"Training never saw {flagged}: treat the levels as a guess.")
    show_rest(len(table), out)
    if out is not None:
        typer.echo(f"Written: {out}, {len(table):,} sites.")
