"""`melisma power`: how many samples, and how deep."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.cli._options import Block, Contrast, Formula, Level, MarkOption, Store

if TYPE_CHECKING:
    from melisma.differential.power import Power


def power(
    store: Store,
    formula: Formula,
    contrast: Contrast,
    block: Block = None,
    delta: Annotated[
        str, typer.Option(help="Differences of level to find, 0-0.5, separated by commas.")
    ] = "0.05,0.1,0.2,0.3",
    samples: Annotated[
        str, typer.Option(help="Samples a group; with --block, pairs.")
    ] = "3,4,6,8,12,20",
    depth: Annotated[
        str | None,
        typer.Option(
            help="Mean coverages of the pilot's sites.",
            show_default="5,10,20, and the pilot's own if higher",
        ),
    ] = None,
    q: Level = 0.05,
    share: Annotated[float, typer.Option(help="Assumed share of the sites that differ.")] = 0.05,
    checks: Annotated[
        int, typer.Option(min=0, help="Points at which the calculation is checked by simulation.")
    ] = 3,
    seeds: Annotated[int, typer.Option(min=1, help="Simulations of each checked point.")] = 3,
    regions: Annotated[
        int, typer.Option(min=0, help="Simulate the region test too, with this many regions.")
    ] = 0,
    mark: MarkOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The folder for power.html, power.json and the tables."),
    ] = None,
) -> None:
    """Say how many samples find differences of a size, judged by a pilot study.

    \b
    Example:
      melisma power melisma-demo/study.zarr -f "~ cell + disease" \\
        -c "cell[activated_naive] - cell[resting_naive]" -o power
    """
    from melisma.cli._terminal import show_table, terminal
    from melisma.cli.sites import show_notes
    from melisma.differential.power import power as calculate
    from melisma.study import open_with_design

    check_folder(out)
    wanted = numbers("--delta", delta), numbers("--samples", samples)
    depths = None if depth is None else numbers("--depth", depth)
    whole = [int(n) for n in wanted[1]]
    with terminal():
        methylome, design = open_with_design(store, formula, block)
        result = calculate(
            methylome, design, contrast, deltas=wanted[0], samples=whole, depths=depths, q=q,
            share=share, checks=checks, seeds=seeds, regions=regions, mark=mark, seed=seed,
        )  # fmt: skip
    if result.warning:
        typer.echo(f"Warning: {result.warning}")
    paired = result.parameters["unit"] == "samples within blocks"
    show_table(
        f"{result.parameters['contrast']}: power of the site test at q < {q:g}, "
        f"by {'pairs' if paired else 'samples a group'}",
        ("difference", "depth", *(f"{n}" for n in whole)),
        [
            (f"{row[0]:g}", f"{row[1]:g}×", *(f"{p:.2f}" for p in row[2:]))
            for row in result.grid.pivot("samples", index=["delta", "depth"], values="power").rows()
        ],
    )
    for sentence in result.sentences:
        typer.echo(sentence)
    _show_checks(result)
    show_notes(result.notes)
    if out is not None:
        _write(result, out)


def check_folder(out: Path | None) -> None:
    """Refuse an output that cannot be a folder before anything is computed."""
    from melisma.errors import MelismaError

    if out is not None and out.exists() and not out.is_dir():
        raise MelismaError(f"{out} is a file: name a folder.")


def numbers(option: str, text: str) -> list[float]:
    """Numbers separated by commas, each once, in order."""
    from melisma.errors import MelismaError

    try:
        return sorted({float(word) for word in text.split(",")})
    except ValueError:
        raise MelismaError(
            f"{option} is {text!r}, and should be numbers separated by commas."
        ) from None


def _show_checks(result: "Power") -> None:
    from melisma.cli._terminal import show_table

    if len(result.checks):
        show_table(
            "Checked on simulated studies",
            ("difference", "samples", "depth", "calculated", "simulated", "95% interval"),
            [
                (
                    f"{row['delta']:g}",
                    row["samples"],
                    f"{row['depth']:g}×",
                    f"{row['calculated']:.2f}",
                    f"{row['simulated']:.2f}",
                    f"{row['low']:.2f} to {row['high']:.2f}",
                )
                for row in result.checks.iter_rows(named=True)
            ],
        )
    if result.regions is not None:
        show_table(
            "Regions, simulated",
            ("peak difference", "samples", "depth", "found", "of", "calls", "false calls"),
            [
                (
                    f"{row['delta']:g}",
                    row["samples"],
                    f"{row['depth']:g}×",
                    *(row[name] for name in ("found", "planted", "calls", "false_calls")),
                )
                for row in result.regions.iter_rows(named=True)
            ],
        )


def _write(result: "Power", out: Path) -> None:
    import json

    from melisma.cli._tables import write_table
    from melisma.methylome import atomic_file
    from melisma.report import write_power

    out.mkdir(parents=True, exist_ok=True)
    for name, table in result.tables().items():
        write_table(out / f"{name}.tsv", table)
    with atomic_file(out / "power.json") as work:
        work.write_text(json.dumps(result.parameters, indent=1, allow_nan=False) + "\n")
    typer.echo(f"Written: {write_power(result, out / 'power.html')}.")
