"""The report's look, once: colours for both themes, the plot template, small drawing values.

Figures never hold a colour; they hold a token such as `@ink` or `@c0/.4` (opacity), and the
page resolves it against the theme that is showing. The same values are the page's CSS variables.
"""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FONT = '"Inter", -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'

# Hues of Okabe & Ito (2008), shifted in lightness so that they are readable on their paper and
# stay apart under simulated protanopia, deuteranopia and tritanopia (measured in the tests).
LIGHT = {
    "paper": "#fdfdfc",
    "panel": "#f4f5f3",
    "ink": "#1b1d20",
    "soft": "#5b6068",
    "rule": "#dcdedf",
    "faint": "#b4b9bf",
    "alert": "#b3400a",
    "c0": "#b83f0c",
    "c1": "#0067a8",
    "c2": "#83296f",
    "c3": "#0b8463",
    "c4": "#b98600",
    "c5": "#4096d1",
    "seq0": "#eef2f4",
    "seq1": "#83b4d4",
    "seq2": "#0a4674",
    "o0": "#79aed2",
    "o1": "#2a77ad",
    "o2": "#0b3a5f",
}
DARK = {
    "paper": "#15171a",
    "panel": "#1e2125",
    "ink": "#e8e9eb",
    "soft": "#a3a9b1",
    "rule": "#363a40",
    "faint": "#5b626b",
    "alert": "#ff9a5f",
    "c0": "#f57f3f",
    "c1": "#58aaf0",
    "c2": "#e08fc8",
    "c3": "#4fd6ab",
    "c4": "#f5d26b",
    "c5": "#b9e2fb",
    "seq0": "#20262c",
    "seq1": "#2f6d9b",
    "seq2": "#b5e0ff",
    "o0": "#54809e",
    "o1": "#68b4ec",
    "o2": "#dcf0ff",
}
GROUP_TOKENS = ("@c0", "@c1", "@c2", "@c3", "@c4", "@c5")
ORDERED_TOKENS = ("@o0", "@o1", "@o2")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross")
CLOSE_IS_DARK = [[0, "@seq2"], [0.5, "@seq1"], [1, "@seq0"]]
HIGH_IS_DARK = [[0, "@seq0"], [0.5, "@seq1"], [1, "@seq2"]]


class Figure(NamedTuple):
    """A plotly figure with colour tokens, its height in pixels, and what it shows in words.

    `narrow` is merged into the layout where the figure is under 400 pixels wide. `choices` maps
    a sample-sheet column to the traces' markers and the key that colour the figure by it.
    """

    data: list[dict[str, Any]]
    layout: dict[str, Any]
    height: int
    label: str
    narrow: dict[str, Any] | None = None
    choices: dict[str, Any] | None = None

    def spec(self) -> dict[str, Any]:
        """What the page's script needs to draw it."""
        spec = {"data": self.data, "layout": self.layout, "narrow": self.narrow or {}}
        return spec | ({"choices": self.choices} if self.choices else {})


def css_variables() -> str:
    """Both themes as CSS: the reader's system decides, the toggle overrides, paper is light.

    >>> "--ink: #1b1d20" in css_variables()
    True
    """

    def block(theme: dict[str, str], scheme: str) -> str:
        lines = "".join(f" --{name}: {value};" for name, value in theme.items())
        return f"{{ color-scheme: {scheme};{lines} }}"

    return "\n".join(
        (
            f":root {block(LIGHT, 'light')}",
            f":root[data-theme=dark] {block(DARK, 'dark')}",
            "@media (prefers-color-scheme: dark) {",
            f"  :root:not([data-theme=light]) {block(DARK, 'dark')}",
            "}",
            "@media print {",
            f"  :root:root:root {block(LIGHT, 'light')}",
            "}",
        )
    )


def template() -> dict[str, Any]:
    """The plotly template of every figure: thin rules, no boxes, room to breathe."""
    axis = {
        "showgrid": False,
        "zeroline": False,
        "showline": True,
        "linecolor": "@rule",
        "linewidth": 1,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": "@rule",
        "tickfont": {"size": 11, "color": "@soft"},
        "title": {"font": {"size": 12, "color": "@soft"}, "standoff": 10},
        "automargin": False,
    }
    grid = {"showline": False, "ticks": "", "showgrid": True, "gridcolor": "@rule/.7"}
    return {
        "layout": {
            "font": {"family": FONT, "size": 12, "color": "@soft"},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "margin": {"l": 44, "r": 16, "t": 28, "b": 44},
            "xaxis": axis,
            "yaxis": axis | grid,
            "showlegend": False,
            "hovermode": "closest",
            "hoverlabel": {
                "bgcolor": "@panel",
                "bordercolor": "@rule",
                "font": {"family": FONT, "size": 12, "color": "@ink"},
                "align": "left",
            },
            "annotationdefaults": {
                "showarrow": False,
                "font": {"size": 12, "color": "@soft"},
            },
        }
    }


def packed(values: npt.ArrayLike, dtype: str = "f4") -> dict[str, Any]:
    """An array as plotly's typed base64: a third of the size of its decimals.

    >>> packed([1, 2], "i4")
    {'dtype': 'i4', 'bdata': 'AQAAAAIAAAA='}
    """
    array = np.ascontiguousarray(values, dtype=np.dtype(f"<{dtype}"))
    spec = {"dtype": dtype, "bdata": base64.b64encode(array.tobytes()).decode("ascii")}
    return spec | ({"shape": ", ".join(map(str, array.shape))} if array.ndim > 1 else {})


def y_title(text: str, left: int = 44) -> dict[str, Any]:
    """A vertical axis' title, written level above the axis so that no head needs turning."""
    return {
        "text": text,
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": 1,
        "xanchor": "left",
        "yanchor": "bottom",
        "xshift": -left + 4,
        "yshift": 8,
        "showarrow": False,
    }


def direct_label(
    text: str, x: Any, y: Any, token: str, *, shift: Sequence[int] = (0, 0), **where: Any
) -> dict[str, Any]:
    """A label beside the thing it names, in that thing's colour."""
    return {
        "text": text,
        "x": x,
        "y": y,
        "showarrow": False,
        "xshift": shift[0],
        "yshift": shift[1],
        "font": {"size": 12, "color": token},
    } | where


def separated(labels: Sequence[float], gap: float) -> list[float]:
    """Heights moved apart until neighbours differ by `gap`, order and centre kept.

    >>> [round(y, 2) for y in separated([0.5, 0.52], 0.1)]
    [0.46, 0.56]
    """
    order = np.argsort(labels, kind="stable")
    heights = np.asarray(labels, dtype=float)[order]
    for _ in range(50):
        overlap = gap - np.diff(heights)
        if not (overlap > 1e-9).any():
            break
        for i in np.flatnonzero(overlap > 1e-9):
            lack = gap - (heights[i + 1] - heights[i])
            heights[i] -= lack / 2
            heights[i + 1] += lack / 2
    moved = np.empty_like(heights)
    moved[order] = heights
    return moved.tolist()
