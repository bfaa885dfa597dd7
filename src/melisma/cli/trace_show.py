"""`melisma trace show`: saved traces as one page, alone, joined or compared."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.trace import Trace

_SHOWN = 12


def show(
    traces: Annotated[
        list[Path],
        typer.Argument(
            help="Traces as .json; several are drawn below each other.", show_default=False
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The page, .html.")] = None,
    join: Annotated[
        str | None,
        typer.Option(help="A node of the first trace under which the second one hangs."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="A trace that is taken off each: what differs.")
    ] = None,
    strongest: Annotated[
        int | None,
        typer.Option(min=1, help="Edges into each node drawn at first.", show_default="readable"),
    ] = None,
    title: Annotated[str | None, typer.Option(help="The page's heading.")] = None,
    json: Annotated[
        Path | None, typer.Option(help="The joined trace or the difference, as .json.")
    ] = None,
) -> None:
    """Draw saved traces as an interactive graph in one page that opens without a network.

    \b
    Example:
      melisma trace show trace.json -o trace.html
      melisma trace show study.json site.json --join chr5:1295321 -o joined.html
      melisma trace show brain.json --against liver.json -o difference.html
    """
    from melisma.cli._terminal import terminal
    from melisma.report import write_traces
    from melisma.trace import Trace

    _check(len(traces), out, join, against, json)
    with terminal():
        found = [Trace.load(path) for path in traces]
        if join is not None:
            found, traces = [found[0].join(found[1], join)], traces[:1]
        elif against is not None:
            other = Trace.load(against)
            found = [trace.diff(other) for trace in found]
        named = _named(traces, found)
        if out is not None:
            heading = title or f"What moves {found[0].outcome}"
            shown = found[0] if len(found) == 1 else named
            write_traces(shown, out, heading, strongest=strongest)
        if json is not None:
            found[0].save(json)
    _say(named)
    for path in (out, json):
        if path is not None:
            typer.echo(f"Written: {path}.")


def _check(
    given: int, out: Path | None, join: str | None, against: Path | None, json: Path | None
) -> None:
    for path, suffix, what in ((out, ".html", "page"), (json, ".json", "trace")):
        if path is not None and path.suffix != suffix:
            raise MelismaError(f"A {what} is written as {suffix}, and {path} is not.")
    if join is not None and against is not None:
        raise MelismaError(
            "--join and --against exclude each other: write the difference with --json first, "
            "then join it."
        )
    if join is not None and given != 2:
        raise MelismaError(
            f"--join hangs a second trace under a node of the first: give two, not {given}."
        )
    if json is not None and (join is None and (against is None or given != 1)):
        raise MelismaError("--json writes the one trace that --join or --against makes.")


def _named(paths: list[Path], found: list["Trace"]) -> dict[str, "Trace"]:
    """Traces by their files' names; one that is there twice gets its folder."""
    names = [path.stem for path in paths]
    return {
        name if names.count(name) == 1 else f"{path.parent.name}/{name} ({k})": trace
        for k, (path, name, trace) in enumerate(zip(paths, names, found, strict=True), start=1)
    }


def _say(named: dict[str, "Trace"]) -> None:
    from melisma.cli._terminal import show_table

    for name, trace in named.items():
        own = [edge for edge in trace.into(trace.outcome) if "under" not in edge.evidence]
        share = trace.completeness
        rows = [
            (edge.source, f"{edge.effect:+.3g}", "–" if edge.error is None else f"{edge.error:.2g}")
            for edge in own[:_SHOWN]
        ]
        show_table(
            f"{name}: into {trace.outcome}", ("from", trace.unit or "effect", "± error"), rows
        )
        typer.echo(
            f"Paths explain {trace.explained:+.3g} of {trace.total:+.3g}"
            + (f" ({share:.0%})." if share == share else ".")
        )
