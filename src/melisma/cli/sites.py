"""`melisma sites`: which sites' marks follow a contrast."""

from pathlib import Path

import typer

from melisma.cli._options import Block, Contrast, Formula, Level, MarkOption, Output, Store


def sites(
    store: Store,
    formula: Formula,
    contrast: Contrast,
    block: Block = None,
    mark: MarkOption = None,
    q: Level = 0.05,
    out: Output = None,
) -> None:
    """Test every site along a contrast.

    \b
    Example:
      melisma sites melisma-demo/study.zarr -f "~ cell + disease" \\
        -c "cell[activated_naive] - cell[resting_naive]" --block identity -o sites.tsv
    """
    from melisma.cli._tables import check_output, write_table
    from melisma.cli._terminal import show_table, terminal
    from melisma.differential import site_tests
    from melisma.study import open_with_design

    check_output(out)
    with terminal():
        methylome, design = open_with_design(store, formula, block)
        result = site_tests(methylome, design, contrast, mark=mark)
    called = result.significant(q)
    comparison = result.comparison
    show_table(
        f"{comparison.contrast.name}: {len(called):,} of {result.tested:,} tested sites at "
        f"q < {q:g} (lambda {result.inflation:.2f}; {comparison.n_units} {comparison.unit})",
        ("site (0-based)", "strand", "delta_beta", "95% interval", "p", "q", "samples"),
        [
            (
                f"{row['contig']}:{row['position']}",
                {1: "+", -1: "-", 0: "."}[row["strand"]],
                f"{row['delta_beta']:+.3f}",
                f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}",
                f"{row['p']:.1e}",
                f"{row['q']:.2g}",
                row["n_used"],
            )
            for row in called.head(SHOWN).iter_rows(named=True)
        ],
    )
    left_out = [f"{n:,} {why}" for why, n in result.reasons.items() if n]
    if left_out:
        typer.echo(f"Not testable: {result.untestable:,} ({', '.join(left_out)}).")
    if not len(called) and result.tested:
        typer.echo(f"The smallest q is {result.table['q'].min():.2g}.")
    show_notes(result.notes)
    show_rest(len(called), out)
    if out is not None:
        write_table(out, result.table)
        typer.echo(f"Written: {out}, {len(result.table):,} sites.")


SHOWN = 10


def show_rest(called: int, out: Path | None) -> None:
    """Say how many rows the terminal did not show."""
    if called > SHOWN and out is None:
        typer.echo(f"{called - SHOWN:,} more are not shown: --out writes all.")


def show_notes(notes: tuple[str, ...]) -> None:
    """Print what a reader of the result must know, a line each."""
    for note in notes:
        typer.echo(note)
