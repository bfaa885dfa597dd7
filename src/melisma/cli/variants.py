"""`melisma variants`: what variants do to the marks around them."""

from pathlib import Path
from typing import Annotated

import typer

from melisma.cli._options import GenomeOption, Output


def variants(
    vcf: Annotated[Path, typer.Argument(help="VCF or BCF, plain or bgzip.", show_default=False)],
    genome: GenomeOption,
    model: Annotated[
        Path,
        typer.Option("--model", "-m", help="A folder made by `melisma train`.", show_default=False),
    ],
    environment: Annotated[
        list[str] | None,
        typer.Option(
            "--environment", "-e", help="tissue=brain; may be given again. Else the mean."
        ),
    ] = None,
    reach: Annotated[
        int | None,
        typer.Option(min=0, help="Bases beside a variant in which sites are looked at."),
    ] = None,
    out: Output = None,
) -> None:
    """Predict how each allele changes the level of every site that sees it.

    \b
    Example:
      melisma variants calls.vcf.gz -g genome.fa -m model -e tissue=brain -o variants.tsv
    """
    from melisma._extras import require
    from melisma.cli._tables import check_output, write_table
    from melisma.cli._terminal import show_table, terminal
    from melisma.cli.predict import environment_of
    from melisma.cli.sites import SHOWN, show_rest

    require("deep", "torch", "safetensors", what="Prediction")
    from melisma.genome import Genome
    from melisma.sequence.checkpoint import load
    from melisma.sequence.variants import read_variants, variant_effects

    check_output(out)
    with terminal():
        table, skipped = variant_effects(
            load(model),
            Genome.open(genome),
            read_variants(vcf),
            environment=environment_of(environment),
            reach=reach,
        )
    counts = {name: int((table["change"] == name).sum()) for name in ("kept", "lost", "gained")}
    strongest = table.sort(table["delta"].abs(), descending=True, nulls_last=True)
    show_table(
        f"{table['variant'].n_unique():,} alleles with sites in reach: {counts['kept']:,} sites "
        f"kept, {counts['lost']:,} lost, {counts['gained']:,} gained",
        ("variant", "allele", "site (0-based)", "change", "reference", "alternative", "delta"),
        [
            (
                row["variant"], f"{row['reference']}>{row['alternative']}",
                "–" if row["site"] is None else f"{row['contig']}:{row['site']}", row["change"],
                _level(row["level_reference"]), _level(row["level_alternative"]),
                "–" if row["delta"] is None else f"{row['delta']:+.3f}",
            )
            for row in strongest.head(SHOWN).iter_rows(named=True)
        ],
    )  # fmt: skip
    if skipped.mismatched:
        typer.echo(
            f"{skipped.mismatched:,} rows with another reference allele are left out "
            f"({skipped.example})."
        )
    if skipped.symbolic:
        typer.echo(f"{skipped.symbolic:,} alleles without sequence (<DEL>, *, …) are left out.")
    if skipped.elsewhere:
        typer.echo(f"{skipped.elsewhere:,} rows on contigs that the genome lacks are left out.")
    show_rest(len(table), out)
    if out is not None:
        write_table(out, table)
        typer.echo(f"Written: {out}, {len(table):,} rows.")


def _level(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
