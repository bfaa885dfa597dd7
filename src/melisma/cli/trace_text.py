"""`melisma trace text`: why a language model goes on with one token and not with another."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.trace.text import TextTrace

_SHOWN = 12


def text(
    prompt: Annotated[str, typer.Argument(help="The text that is gone on with.")],
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            "-m",
            help="A folder with config.json, safetensors and tokenizer, or a .gguf file.",
            show_default=False,
        ),
    ],
    winner: Annotated[
        str | None, typer.Option(help="The next token explained; else the likeliest.")
    ] = None,
    rival: Annotated[
        str | None, typer.Option(help="What it is compared with; else the runner-up.")
    ] = None,
    instead: Annotated[
        str | None,
        typer.Option(
            help="A text of as many tokens, which stand in the tokens' stead; else their mean."
        ),
    ] = None,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Integrated gradients of the tokens besides.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The trace as .json.")] = None,
) -> None:
    """Say what comes next in a text, and which tokens, layers and heads decide it.

    \b
    Example:
      melisma trace text "The king ruled the" --model smollm2
      melisma trace text "The king ruled the" -m smollm2 --rival " country" -o trace.json
    """
    from melisma._extras import require
    from melisma.cli._terminal import terminal

    require("text", "torch", "transformers", what="Tracing a text")
    from melisma.trace.models import load_text_model
    from melisma.trace.text import trace_text

    if out is not None and out.suffix != ".json":
        raise MelismaError(f"A trace is written as .json, and {out} is not.")
    with terminal():
        found = trace_text(
            load_text_model(model),
            prompt,
            winner=winner,
            rival=rival,
            instead=instead,
            gradients=gradients,
        )
        if out is not None:
            found.trace.save(out)
    _show(prompt, found)
    if out is not None:
        typer.echo(f"Written: {out}.")


def _show(prompt: str, found: "TextTrace") -> None:
    from melisma.cli._terminal import show_table

    trace = found.trace
    rows = [(repr(each.token), f"{each.probability:.1%}") for each in found.next]
    show_table(f"{prompt} …", ("next", "probability"), rows)
    effects = found.token_effect.tolist()
    heading: tuple[str, ...] = ("token", "without it")
    rows = [(repr(t), f"{-e:+.2f}") for t, e in zip(found.tokens, effects, strict=True)]
    if found.attribution is not None:
        heading = (*heading, "gradients")
        shares = found.attribution.by_position[0].tolist()
        rows = [(*row, f"{share:+.2f}") for row, share in zip(rows, shares, strict=True)]
    show_table(f"{trace.outcome}: {trace.total:+.2f} logits", heading, rows)
    rows = []
    for edge in trace.into(trace.outcome)[:_SHOWN]:
        read = [e for e in trace.into(edge.source) if abs(e.effect) >= 0.1 * abs(edge.effect)]
        from_tokens = ", ".join(f"{e.source} {e.effect:+.2f}" for e in read[:3])
        rows.append((edge.source, f"{edge.effect:+.2f}", from_tokens or "–"))
    show_table("What writes it", ("part", "logits", "most changed by the tokens"), rows)
    crossed = _decided(found)
    typer.echo(f"All {len(trace.into(trace.outcome))} parts add up to {trace.explained:+.2f}.")
    if crossed is not None:
        typer.echo(f"Read after each block, the winner leads for good from {crossed} on.")
    if found.attribution is not None and not bool(found.attribution.converged[0]):
        missed = float(found.attribution.completeness_error[0])
        typer.echo(f"Not converged: the gradients miss {missed:.0%} of the difference.")


def _decided(found: "TextTrace") -> str | None:
    """The first block after which the outcome keeps its sign."""
    layers = list(found.trace.about["lens"].items())
    for k, (name, _) in enumerate(layers):
        if all(value > 0 for _, value in layers[k:]):
            return name.removesuffix(".residual")
    return None
