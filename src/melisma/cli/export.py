"""`melisma export`: a store's calls as files of other tools."""

from pathlib import Path
from typing import Annotated

import typer

from melisma._plural import count
from melisma.cli._options import Store
from melisma.cli._terminal import show_first, terminal


def export(
    store: Store,
    to: Annotated[
        str,
        typer.Option(
            help="bedmethyl, bismark-cov, bismark-report, methylkit, dss, allc, cgmap, bigwig, "
            "parquet, anndata or matrix."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="The folder to make; one file: .h5ad, or .parquet of all samples."
        ),
    ],
    sample: Annotated[
        list[str] | None, typer.Option(help="A sample to export; may be repeated. Default: all.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="chr:start-end, 0-based and half open (UCSC's start minus 1), or chr."),
    ] = None,
    mark: Annotated[
        str | None, typer.Option(help="The mark to export, if the store has several.")
    ] = None,
    context: Annotated[
        list[str] | None, typer.Option(help="CG, CHG or CHH alone; may be repeated.")
    ] = None,
    genome: Annotated[
        Path | None,
        typer.Option(help="FASTA: strands, contexts, trinucleotides and contig lengths from it."),
    ] = None,
    sizes: Annotated[
        Path | None, typer.Option(help="bigWig: contig lengths, a chrom.sizes file.")
    ] = None,
    bgzip: Annotated[
        bool, typer.Option("--bgzip/--plain", help="Text as bgzip, or not compressed.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; default: the processors.")
    ] = None,
) -> None:
    """Write a store's calls as other tools read them, one file a sample.

    The folder's samples.tsv leads `melisma ingest` back to the files.

    \b
    Example:
      melisma export melisma-demo/study.zarr --to bedmethyl -o calls
    """
    with terminal():
        from melisma.export import export as write_files

        made = write_files(
            store,
            out,
            to=to,
            samples=sample,
            region=region,
            mark=mark,
            contexts=context,
            genome=genome,
            sizes=sizes,
            bgzip=bgzip,
            overwrite=overwrite,
            workers=workers,
        )
    files = sorted({file for own in made.files.values() for file in own})
    total = sum(file.stat().st_size for file in files)
    size = f"{total / 1e6:,.1f} MB" if total >= 1e5 else f"{total / 1e3:,.0f} kB"
    title = (
        f"{made.out}: {count(sum(made.rows.values()), 'call')} of "
        f"{count(len(made.rows), 'sample')}, {count(len(files), 'file')}, {size}"
    )
    columns = ("sample", "calls", "file")
    rows = [
        (name, made.rows[name], ", ".join(file.name for file in made.files[name]))
        for name in made.rows
    ]
    if len(rows) > 1 and len(files) == 1:
        # One file has all samples: it is named once.
        title = f"{title}: {files[0].name}" if files[0] != made.out else title
        columns, rows = columns[:2], [row[:2] for row in rows]
    show_first(title, columns, rows, rest=f"{made.out} has all")
    if made.left_out:
        names = ", ".join(list(made.left_out)[:5]) + (", …" if len(made.left_out) > 5 else "")
        typer.echo(f"Left out, without a call at the chosen sites: {names}")
