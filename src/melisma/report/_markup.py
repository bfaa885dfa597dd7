"""Pieces of markup that the sections share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from melisma.report._style import Figure
from melisma.report._words import prose


@dataclass
class Page:
    """What the sections leave for the page's script."""

    figures: dict[str, Any] = field(default_factory=dict)
    tables: list[dict[str, Any]] = field(default_factory=list)
    traces: dict[str, Any] = field(default_factory=dict)

    def plot(self, key: str, figure: Figure, *, square: bool = False) -> str:
        """The place where the script draws a figure; its label serves who cannot see it."""
        self.figures[key] = figure.spec()
        shape = (
            'class="plot square"' if square else f'class="plot" style="height:{figure.height}px"'
        )
        return (
            f'<div {shape} data-figure="{escape(key)}" role="img" '
            f'aria-label="{escape(figure.label)}"></div>'
        )


def figure(heading: str, plot: str, *, note: str = "", kind: str = "") -> str:
    """A figure with its heading above and a note in small type below."""
    below = f'<p class="note">{note}</p>' if note else ""
    return (
        f'<figure class="{kind}"><figcaption><h4>{heading}</h4></figcaption>{plot}{below}</figure>'
    )


def noted(notes: Sequence[str]) -> str:
    """What a reader of the results beside it must know; empty without notes."""
    items = "".join(f"<li>{escape(str(note))}</li>" for note in dict.fromkeys(notes))
    return f'<ul class="notes">{items}</ul>' if items else ""


def capital(text: str) -> str:
    """The text with a capital first."""
    return text[:1].upper() + text[1:]


def calm(sentence: str) -> str:
    """A reason or a caution in a quiet box."""
    return f'<p class="calm">{prose(sentence)}</p>'
