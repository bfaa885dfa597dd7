"""`melisma trace site`: why a site has its level, as a model reads it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from melisma.cli._options import GenomeOption, ModelMark
from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.trace import Node, Trace
    from melisma.trace._stretches import Stretch

_SHOWN = 12
# What `melisma explain MODEL -o MODEL/motifs.meme` leaves beside a model.
_LEARNED = "motifs.meme"


def site(
    place: Annotated[
        str, typer.Argument(help="contig:position, counted from 0.", show_default=False)
    ],
    model: Annotated[
        Path,
        typer.Option("--model", "-m", help="A folder of `melisma train`.", show_default=False),
    ],
    genome: GenomeOption,
    environment: Annotated[
        list[str] | None,
        typer.Option("--environment", "-e", help="tissue=brain; may be given again."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(help="Another environment, whose trace is taken off; may be given again."),
    ] = None,
    mark: ModelMark = None,
    shuffles: Annotated[int, typer.Option(min=20, help="Shuffles of the window, 20 or more.")] = 20,
    seqlet: Annotated[int, typer.Option(min=1, help="Bases of a stretch that stands out.")] = 6,
    motifs: Annotated[
        Path | None,
        typer.Option(
            help="Motifs in MEME's format to name stretches by; without it, motifs.meme in the "
            "model's folder.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the shuffles.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The trace as .json.")] = None,
) -> None:
    """Say which bases and motifs push a site's predicted level, and through which layers.

    \b
    Example:
      melisma trace site chr22:37004512 -m model -g genome.fa -e tissue=brain
      melisma trace site chr22:37004512 -m model -g genome.fa -e tissue=brain --against tissue=liver
    """
    from melisma._extras import require
    from melisma.cli._terminal import terminal

    require("deep", "torch", "safetensors", what="Tracing")
    from melisma.cli._site_windows import asked_of, effects_of
    from melisma.cli.predict import environment_of
    from melisma.genome import Genome
    from melisma.sequence.checkpoint import load
    from melisma.trace.site import site_trace, traces_between

    if out is not None and out.suffix != ".json":
        raise MelismaError(f"A trace is written as .json, and {out} is not.")
    with terminal():
        trained, opened = load(model), Genome.open(genome)
        if trained.config.backbone:
            raise MelismaError(
                f"{model} reads sequence with a language model, whose tokens have no gradient by "
                "base: ask `melisma explain`, which mutates bases."
            )
        known = _known_motifs(model, motifs)
        told = [environment_of(environment)]
        if against is not None:
            told.append(environment_of(against))
        asked = asked_of(trained, opened, place, mark, shuffles, seed)
        effects = [effects_of(trained, asked, one) for one in told]
        window = effects[0].window
        about = [asked.about | {"environment": one, "model": str(model)} for one in told]

        def named(one: "Stretch") -> dict[str, Any]:
            return _named(window, one, known)

        if against is None:
            found = effects[0].motifs(seqlet)
            result = site_trace(
                effects[0], found, named={one: named(one) for one in found}, about=about[0]
            )
            traces = [result]
        else:
            *traces, result = traces_between(
                effects[0], effects[1], width=seqlet, named=named, about=(about[0], about[1])
            )
        if out is not None:
            result.save(out)
    _show(place, told, traces, result)
    if out is not None:
        typer.echo(f"Written: {out}.")


def _known_motifs(model: Path, motifs: Path | None) -> dict[str, Any]:
    """The motifs that stretches are named by; none where there is no file of them."""
    from melisma.sequence.motifs import read_database

    learned = model / _LEARNED
    if motifs is None and not learned.is_file():
        return {}
    return read_database(learned if motifs is None else motifs)


def _named(window: Any, one: "Stretch", known: dict[str, Any]) -> dict[str, Any]:
    from melisma.sequence.known import resembles

    found = resembles(window, one.start, one.end, known)
    return {} if found is None else {"resembles": found.name, "resembles_e": found.e}


def _show(place: str, told: list[dict[str, Any]], traces: list["Trace"], result: "Trace") -> None:
    from melisma.cli._terminal import show_table

    if len(traces) == 2:
        names = [", ".join(f"{k}={v}" for k, v in one.items()) or "mean" for one in told]
        levels = [_levels(trace) for trace in traces]
        title = f"{place}: {names[0]} {levels[0]}; {names[1]} {levels[1]}"
        columns = (*names, "difference", "± error")
    else:
        title = f"{place}: {_levels(result)}"
        columns = ("log odds", "± error")
    typer.echo(title)
    nodes = {node.name: node for node in result.nodes}
    motifs = [(*row, *_said(nodes[row[0]])) for row in _rows(traces, result, 1)]
    show_table("Motifs", ("motif", *columns, "p", "resembles"), motifs[:_SHOWN])
    title = "Layers: what each hands straight to the outcome"
    show_table(title, ("layer", *columns), _rows(traces, result, 2))
    bases = _rows(traces, result, 0)[:_SHOWN]
    show_table(f"The {len(bases)} strongest bases", ("base", *columns), bases)
    share = result.completeness
    typer.echo(
        f"All together carry {result.explained:+.3f} of {result.total:+.3f}"
        + (f" ({share:.0%})." if share == share else ".")
    )
    for trace in traces:
        if not trace.about["converged"]:
            typer.echo(
                f"Not converged: what is carried misses {trace.about['completeness_error']:.0%} of "
                "the difference, after the most steps."
            )


def _levels(trace: "Trace") -> str:
    return (
        f"level {trace.about['level']:.3f} (shuffled around the site "
        f"{trace.about['baseline_level']:.3f})"
    )


def _rows(traces: list["Trace"], result: "Trace", layer: int) -> list[tuple[str, ...]]:
    """What each node of a layer carries, the strongest first: in each trace, and the error."""
    each = [_carried(trace, layer) for trace in (*traces, *([result] if len(traces) == 2 else []))]
    order = sorted(each[-1], key=lambda name: -abs(each[-1][name][0]))
    return [
        (name, *(f"{one[name][0]:+.3f}" for one in each), f"{each[-1][name][1]:.3f}")
        for name in order
    ]


def _carried(trace: "Trace", layer: int) -> dict[str, tuple[float, float]]:
    """By node of a layer, what it carries and the standard error."""
    own = {node.name: node for node in trace.nodes if node.layer == layer}
    if layer == 1:
        return {name: (node.about["effect"], node.about["error"]) for name, node in own.items()}
    return {
        edge.source: (edge.effect, edge.evidence.get("standard_error", edge.error))
        for edge in trace.edges
        if edge.source in own
    }


def _said(node: "Node") -> tuple[str, str]:
    """A motif's p, and the known motif it resembles."""
    p, known = node.about.get("p"), node.about.get("resembles")
    e = node.about.get("resembles_e")
    return (
        "–" if p is None else f"{p:.3f}",
        "–" if known is None else f"{known} (e {e:.2g})",
    )
