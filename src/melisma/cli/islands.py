"""`melisma islands`: where the CpG islands of a genome are."""

from pathlib import Path
from typing import Annotated

import typer

from melisma.cli._options import Output


def islands(
    genome: Annotated[Path, typer.Argument(help="FASTA or 2bit.", show_default=False)],
    rule: Annotated[
        str,
        typer.Option(
            help="takai-jones: 500 bases, GC .55, observed/expected .65; gardiner-garden: 200 "
            "bases, .5, .6."
        ),
    ] = "takai-jones",
    contig: Annotated[
        list[str] | None, typer.Option(help="Only this contig; may be given again.")
    ] = None,
    out: Output = None,
) -> None:
    """Compute CpG islands from sequence.

    \b
    Example:
      melisma islands genome.fa -o islands.bed
      melisma islands genome.fa --rule gardiner-garden --contig chr22 -o islands.tsv
    """
    from melisma.cli._tables import check_output, write_table
    from melisma.cli._terminal import show_table, terminal
    from melisma.cli.sites import SHOWN, show_rest
    from melisma.genome import Genome
    from melisma.islands import cpg_islands

    check_output(out, (".bed", ".tsv", ".parquet"))
    with terminal():
        table = cpg_islands(Genome.open(genome), rule, contigs=contig)
    bases, plural = int(table["length"].sum()), "" if len(table) == 1 else "s"
    show_table(
        f"{rule}: {len(table):,} CpG island{plural} of {bases:,} bases",
        ("island (0-based)", "length", "CpGs", "GC", "observed/expected"),
        [
            (row["name"], row["length"], row["cpgs"], f"{row['gc']:.3f}",
             f"{row['observed_expected']:.3f}")
            for row in table.head(SHOWN).iter_rows(named=True)
        ],
    )  # fmt: skip
    show_rest(len(table), out)
    if out is not None:
        write_table(out, table.rename({"name": "region"}) if out.suffix == ".bed" else table)
        typer.echo(f"Written: {out}, {len(table):,} island{plural}.")
