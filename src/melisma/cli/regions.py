"""`melisma regions`: where neighbouring sites differ together, or whether given regions do."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from melisma.cli._options import (
    Block,
    Contrast,
    DropMissing,
    Formula,
    Level,
    MarkOption,
    Output,
    Store,
)
from melisma.errors import MelismaError

if TYPE_CHECKING:
    import polars as pl
    import xarray as xr

    from melisma.differential import GivenRegionTests, RegionTests


def regions(
    store: Store,
    formula: Formula,
    contrast: Contrast,
    block: Block = None,
    drop_missing: DropMissing = False,
    mark: MarkOption = None,
    context: Annotated[
        str | None,
        typer.Option(help="Search this context only: CG, CHG or CHH; else each apart."),
    ] = None,
    q: Level = 0.05,
    relabellings: Annotated[
        int | None,
        typer.Option(min=10, help="Relabelled or rotated data sets; default 999, 10 on genomes."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the relabellings or rotations.")] = 1,
    no_replicates: Annotated[
        bool,
        typer.Option("--no-replicates", help="One sample a level: reads and neighbours vary."),
    ] = False,
    bed: Annotated[
        Path | None, typer.Option(help="Test the regions of this BED instead of searching.")
    ] = None,
    tiles: Annotated[
        int | None, typer.Option(min=1, help="Test windows of this many bases instead.")
    ] = None,
    out: Output = None,
) -> None:
    """Find regions that differ along a contrast, against relabelled or rotated data.

    \b
    Example:
      melisma regions melisma-demo/study.zarr -f "~ cell + disease" \\
        -c "cell[activated_naive] - cell[resting_naive]" -o regions.bed
    """
    from melisma.cli._tables import check_output
    from melisma.cli._terminal import terminal
    from melisma.differential import find_regions, region_tests
    from melisma.study import open_with_design

    check_output(out, (".tsv", ".parquet", ".bed"))
    given = bed is not None or tiles is not None
    if bed is not None and tiles is not None:
        raise MelismaError("--bed and --tiles both say which regions to test: give one.")
    if given and (no_replicates or relabellings is not None or context is not None):
        raise MelismaError(
            "--no-replicates, --relabellings and --context belong to the search: leave them out "
            "with --bed or --tiles, which need replicates."
        )
    with terminal():
        methylome, design = open_with_design(store, formula, block, drop_missing=drop_missing)
        if given:
            table = _given_regions(methylome, bed, tiles)
            tests = region_tests(methylome, design, contrast, regions=table, mark=mark)
            show = partial(_show_given, tests, q, out)
        else:
            found = find_regions(
                methylome, design, contrast, mark=mark, context=context, q=q,
                relabellings=relabellings, seed=seed, no_replicates=no_replicates,
            )  # fmt: skip
            show = partial(_show_found, found, out)
    show()


def _given_regions(methylome: "xr.Dataset", bed: Path | None, size: int | None) -> "pl.DataFrame":
    from melisma.bed import read_bed
    from melisma.differential import tiles

    if bed is not None:
        return read_bed(bed, contigs=methylome.attrs["contigs"])
    return tiles(methylome, size or 1)


def _show_found(result: "RegionTests", out: Path | None) -> None:
    from melisma.cli._terminal import show_table
    from melisma.cli.sites import SHOWN, show_notes

    called = result.significant()
    calls = sorted(result.called_by_relabelling)
    contexts = result.table["context"].n_unique() > 1
    show_table(
        f"{result.contrast.name}: {len(called):,} of {len(result.table):,} candidate "
        f"regions at q < {result.q:g} ({result.null_words})",
        (
            "region (0-based)",
            *(("context",) if contexts else ()),
            *("sites", "delta_beta", "95% interval", "p", "q", "p_family"),
        ),
        [
            (
                *_shown(row, contexts),
                "–" if row["p_family"] is None else f"{row['p_family']:.2g}",
            )
            for row in called.head(SHOWN).iter_rows(named=True)
        ],
    )
    show_notes(result.notes)
    if len(called):
        typer.echo(
            f"At the same cut {result.null_adjective} data call a median of "
            f"{calls[len(calls) // 2]} regions and at most {calls[-1]}."
        )
    _show_end(result.table, called, out)


def _show_given(result: "GivenRegionTests", q: float, out: Path | None) -> None:
    import polars as pl

    from melisma.cli._terminal import show_table
    from melisma.cli.sites import SHOWN, show_notes

    called = result.significant(q)
    units = f"{result.comparison.n_units} {result.comparison.unit}"
    show_table(
        f"{result.comparison.contrast.name}: {len(called):,} of {result.tested:,} tested regions "
        f"at q < {q:g} ({units})",
        ("region (0-based)", "sites", "delta_beta", "95% interval", "p", "q", "name"),
        [(*_shown(row), row["name"]) for row in called.head(SHOWN).iter_rows(named=True)],
    )
    reasons = result.table.filter(pl.col("reason").is_not_null()).group_by("reason").len()
    left_out = [f"{n:,} {why}" for why, n in reasons.sort("reason").iter_rows()]
    if left_out:
        untested = len(result.table) - result.tested
        typer.echo(f"Not tested: {untested:,} ({', '.join(left_out)}).")
    show_notes(result.notes)
    _show_end(result.table, called, out)


def _shown(row: dict[str, Any], contexts: bool = False) -> tuple[str, ...]:
    from melisma.cli.sites import probability

    # Several coefficients have no interval, and other terms than factors no difference.
    delta = "–" if row["delta_beta"] is None else f"{row['delta_beta']:+.3f}"
    interval = "–"
    if row.get("between"):
        delta += f" ({row['between']})"
    if row["ci_low"] is not None:
        interval = f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}"
    return (
        row["region"],
        *((row["context"],) if contexts else ()),
        row["sites"],
        delta,
        interval,
        probability(row["p"], ".1e"),
        probability(row["q"], ".2g"),
    )


def _show_end(table: "pl.DataFrame", called: "pl.DataFrame", out: Path | None) -> None:
    """The smallest q where nothing passes, what is not shown, and the file that is written."""
    from melisma.cli._tables import with_context, write_table
    from melisma.cli.sites import show_rest

    if not len(called) and table["q"].count():
        typer.echo(f"The smallest q is {table['q'].min():.2g}.")
    show_rest(len(called), out)
    if out is not None:
        written = with_context(called, table) if out.suffix == ".bed" else table
        write_table(out, written)
        typer.echo(f"Written: {out}, {len(written):,} regions.")
