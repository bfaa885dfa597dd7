"""Sequence logos as SVG: letters as tall as the information they carry, or as what they contribute.

Letters are paths, so that a logo looks the same in every browser and needs no font. Their colours
are told apart with every colour vision; a page may set its own by the classes `base-A` to `base-T`.
"""

from html import escape
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from melisma.errors import MelismaError
from melisma.sequence.encodings import LETTERS

Floats = npt.NDArray[np.floating[Any]]
Kind = Literal["counts", "frequencies", "contributions"]

# Hues of Okabe & Ito (2008), darkened until they are readable on white.
COLOURS = {"A": "#0b8463", "C": "#0067a8", "G": "#b98600", "T": "#b83f0c"}
# Each letter fills a box of 100 by 100.
_PATHS = {
    "A": "M0 100L38 0H62L100 100H77L69 76H31L23 100ZM37 58H63L50 17Z",
    "C": "M100 67C95 88 77 100 53 100C21 100 0 79 0 50C0 21 21 0 53 0C77 0 95 12 100 33L79 38"
    "C76 25 67 18 53 18C34 18 22 30 22 50C22 70 34 82 53 82C67 82 76 75 79 62Z",
    "G": "M100 33L79 38C76 25 67 18 53 18C34 18 22 30 22 50C22 70 34 82 53 82C66 82 75 77 79 68V63"
    "H54V46H100V100H84L82 88C75 96 65 100 53 100C21 100 0 79 0 50C0 21 21 0 53 0"
    "C77 0 95 12 100 33Z",
    "T": "M0 0H100V19H61V100H39V19H0Z",
}
_COLUMN, _HEIGHT, _LEFT, _TOP, _BELOW = 24.0, 96.0, 40.0, 8.0, 20.0
# Lower letters are a line that nobody reads.
_LOWEST = 0.6


def letter_heights(matrix: Floats, kind: Kind = "counts") -> npt.NDArray[np.float64]:
    """How tall each letter of a logo is.

    Parameters
    ----------
    matrix : (4, length), rows A, C, G, T
    kind : "counts" of bases, corrected for their number (Schneider et al. 1986); "frequencies",
        taken as they are; "contributions", which are heights already

    Returns
    -------
    (4, length): bits for counts and frequencies, else the contributions' unit

    Raises
    ------
    MelismaError
        The matrix has another shape, or a count is negative or missing.

    Examples
    --------
    >>> letter_heights(np.array([[1.0, 0.5], [0, 0.5], [0, 0], [0, 0]]), "frequencies").tolist()
    [[2.0, 0.5], [0.0, 0.5], [0.0, 0.0], [0.0, 0.0]]
    """
    value = np.asarray(matrix, float)
    if value.ndim != 2 or value.shape[0] != 4 or value.shape[1] == 0:
        raise MelismaError(
            f"A logo is drawn of a row for each of A, C, G and T; this is {value.shape}: transpose "
            "it, or cut it."
        )
    if not np.isfinite(value).all():
        raise MelismaError("A logo's matrix holds a missing or an infinite number.")
    if kind == "contributions":
        return value
    if (value < 0).any():
        raise MelismaError("A count or a frequency is negative: draw the matrix as contributions.")
    total = value.sum(axis=0)
    share = np.divide(value, total, out=np.full_like(value, 0.25), where=total > 0)
    bits = 2 + (share * np.log2(np.where(share > 0, share, 1.0))).sum(axis=0)
    if kind == "counts":
        bits -= np.divide(3, 2 * np.log(2) * total, out=np.full_like(total, 2), where=total > 0)
    return share * np.maximum(bits, 0.0)


def logo(
    matrix: Floats, *, kind: Kind = "counts", label: str = "", first: int = 0,
    top: float | None = None,
) -> str:  # fmt: skip
    """A sequence logo as one self-contained SVG element.

    Letters are stacked with the tallest outermost; what lowers stands below the line, upside down.

    Parameters
    ----------
    matrix : (4, length), rows A, C, G, T
    kind : what the matrix holds, as in `letter_heights`
    label : what the logo shows, for who cannot see it
    first : the number written under the first position
    top : height of the axis; None: 2 bits, or the tallest stack of contributions

    Raises
    ------
    MelismaError
        As `letter_heights`.
    """
    heights = letter_heights(matrix, kind)
    up = float(np.maximum(heights, 0).sum(axis=0).max())
    down = float(np.maximum(-heights, 0).sum(axis=0).max())
    if kind != "contributions":
        up = 2.0
    if top is not None:
        up, down = (top if up > 0 else 0.0), (top if down > 0 else 0.0)
    scale = _HEIGHT / (up + down) if up + down > 0 else 0.0
    zero = _TOP + up * scale
    length = heights.shape[1]
    width, height = _LEFT + length * _COLUMN + 6, _TOP + _HEIGHT + _BELOW
    parts = [_axis(up, down, scale, zero, width, kind)]
    for at in range(length):
        x = _LEFT + at * _COLUMN
        for sign in (1, -1):
            y = zero
            for base in np.argsort(sign * heights[:, at], kind="stable"):
                tall = sign * float(heights[base, at]) * scale
                if tall >= _LOWEST:
                    y -= sign * tall
                    parts.append(_letter(LETTERS[base], x, y, sign * tall))
        if length <= 25 or (first + at) % 5 == 0:
            parts.append(
                _text(x + _COLUMN / 2, height - 5, f"{first + at}".replace("-", "−"), "middle")
            )
    words = escape(label or "Sequence logo", quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="logo" role="img" aria-label="{words}" '
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">'
        f"<title>{words}</title>{''.join(parts)}</svg>"
    )


def _axis(up: float, down: float, scale: float, zero: float, width: float, kind: Kind) -> str:
    ticks = [up] if up > 0 else []
    if down > 0:
        ticks.append(-down)
    written = "{:g}" if kind != "contributions" else "{:+.2g}"
    marks = "".join(
        _text(_LEFT - 6, zero - tick * scale + 4, written.format(tick).replace("-", "−"), "end")
        for tick in ticks
    )
    unit = "bits" if kind != "contributions" else ""
    bottom = zero + down * scale
    line = 'class="axis" stroke="#b4b9bf" stroke-width="1"'
    return (
        f'<path d="M{_LEFT - 3:g} {zero - up * scale:.1f}V{bottom:.1f}" fill="none" {line}/>'
        f'<path d="M{_LEFT - 3:g} {zero:.1f}H{width - 4:g}" fill="none" {line}/>'
        + marks
        + (_text(_LEFT - 6, zero - up * scale / 2 + 4, unit, "end") if unit else "")
    )


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="11" fill="#5b6068" '
        f'font-family="sans-serif">{words}</text>'
    )


def _letter(base: str, x: float, y: float, tall: float) -> str:
    """A letter in its box; below the line (`tall` negative) from its lower edge, upside down."""
    return (
        f'<path class="base-{base}" fill="{COLOURS[base]}" fill-rule="evenodd" d="{_PATHS[base]}" '
        f'transform="translate({x + 1:.1f} {y:.2f}) scale({(_COLUMN - 2) / 100:g} '
        f'{tall / 100:.5f})"/>'
    )


__all__ = ["COLOURS", "letter_heights", "logo"]
