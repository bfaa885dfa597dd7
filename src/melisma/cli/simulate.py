"""`melisma simulate`: a study like a pilot, with the truth beside it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from melisma.cli._options import MarkOption


def simulate(
    pilot: Annotated[Path, typer.Argument(help="The store whose sites and variation are taken.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")],
    samples: Annotated[
        str | None, typer.Option(help="Groups and their sizes, such as a=6,b=6.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="A sample sheet (TSV or CSV) in place of --samples.")
    ] = None,
    column: Annotated[
        str, typer.Option(help="The sheet's column that the planted difference follows.")
    ] = "group",
    group: Annotated[
        list[str] | None,
        typer.Option(help="A column of the pilot's groups of replicates; may be repeated."),
    ] = None,
    pilot_block: Annotated[
        str | None, typer.Option(help="A column of the pilot's pairs or blocks.")
    ] = None,
    regions: Annotated[
        int | None,
        typer.Option(
            min=0, help="Regions to plant.", show_default="one in 500 sites, at most 200, apart"
        ),
    ] = None,
    delta: Annotated[float, typer.Option(help="Their peak difference, 0-1.")] = 0.2,
    depth: Annotated[
        str | None, typer.Option(help="Mean coverage: 10, or a=5,b=30. Default: the pilot's.")
    ] = None,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="The groups' first samples are a pair, and so on.")
    ] = False,
    block: Annotated[
        str | None, typer.Option(help="The sheet's column of pairs or blocks.")
    ] = None,
    batch: Annotated[
        float, typer.Option(min=0.0, help="Effect of two batches: sd on the logit scale.")
    ] = 0.0,
    confounded: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="How far the batch follows the group.")
    ] = 0.0,
    mixture: Annotated[
        float, typer.Option(min=0.0, help="A second cell type: sd of its share of a sample.")
    ] = 0.0,
    shift: Annotated[
        float, typer.Option(help="How much that share rises from the first group to the last.")
    ] = 0.0,
    sample_sd: Annotated[
        float | None, typer.Option(min=0.0, help="In place of the pilot's: samples' effect.")
    ] = None,
    block_sd: Annotated[
        float | None, typer.Option(min=0.0, help="In place of the pilot's: blocks' effect.")
    ] = None,
    length: Annotated[
        float | None, typer.Option(min=1.0, help="In place of the pilot's: bases.")
    ] = None,
    rho: Annotated[
        float | None, typer.Option(min=1e-6, max=0.5, help="In place of the pilot's: reads.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Write the calls too, in a format of `melisma export`.")
    ] = None,
    mark: MarkOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of every draw.")] = 1,
) -> None:
    """Simulate a study on a pilot's sites, coverage, levels and variation, with the truth.

    \b
    Example:
      melisma simulate melisma-demo/study.zarr -o simulated --samples "a=6,b=6" \\
        --group cell --group disease --regions 20
    """
    from melisma.cli._terminal import show_table, terminal
    from melisma.cli.power import check_folder
    from melisma.cli.sites import show_notes
    from melisma.differential.like import learn_pilot, make_plan, set_noise, simulate_like
    from melisma.methylome import open_methylome

    check_folder(out)
    with terminal():
        learned = learn_pilot(
            open_methylome(pilot), groups=group or (), block=pilot_block, mark=mark
        )
        learned = set_noise(learned, sample_sd=sample_sd, block_sd=block_sd, length=length, rho=rho)
        plan = make_plan(
            learned,
            groups=samples,
            sheet=_sheet(sheet),
            column=column,
            regions=regions,
            delta=delta,
            depth=depth,
            pairs=pairs,
            block=block,
            batch_sd=batch,
            confounding=confounded,
            cell_sd=mixture,
            cell_shift=shift,
        )
        made = simulate_like(learned, plan, seed=seed)
        record = made.parameters | {"pilot": str(pilot)}
        _write(made.methylome, made.regions, made.sites, record, out)
        if to is not None:
            from melisma.export import export

            export(out / "simulated.zarr", out / "calls", to=to, overwrite=True)
    sites, size = made.methylome.sizes["site"], made.methylome.sizes["sample"]
    planted = len(made.regions)
    show_table(
        f"{out}: simulated, {sites:,} sites × {size:,} samples, {planted:,} planted "
        f"{'region' if planted == 1 else 'regions'}",
        ("variation", "value", "from"),
        [
            (words, f"{getattr(learned.noise, name):.3g}", learned.origin[name])
            for name, words in _WORDS.items()
            if name != "block_sd" or plan.block is not None
        ],
    )
    if planted < plan.regions:
        typer.echo(f"{plan.regions - planted:,} of {plan.regions:,} regions found no room.")
    show_notes(learned.notes)


_WORDS = {
    "sample_sd": "samples' effect, sd on the logit scale",
    "block_sd": "blocks' effect, sd on the logit scale",
    "length": "correlation length, bases",
    "rho": "overdispersion of reads, rho",
    "rho_spread": "its spread between sites, sd of log rho",
}


def _sheet(path: Path | None) -> dict[str, list[Any]] | None:
    from melisma.samples import read_columns

    return None if path is None else read_columns(path)


def _write(methylome: Any, regions: Any, sites: Any, record: dict[str, Any], out: Path) -> None:
    import json

    from melisma.cli._tables import write_table
    from melisma.methylome import atomic_file, write

    out.mkdir(parents=True, exist_ok=True)
    write(methylome, out / "simulated.zarr")
    write_table(out / "truth.tsv", regions)
    named = regions.with_columns(region=_region_names(regions))
    write_table(out / "truth.bed", named)
    write_table(out / "truth_sites.parquet", sites)
    with atomic_file(out / "simulation.json") as work:
        work.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")


def _region_names(regions: Any) -> Any:
    import polars as pl

    return pl.Series([f"planted{k + 1}" for k in range(len(regions))], dtype=pl.String)
