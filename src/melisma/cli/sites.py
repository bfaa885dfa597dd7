"""`melisma sites`: which sites' marks follow a contrast."""

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
        f"q < {q:g} (lambda {result.inflation:.2f}; {result.untestable:,} not testable; "
        f"{comparison.n_units} {comparison.unit})",
        ("site", "strand", "delta_beta", "95% interval", "p", "q", "samples"),
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
            for row in called.head(10).iter_rows(named=True)
        ],
    )
    show_notes(result.notes)
    if out is not None:
        write_table(out, result.table)


def show_notes(notes: tuple[str, ...]) -> None:
    """Print what a reader of the result must know, a line each."""
    import typer

    for note in notes:
        typer.echo(note)
