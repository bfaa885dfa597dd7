"""`melisma sites`: which sites' marks follow a contrast."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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
    import xarray as xr

    from melisma.design import Contrast as ContrastOf
    from melisma.design import Design
    from melisma.differential import SiteTests
    from melisma.differential.bootstrap import BootstrapTests


def sites(
    store: Store,
    formula: Formula,
    contrast: Contrast,
    block: Block = None,
    drop_missing: DropMissing = False,
    mark: MarkOption = None,
    test: Annotated[
        str, typer.Option(help="`score`, or `fast`: least squares of arcsine levels.")
    ] = "score",
    incomplete: Annotated[
        bool,
        typer.Option(
            "--incomplete-blocks",
            help="Use blocks of one level too, by one correlation within blocks.",
        ),
    ] = False,
    variance: Annotated[
        str,
        typer.Option(help="`equal`, or `unequal`: each of two levels has a variance of its own."),
    ] = "equal",
    filtered: Annotated[
        bool,
        typer.Option(
            "--filter", help="Leave sites of few reads out of q, as gives the most discoveries."
        ),
    ] = False,
    bootstrap: Annotated[
        Path | None,
        typer.Option(
            help="Test only the sites in this BED file, by likelihood ratio with a bootstrap p."
        ),
    ] = None,
    draws: Annotated[int, typer.Option(min=99, help="Of the bootstrap, a site.")] = 9999,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap's draws.")] = 1,
    q: Level = 0.05,
    out: Output = None,
) -> None:
    """Test every site along a contrast.

    \b
    Example:
      melisma sites melisma-demo/study.zarr -f "~ cell + disease" \\
        -c "cell[activated_naive] - cell[resting_naive]" --block identity -o sites.tsv
    """
    from melisma.cli._tables import check_output
    from melisma.cli._terminal import terminal
    from melisma.design import make_contrasts
    from melisma.differential import site_tests
    from melisma.study import open_with_design

    check_output(out)
    if test not in TESTS:
        raise MelismaError(f"The test {test!r} is not known: use {' or '.join(TESTS)}.")
    if variance not in VARIANCES:
        raise MelismaError(f"The variance {variance!r} is not known: use {' or '.join(VARIANCES)}.")
    if bootstrap is not None:
        _refuse_with_bootstrap(
            {
                f"--test {test}": test != "score",
                f"--variance {variance}": variance != "equal",
                "--filter": filtered,
                "--incomplete-blocks": incomplete,
            }
        )
    with terminal():
        methylome, design = open_with_design(store, formula, block, drop_missing=drop_missing)
        contrasts = make_contrasts(design, contrast)
        if bootstrap is not None:
            checked = [
                _bootstrap(methylome, design, one, bootstrap, draws, seed, mark)
                for one in contrasts
            ]
            for result in checked:
                file = _own_file(out, result.comparison.contrast, len(checked))
                _show_bootstrap(result, file)
            return
        results = [
            site_tests(
                methylome,
                design,
                one,
                mark=mark,
                test=TESTS[test],
                filter_at=q if filtered else None,
                incomplete=incomplete,
                variance=VARIANCES[variance],
            )
            for one in contrasts
        ]
    for result in results:
        _show(result, q, _own_file(out, result.comparison.contrast, len(results)))


def _refuse_with_bootstrap(given: dict[str, bool]) -> None:
    """--bootstrap is a test of its own, to which other tests' options would say nothing."""
    asked = [option for option, used in given.items() if used]
    if asked:
        raise MelismaError(
            f"--bootstrap is a likelihood-ratio test of its own, which {' and '.join(asked)} "
            "cannot change: leave out one of the two."
        )


def _own_file(out: Path | None, contrast: "ContrastOf", of: int) -> Path | None:
    """Where a contrast's table goes: `sites.tsv`, or of several `sites.b_vs_a.tsv`."""
    if out is None or of == 1 or contrast.levels is None:
        return out
    return out.with_name(f"{out.stem}.{contrast.levels[0]}_vs_{contrast.levels[1]}{out.suffix}")


def _bootstrap(
    methylome: "xr.Dataset",
    design: "Design",
    contrast: "ContrastOf",
    path: Path,
    draws: int,
    seed: int,
    mark: str | None,
) -> "BootstrapTests":
    from melisma.differential.bootstrap import bootstrap_tests, sites_in_bed
    from melisma.methylome import single_mark

    chosen = sites_in_bed(single_mark(methylome, mark), path)
    return bootstrap_tests(
        methylome, design, contrast, sites=chosen, draws=draws, seed=seed, mark=mark
    )


def _show_bootstrap(result: "BootstrapTests", out: Path | None) -> None:
    """Print the bootstrap p of the chosen sites, the smallest first, and write their table."""
    from melisma.cli._tables import write_table
    from melisma.cli._terminal import show_table

    table = result.table.sort("p", nulls_last=True)
    show_table(
        f"{result.comparison.contrast.name}: {len(table):,} chosen sites, likelihood ratio, "
        f"{result.draws:,} simulated data sets a site (seed {result.seed})",
        ("site (0-based)", "likelihood ratio", "rho", "p", "its Monte-Carlo error"),
        [
            (
                f"{row['contig']}:{row['position']}",
                *(
                    ("not testable", "–", "–", "–")
                    if row["p"] is None
                    else (
                        f"{row['likelihood_ratio']:.2f}",
                        f"{row['rho']:.2g}",
                        f"{row['p']:.2g}",
                        f"{row['p_error']:.1g}",
                    )
                ),
            )
            for row in table.head(SHOWN).iter_rows(named=True)
        ],
    )
    typer.echo(f"No p can be below {result.resolution:.1g}: more --draws resolve smaller ones.")
    show_rest(len(table), out)
    if out is not None:
        write_table(out, result.table)
        typer.echo(f"Written: {out}, {len(result.table):,} sites.")


def _show(result: "SiteTests", q: float, out: Path | None) -> None:
    """Print what was found along one contrast, and write its table."""
    from melisma.cli._tables import write_table
    from melisma.cli._terminal import show_table

    called = result.significant(q)
    comparison = result.comparison
    several = comparison.k > 1
    show_table(
        f"{comparison.contrast.name}: {len(called):,} of {result.tested:,} tested sites at "
        f"q < {q:g} (lambda {result.inflation:.2f}; {comparison.n_units} {comparison.unit}"
        f"{f'; F on {comparison.k} coefficients' if several else ''})",
        (
            "probe" if "probe" in called.columns else "site (0-based)",
            *("strand", "delta_beta"),
            "between" if several else "95% interval",
            *("p", "q", "samples"),
        ),
        [
            (
                row.get("probe") or f"{row['contig']}:{row['position']}",
                {1: "+", -1: "-", 0: "."}[row["strand"]],
                "–" if row["delta_beta"] is None else f"{row['delta_beta']:+.3f}",
                row.get("between") or "–"
                if several
                else f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}",
                probability(row["p"], ".1e"),
                probability(row["q"], ".2g"),
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
    shifted = any("a global shift" in note for note in result.notes)
    far = result.tested >= _ENOUGH and not _FAR_BELOW <= result.inflation <= _FAR_ABOVE
    if far and not shifted:
        typer.echo(_far_from_one(result.inflation))
    show_rest(len(called), out)
    if out is not None:
        write_table(out, result.table)
        typer.echo(f"Written: {out}, {len(result.table):,} sites.")


# A lambda beyond these, of this many sites, is explained.
_ENOUGH = 100
_FAR_BELOW, _FAR_ABOVE = 0.7, 1.4


def _far_from_one(inflation: float) -> str:
    """What a lambda far from 1 may come from."""
    if inflation > 1:
        return (
            f"Lambda {inflation:.2f} is far above the 1 of no effect: the middle site moves more "
            "than chance makes it. Many small true differences do that, and so does whatever goes "
            "with the contrast: batch, cell composition, donors. Look at qc, and add such a column "
            "to the formula."
        )
    return (
        f"Lambda {inflation:.2f} is far below the 1 of no effect: the middle site moves less than "
        "chance makes it, so p-values are too large: a hidden factor that the formula does not "
        "name may fill the variance. Look at qc."
    )


def probability(value: float, how: str) -> str:
    """A p or q as text; one too small for a double is a bound, not zero."""
    return "<1e-300" if value < 1e-300 else f"{value:{how}}"


SHOWN = 10
TESTS: dict[str, Literal["score", "arcsine"]] = {"score": "score", "fast": "arcsine"}
VARIANCES: dict[str, Literal["equal", "unequal"]] = {"equal": "equal", "unequal": "unequal"}


def show_rest(called: int, out: Path | None) -> None:
    """Say how many rows the terminal did not show."""
    if called > SHOWN and out is None:
        typer.echo(f"{called - SHOWN:,} more are not shown: --out writes all.")


def show_notes(notes: tuple[str, ...]) -> None:
    """Print what a reader of the result must know, a line each."""
    for note in notes:
        typer.echo(note)
