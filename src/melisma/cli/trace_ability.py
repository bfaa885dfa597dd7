"""`melisma trace ability`: when an ability appears in training, and which heads changed there."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from melisma.errors import MelismaError

if TYPE_CHECKING:
    from melisma.trace.ability import Ability

_SHOWN = 10


def ability(
    folder: Annotated[
        Path,
        typer.Argument(help="A model, or a folder of checkpoints step-N.", show_default=False),
    ],
    probe: Annotated[
        Literal["induction", "copying", "addition"], typer.Option(help="What is asked.")
    ] = "copying",
    items: Annotated[int, typer.Option(min=8, help="Questions.")] = 64,
    digits: Annotated[int, typer.Option(min=1, max=6, help="Of the numbers added.")] = 1,
    shots: Annotated[int, typer.Option(min=0, help="Sums shown solved before the question.")] = 8,
    length: Annotated[int, typer.Option(min=8, help="Tokens a row of induction.")] = 80,
    seed: Annotated[int, typer.Option(min=0, help="Of the questions.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The trace as .json.")] = None,
) -> None:
    """Score an ability against chance, or follow it through checkpoints.

    \b
    Example:
      melisma trace ability induction/two --probe induction -o induction.json
      melisma trace ability smollm2 --probe addition --digits 2
    """
    from melisma._extras import require
    from melisma.cli._terminal import terminal

    require("text", "torch", "transformers", what="Probing an ability")
    from melisma.trace import probes
    from melisma.trace.ability import ability as follow
    from melisma.trace.models import load_text_model

    if out is not None and out.suffix != ".json":
        raise MelismaError(f"A trace is written as .json, and {out} is not.")
    found = _checkpoints(folder)
    with terminal():
        model = load_text_model(found[max(found)])
        if probe == "induction":
            words = model.about["vocabulary"]
            asked = probes.induction(words, items=items, length=length, seed=seed)
        elif probe == "copying":
            asked = probes.copying(model, items=items, seed=seed)
        else:
            asked = probes.addition(model, items=items, shots=shots, digits=digits, seed=seed)
        opened = {s: lambda path=path: load_text_model(path).network for s, path in found.items()}
        result = follow(opened, asked)
        if out is not None:
            if result.trace is None:
                raise MelismaError(
                    f"{len(found)} checkpoints make no trace of a change: give six or more."
                )
            result.trace.save(out)
    _show(asked.name, result)
    if out is not None:
        typer.echo(f"Written: {out}.")


def _checkpoints(folder: Path) -> dict[int, Path]:
    """Folders of checkpoints by step; a model alone is the only one."""
    if not folder.exists():
        raise MelismaError(f"There is no model folder at {folder}.")
    if folder.is_file() or (folder / "config.json").is_file():
        return {0: folder}
    found = {}
    for path in sorted(folder.iterdir()):
        number = re.fullmatch(r"(?:step|checkpoint)-(\d+)", path.name)
        if number and (path / "config.json").is_file():
            found[int(number[1])] = path
    return found or {0: folder}


def _show(name: str, found: "Ability") -> None:
    from melisma.cli._terminal import show_table

    rows = [
        (f"{step:,}", f"{s.share:.1%}", f"{s.error:.1%}", f"{s.right:,} of {s.asked:,}")
        for step, s in zip(found.steps, found.scores, strict=True)
    ]
    chance = found.scores[-1].chance
    show_table(f"{name} (chance {chance:.1%})", ("step", "right", "± error", "answers"), rows)
    change = found.change
    if change is None or found.before is None or found.after is None:
        return
    if not change.changed:
        typer.echo("No change point: a constant share fits as well.")
        return
    how = {True: "abrupt", False: "not abrupt", None: "too coarse to tell whether it is abrupt"}
    typer.echo(
        f"It appears at step {change.step:,.0f} ({change.low:,.0f} to {change.high:,.0f}), from "
        f"{change.before:.1%} to {change.after:.1%}; 10% to 90% of the rise takes a factor of "
        f"{change.factor:.2f} in steps (at most {change.factor_high:.2f}): {how[change.abrupt]}. A "
        f"smooth curve's BIC is {change.smooth_bic_difference:+.0f} against it."
    )
    moved = (found.after.effect - found.before.effect).tolist()
    order = sorted(range(len(moved)), key=lambda k: -abs(moved[k]))[:_SHOWN]
    rows = [
        (
            found.after.names[k],
            f"{found.before.effect[k]:+.3f}",
            f"{found.after.effect[k]:+.3f}",
            f"{found.before.prefix[k]:.3f}",
            f"{found.after.prefix[k]:.3f}",
        )
        for k in order
    ]
    heading = ("head", "adds before", "adds after", "prefix before", "prefix after")
    show_table("Heads that changed there", heading, rows)
