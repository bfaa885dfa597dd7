"""`melisma trace site`: why a site has its level, as a model reads it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from melisma.cli._options import GenomeOption, ModelMark
from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.genome import Genome
    from melisma.sequence.checkpoint import Model
    from melisma.trace import Trace

_SHOWN = 12


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
    seed: Annotated[int, typer.Option(min=0, help="Of the shuffles.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The trace as .json.")] = None,
) -> None:
    """Say which bases around a site push its predicted level up or down.

    \b
    Example:
      melisma trace site chr22:37004512 -m model -g genome.fa -e tissue=brain
      melisma trace site chr22:37004512 -m model -g genome.fa -e tissue=brain --against tissue=liver
    """
    from melisma._extras import require
    from melisma.cli._terminal import terminal

    require("deep", "torch", "safetensors", what="Tracing")
    from melisma.cli.predict import environment_of
    from melisma.genome import Genome
    from melisma.sequence.checkpoint import load

    if out is not None and out.suffix != ".json":
        raise MelismaError(f"A trace is written as .json, and {out} is not.")
    with terminal():
        trained, opened = load(model), Genome.open(genome)
        told = [environment_of(environment)]
        if against is not None:
            told.append(environment_of(against))
        found = [_of_site(trained, opened, place, one, mark, shuffles, seed) for one in told]
        result = found[0].diff(found[1]) if against is not None else found[0]
        if out is not None:
            result.save(out)
    _show(place, found, result)
    if out is not None:
        typer.echo(f"Written: {out}.")


def _of_site(
    model: "Model", genome: "Genome", place: str, told: dict[str, Any], mark: str | None,
    shuffles: int, seed: int,
) -> "Trace":  # fmt: skip
    import numpy as np
    import torch

    from melisma.sequence.checkpoint import other_strand, symmetric_view
    from melisma.sequence.experiments import dinucleotide_shuffle
    from melisma.sequence.predict import windows_of_sites
    from melisma.sequence.windows import BASE_OF_MARK
    from melisma.trace.site import shuffled_around_site, trace_windows

    sites = _site(genome, place)
    windows, head, code = windows_of_sites(model, genome, sites, mark=mark)
    window = windows.codes(np.zeros(1, np.int64))[0]
    middle = len(window) // 2
    letter = "ACGTN"[window[middle]]
    if letter != BASE_OF_MARK[code]:
        raise MelismaError(
            f"{place} holds {letter}, and {code} sits on {BASE_OF_MARK[code]}: positions count "
            "from 0."
        )
    _require_context(model, genome, sites, windows.strand, place)
    bases = 2 if model.record.get("contexts") == ["CG"] else 1
    others = shuffled_around_site(
        window, shuffles, bases, lambda part, n: dinucleotide_shuffle(part, n, seed=seed)
    )
    environment = model.environment.encode_one(told).values
    around = windows.surroundings(np.zeros(1, np.int64))
    batch = {
        "environment": torch.from_numpy(environment.copy()) if model.environment.width else None,
        "surroundings": torch.from_numpy(around) if model.config.surroundings else None,
    }

    def both(own: Any, baseline: Any) -> Any:
        place = np.arange(len(own))
        return [
            (symmetric_view(own[None])[0], symmetric_view(baseline), np.where(place, place, -1)),
            (other_strand(own[None])[0], other_strand(baseline), len(own) - place),
        ]

    return trace_windows(
        model.members, window, others, batch, head=head, temperature=model.temperature[head],
        views=both if model.symmetric else None,
        about={"site": place, "mark": code, "environment": told, "genome": genome.name},
    )  # fmt: skip


def _require_context(model: "Model", genome: "Genome", sites: Any, strand: Any, place: str) -> None:
    """Refuse a cytosine of a context that the model has not learned."""
    from melisma.genome import contexts
    from melisma.methylome import CONTEXTS

    wanted = model.record.get("contexts")
    base = genome.bases(sites.contigs[0])[sites.position[0]]
    if not wanted or base not in (ord("C"), ord("G")):
        return
    own = CONTEXTS[int(contexts(genome.bases(sites.contigs[0]), sites.position, strand)[0])]
    if own not in wanted:
        raise MelismaError(
            f"{place} is a cytosine in {own}, and the model learned {', '.join(wanted)}."
        )


def _site(genome: "Genome", place: str) -> Any:
    import numpy as np

    from melisma.sequence.predict import Sites

    contig, colon, number = place.rpartition(":")
    number = number.replace(",", "")
    if not colon or not number.isdecimal():
        raise MelismaError(f"{place!r} is no place: write contig:position, as chr22:37004512.")
    length = genome.length(contig)
    if int(number) >= length:
        raise MelismaError(f"{place} lies beyond the {length:,} bases of {contig}.")
    return Sites((contig,), np.zeros(1, np.int64), np.array([int(number)]), np.zeros(1, np.int8))


def _show(place: str, found: list["Trace"], result: "Trace") -> None:
    from melisma.cli._terminal import show_table

    levels = [trace.about["level"] for trace in found]
    if len(found) == 2:
        title = f"{place}: level {levels[0]:.3f} against {levels[1]:.3f}"
    else:
        base = found[0].about["baseline_level"]
        title = f"{place}: level {levels[0]:.3f}; shuffled around the site {base:.3f}"
    rows = [
        (edge.source, f"{edge.effect:+.3f}", "–" if edge.error is None else f"{edge.error:.3f}")
        for edge in result.into(result.outcome)[:_SHOWN]
    ]
    show_table(title, ("base", "log odds", "± error"), rows)
    share = result.completeness
    typer.echo(
        f"All bases together carry {result.explained:+.3f} of {result.total:+.3f}"
        + (f" ({share:.0%})." if share == share else ".")
    )
    rough = min(trace.about["added_up"] for trace in found)
    if rough < 1:
        typer.echo(f"Not converged: only {rough:.0%} of the runs add up to within 5%.")
