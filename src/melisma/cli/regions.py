"""`melisma regions`: where neighbouring sites differ together."""

from typing import Annotated

import typer

from melisma.cli._options import Block, Contrast, Formula, Level, MarkOption, Output, Store


def regions(
    store: Store,
    formula: Formula,
    contrast: Contrast,
    block: Block = None,
    mark: MarkOption = None,
    q: Level = 0.05,
    relabellings: Annotated[
        int | None,
        typer.Option(min=10, help="Relabelled or rotated data sets; default 999, 10 on whole genomes."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the relabellings or rotations.")] = 1,
    out: Output = None,
) -> None:
    """Find regions that differ along a contrast, against relabelled or rotated data.

    \b
    Example:
      melisma regions melisma-demo/study.zarr -f "~ cell + disease" \\
        -c "cell[activated_naive] - cell[resting_naive]" -o regions.bed
    """
    from melisma.cli._tables import check_output, write_table
    from melisma.cli._terminal import show_table, terminal
    from melisma.cli.sites import SHOWN, show_notes, show_rest
    from melisma.differential import find_regions
    from melisma.study import open_with_design

    check_output(out, (".tsv", ".parquet", ".bed"))
    with terminal():
        methylome, design = open_with_design(store, formula, block)
        result = find_regions(
            methylome, design, contrast, mark=mark, q=q, relabellings=relabellings, seed=seed
        )
    called = result.significant()
    calls = sorted(result.called_by_relabelling)
    show_table(
        f"{result.comparison.contrast.name}: {len(called):,} of {len(result.table):,} candidate "
        f"regions at q < {q:g} ({result.null_words})",
        ("region (0-based)", "sites", "delta_beta", "95% interval", "p", "q", "p_family"),
        [
            (
                row["region"],
                row["sites"],
                f"{row['delta_beta']:+.3f}",
                f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}",
                f"{row['p']:.1e}",
                f"{row['q']:.2g}",
                "–" if row["p_family"] is None else f"{row['p_family']:.2g}",
            )
            for row in called.head(SHOWN).iter_rows(named=True)
        ],
    )
    show_notes((*result.comparison.notes, *result.engine.notes))
    if len(called):
        typer.echo(
            f"At the same cut {result.null_adjective} data call a median of "
            f"{calls[len(calls) // 2]} regions and at most {calls[-1]}."
        )
    elif len(result.table):
        typer.echo(f"The smallest q is {result.table['q'].min():.2g}.")
    show_rest(len(called), out)
    if out is not None:
        written = called if out.suffix == ".bed" else result.table
        write_table(out, written)
        typer.echo(f"Written: {out}, {len(written):,} regions.")
