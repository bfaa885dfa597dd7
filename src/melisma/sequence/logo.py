"""Sequence logos as SVG: letters whose heights are information, or what a base contributes."""

from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

LETTERS = "ACGT"
# Hues of Okabe & Ito (2008), darkened to be read on white; pages set their own.
COLOURS = {"A": "#0b8463", "C": "#0067a8", "G": "#9a6c00", "T": "#b83f0c"}
# A capital's height and width in its font's units: one em is 100.
_CAP, _EM = 71.5, 100.0
_STEP, _HEIGHT = 22.0, 110.0


def information(frequency: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """Letter heights in bits, (4, length): each base's share of its column's information.

    >>> information(np.array([[1.0], [0.0], [0.0], [0.0]])).tolist()
    [[2.0], [0.0], [0.0], [0.0]]
    """
    f = np.asarray(frequency, float)
    f = f / f.sum(axis=0)
    bits = 2 + np.where(f > 0, f * np.log2(np.maximum(f, 1e-12)), 0.0).sum(axis=0)
    return f * bits


def logo(
    heights: npt.NDArray[np.floating[Any]], label: str, *, first: int = 0, unit: str = "",
    styled: bool = True,
) -> str:  # fmt: skip
    """Letters stacked at every position, those above zero upwards and those below downwards.

    Parameters
    ----------
    heights : (4, length), of A, C, G, T
    label : what the picture shows, for who cannot see it
    first : the number under the first position; the modified base has 0
    unit : what heights are measured in, written at the side
    styled : give the letters their own colours; without, a page's rules for .base-A and so on

    Returns
    -------
    An `<svg>` element
    """
    values = np.nan_to_num(np.asarray(heights, float))
    up = float(np.maximum(values, 0).sum(axis=0).max(initial=0.0))
    down = float(np.maximum(-values, 0).sum(axis=0).max(initial=0.0))
    scale = _HEIGHT / (up + down) if up + down > 0 else 0.0
    zero = 6 + up * scale
    length = values.shape[1]
    left = 34 if unit else 4
    width, height = left + length * _STEP + 4, _HEIGHT + 30
    parts = [f'<line class="axis" x1="{left}" x2="{width - 4:g}" y1="{zero:.1f}" y2="{zero:.1f}"/>']
    for at in range(length):
        for direction in (1, -1):
            y = zero
            column = values[:, at] * direction
            for k in np.argsort(column):
                tall = float(column[k]) * scale
                if tall < 0.4:
                    continue
                y -= direction * tall
                parts.append(_letter(LETTERS[k], left + at * _STEP, y, tall, direction))
        if length <= 24 or (first + at) % 5 == 0:
            x = left + (at + 0.5) * _STEP
            parts.append(f'<text class="place" x="{x:.1f}" y="{height - 6:g}">{first + at}</text>')
    if unit:
        parts.append(
            f'<text class="unit" transform="translate(12 {6 + _HEIGHT / 2:g}) rotate(-90)">'
            f"{escape(unit)}</text>"
        )
    colours = "".join(f".base-{b}{{fill:{c}}}" for b, c in COLOURS.items()) if styled else ""
    own = (
        "<style>.letter{font:700 100px sans-serif}.place,.unit{font:11px sans-serif;"
        f"text-anchor:middle;fill:#5b6068}}.axis{{stroke:#b4b9bf}}{colours}</style>"
        if styled
        else ""
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="logo" role="img" '
        f'viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px">'
        f"<title>{escape(label)}</title>{own}{''.join(parts)}</svg>"
    )


def _letter(base: str, x: float, y: float, tall: float, direction: int) -> str:
    """A letter that fills the box from (x, y), below the axis upside down."""
    wide = (_STEP - 2) / _EM
    # Letters differ in width, so each is stretched to its column.
    if direction > 0:
        move = f"translate({x + 1:.1f} {y + tall:.2f}) scale({wide:.3f} {tall / _CAP:.4f})"
    else:
        move = f"translate({x + 1:.1f} {y - tall:.2f}) scale({wide:.3f} {-tall / _CAP:.4f})"
    return (
        f'<text class="letter base-{base}" transform="{move}" textLength="{_EM:g}" '
        f'lengthAdjust="spacingAndGlyphs">{base}</text>'
    )
