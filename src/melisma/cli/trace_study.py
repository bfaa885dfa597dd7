"""`melisma trace study`: from exposure through sites or regions to an outcome, in a cohort."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from melisma.cli._options import Block, DropMissing, Level, MarkOption
from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.trace import Trace
    from melisma.trace.study import Mediators, StudyTrace

_SHOWN = 12


def study(
    samples: Annotated[
        Path,
        typer.Argument(
            help="A table (TSV or CSV) with the column sample, exposure, outcome and covariates.",
            show_default=False,
        ),
    ],
    mediators: Annotated[
        Path,
        typer.Argument(
            help="A table of levels (samples by features, TSV or CSV, .gz), or a store made by "
            "`melisma ingest`.",
            show_default=False,
        ),
    ],
    exposure: Annotated[
        str,
        typer.Option(
            "--exposure",
            "-x",
            help="The cause: a column of numbers, or column=level.",
            show_default=False,
        ),
    ],
    outcome: Annotated[
        str | None,
        typer.Option("--outcome", "-y", help="A column of numbers, or column=level."),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Of a survival outcome: the column of times.")
    ] = None,
    event: Annotated[
        str | None, typer.Option(help="Of a survival outcome: 1 where the time is an event's.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="continuous; case-control (samples chosen by outcome) or cohort (not so) for two "
            "classes; hazard (additive, the default) or aft (log-normal) for survival."
        ),
    ] = None,
    covariates: Annotated[
        list[str] | None,
        typer.Option("--covariates", help="Columns, a,b,c; may be given again."),
    ] = None,
    block: Block = None,
    via: Annotated[
        str | None,
        typer.Option(help="A second mediator after the first, such as a gene's expression."),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(help="Of a store: a table of `melisma regions` or BED; default: its sites."),
    ] = None,
    mark: MarkOption = None,
    prevalence: Annotated[
        float | None,
        typer.Option(
            help="Of cases in the population: weights case-control mediator models to it."
        ),
    ] = None,
    q: Level = 0.05,
    every: Annotated[
        bool, typer.Option("--every", help="Every mediator in the model, called or not.")
    ] = False,
    drop_missing: DropMissing = False,
    drop_mediators: Annotated[
        bool, typer.Option("--drop-mediators", help="Leave out mediators with a missing value.")
    ] = False,
    circular: Annotated[
        bool,
        typer.Option("--circular", help="Allow columns whose name says they are of methylation."),
    ] = False,
    bootstraps: Annotated[int, typer.Option(min=0, help="Resamples of the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the resamples.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The trace as .json.")] = None,
    table: Annotated[
        Path | None, typer.Option(help="Every mediator that was tried: .tsv or .parquet.")
    ] = None,
) -> None:
    """Say how much of an exposure's effect on an outcome goes with sites, regions and expression.

    \b
    Example:
      melisma trace study samples.tsv betas.tsv.gz -x idh=Mutant -y immune_score --covariates age
      melisma trace study samples.tsv study.zarr --regions regions.tsv -x smoking -y case=1 \\
        --kind case-control --via AHRR --covariates age,sex -o trace.json
    """
    from melisma.cli._tables import check_output, write_table
    from melisma.cli._terminal import terminal
    from melisma.samples import read_columns
    from melisma.trace.study import Question, trace_study

    if out is not None and out.suffix != ".json":
        raise MelismaError(f"A trace is written as .json, and {out} is not.")
    check_output(table)
    with terminal():
        sheet = read_columns(samples)
        found = trace_study(
            sheet,
            _mediators(mediators, regions, mark, sheet["sample"]),
            Question(
                exposure, outcome, time, event, cast(Any, kind), _listed(covariates), block, via,
                prevalence, circular,
            ),
            q=q, every=every, drop_missing=drop_missing, drop_mediators=drop_mediators,
            bootstraps=bootstraps, seed=seed,
        )  # fmt: skip
        if out is not None:
            found.trace.save(out)
        if table is not None:
            write_table(table, found.mediators)
    _show(found)
    written = [str(path) for path in (out, table) if path is not None]
    if written:
        typer.echo(f"Written: {', '.join(written)}.")


def _listed(given: list[str] | None) -> tuple[str, ...]:
    """Columns of `a,b --covariates c`."""
    return tuple(name.strip() for part in given or [] for name in part.split(",") if name.strip())


def _mediators(
    path: Path, regions: Path | None, mark: str | None, samples: list[str]
) -> "Mediators":
    from melisma.trace.study import read_mediators, store_mediators

    if path.is_dir():
        return store_mediators(path, regions=regions, mark=mark)
    if regions is not None or mark is not None:
        raise MelismaError(
            f"--regions and --mark are for a store, and {path} is a table: leave them out."
        )
    return read_mediators(path, known={str(name) for name in samples})


def _show(found: "StudyTrace") -> None:
    from melisma.cli._terminal import show_table

    trace, effects = found.trace, found.mediation
    about = trace.about
    rows = [("total", *_cells(effects.total)), ("direct", *_cells(effects.direct))]
    rows.append(("through mediators", *_cells(effects.indirect)))
    if effects.second is not None and effects.last is not None:
        name = about["second_mediator"]
        rows.append((f"  of it through {name}", *_cells(effects.last)))
        rows.append((f"  of that {name} alone", *_cells(effects.second)))
    title = (
        f"{about['exposure']} on {trace.outcome} ({trace.unit}), {about['samples']:,} samples"
        + (f", {about['informative']:,} informative" if effects.kind != "continuous" else "")
    )
    show_table(title, ("effect", "estimate", "± error", "from", "to", "p"), rows)
    if about["screened"]:
        typer.echo(
            f"{about['in_model']:,} of {about['screened']:,} mediators called at q = {about['q']} "
            f"({about['procedure']})."
        )
    if about["in_model"]:
        show_table(
            "Paths, all mediators in one model",
            ("mediator", "effect", "± error", "from", "to", "p alone", "q"),
            _paths(trace, found),
        )
    _say(found)


def _cells(effect: Any) -> tuple[str, ...]:
    value, error, low, high, p = effect
    return (
        f"{value:+.4g}",
        *("–" if v is None else f"{v:.4g}" for v in (error, low, high)),
        "–" if p is None else f"{p:.2g}",
    )


def _paths(trace: "Trace", found: "StudyTrace") -> list[tuple[str, ...]]:
    tried = {row["mediator"]: row for row in found.mediators.to_dicts()}
    edges = [edge for edge in trace.edges if edge.source == trace.about["exposure"]]
    edges = [edge for edge in edges if edge.target in tried]
    edges.sort(key=lambda edge: -abs(edge.effect))
    rows = []
    for edge in edges[:_SHOWN]:
        row = tried[edge.target]
        told = (edge.effect, edge.error, edge.evidence["low"], edge.evidence["high"], None)
        alone = max(row["p_exposure"], row["p_outcome"])
        q = "–" if row["q"] is None else f"{row['q']:.2g}"
        rows.append((edge.target, *_cells(told)[:-1], f"{alone:.2g}", q))
    return rows


def _say(found: "StudyTrace") -> None:
    """What the figures rest on, in sentences."""
    trace, about = found.trace, found.trace.about
    more = about["in_model"] - _SHOWN
    if more > 0:
        typer.echo(f"{more:,} more are not shown: --out and --table write them all.")
    share = found.mediation.share
    if about["in_model"] or about["second_mediator"]:
        interval = "" if share.low is None else f" ({share.low:.0%} to {share.high:.0%})"
        typer.echo(
            f"Mediated share {share.value:.0%}{interval}; direct and mediated effects are "
            f"{trace.completeness:.0%} of the total."
        )
    if about["components"]:
        typer.echo(
            f"{about['components']} components stand for {about['in_model']:,} mediators "
            f"({about['components_variance']:.0%} of their variance)."
        )
    for note in about["notes"]:
        typer.echo(note)
    typer.echo("Assumed:")
    for assumption in trace.assumptions:
        typer.echo(f"- {assumption}")
