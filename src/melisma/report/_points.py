"""The tested sites of a contrast as points, thinned so that the picture stays the same."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.report._figures_quality import plain
from melisma.report._study import Contrast
from melisma.report._style import packed
from melisma.report._words import direction, named, place, points, probability

# Points beyond these lie under others: they add weight to the page and nothing to the eye.
MOST_BACKGROUND = 3500
MOST_SIGNIFICANT = 6000
_NAMED_BACKGROUND = 300
_NAMED_SIGNIFICANT = 1500


def thinned(
    x: npt.NDArray[Any], y: npt.NDArray[Any], most: int, cells: tuple[int, int] = (320, 200)
) -> npt.NDArray[np.intp]:
    """Which points to draw so that the picture stays the same: the highest one a grid cell.

    The grid is coarsened until at most `most` points are left; no chance is involved.

    >>> thinned(np.array([0, 0, 1]), np.array([1.0, 1.0, 1.0]), 2).tolist()
    [0, 2]
    """
    if len(x) <= most:
        return np.arange(len(x))
    columns, rows = cells
    while True:
        place_x = _cells(x, columns)
        key = place_x * (rows + 1) + _cells(y, rows)
        order = np.lexsort((np.arange(len(y)), -y, key))
        _, first = np.unique(key[order], return_index=True)
        if len(first) <= most or columns <= 8:
            return np.sort(order[first])
        columns, rows = int(columns * 0.85), max(8, int(rows * 0.85))


def _cells(values: npt.NDArray[Any], n: int) -> npt.NDArray[np.int64]:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / ((high - low) or 1.0) * n).astype(np.int64)


class SitePoints:
    """The tested sites of a contrast as arrays, significant ones apart.

    needs : the column without which a site cannot be drawn: "delta_beta" or "position"
    """

    def __init__(self, contrast: Contrast, needs: str) -> None:
        table = contrast.sites if contrast.sites is not None else pl.DataFrame()
        self.contrast = contrast
        self.tested = table.with_columns(pl.col("p", "q").fill_nan(None)).filter(
            pl.col("p").is_not_null() & pl.col(needs).is_not_null()
        )
        contigs = self.tested["contig"].cast(pl.String)
        self.names: list[str] = contigs.drop_nulls().unique(maintain_order=True).to_list()
        places = list(range(len(self.names)))
        coded = contigs.replace_strict(self.names, places, default=-1, return_dtype=pl.Int32)
        self.contig = coded.to_numpy()
        self.position = self.tested["position"].fill_null(-1).to_numpy().astype(np.int64)
        delta = self.tested["delta_beta"].fill_null(np.nan).to_numpy().astype(float)
        # Several coefficients have a size and no direction.
        self.delta = np.abs(delta) if contrast.joint else delta
        self.q = self.tested["q"].to_numpy().astype(float)
        self.p = self.tested["p"].to_numpy().astype(float)
        self.height = -np.log10(np.maximum(self.p, 1e-300))
        # Where p underflows, the statistic still tells which is stronger.
        self.size = np.abs(self.tested["statistic"].fill_null(np.nan).to_numpy().astype(float))
        self.significant = self.q < contrast.cut("sites")

    def __len__(self) -> int:
        return len(self.p)

    def offsets(self) -> tuple[npt.NDArray[np.int64], list[int], list[int]]:
        """Where each site stands when contigs are laid end to end; contigs' starts and ends."""
        lengths = np.zeros(len(self.names), dtype=np.int64)
        np.maximum.at(lengths, self.contig, self.position + 1)
        if len(self.names) == 1:
            return self.position, [int(self.position.min())], [int(self.position.max())]
        gap = int(lengths.sum() * 0.004)
        starts = np.concatenate([[0], np.cumsum(lengths + gap)[:-1]])
        return self.position + starts[self.contig], starts.tolist(), (starts + lengths).tolist()

    def label(self, i: int | np.intp) -> str:
        """A site's probe or place as a label."""
        return plain(named(self.tested.row(int(i), named=True)))

    def hover(self, chosen: npt.NDArray[np.intp]) -> list[str]:
        """Each chosen site's name, difference, p and q."""
        words = []
        for i in chosen:
            row = self.tested.row(int(i), named=True)
            lines = [named(row)]
            if row.get("probe") and row["contig"] is not None:
                lines.append(place(str(row["contig"]), int(row["position"])))
            if self.contrast.joint:
                lines.append(direction(self.contrast, row))
            else:
                lines.append(f"{points(row['delta_beta'])} points")
            lines.append(f"p {probability(row['p'])}, q {probability(row['q'])}")
            words.append("<br>".join(map(plain, lines)))
        return words

    def traces(
        self, x: npt.NDArray[Any], tokens: tuple[str, str], shade: npt.NDArray[Any] | None = None
    ) -> list[dict[str, Any]]:
        """Background, the strongest of it with names, and the significant sites.

        `tokens` colour a rise and a fall; `shade` is true where the background is darker.
        """
        dark = np.zeros(len(x), dtype=bool) if shade is None else shade
        drawn = []
        for wanted, most, worded in (
            (~self.significant, MOST_BACKGROUND, _NAMED_BACKGROUND),
            (self.significant, MOST_SIGNIFICANT, _NAMED_SIGNIFICANT),
        ):
            chosen = np.flatnonzero(wanted)
            if not len(chosen):
                continue
            chosen = chosen[thinned(x[chosen], self.height[chosen], most)]
            chosen = chosen[np.lexsort((-self.size[chosen], -self.height[chosen]))]
            for part, words in ((chosen[worded:], False), (chosen[:worded], True)):
                if wanted is self.significant:
                    colours = [tokens[0] if self.delta[i] > 0 else tokens[1] for i in part]
                    drawn.append(self._dots(x, part, colours, (7, 0.9), words))
                else:
                    drawn.append(self._dots(x, part[~dark[part]], "@faint", (4, 0.75), words))
                    drawn.append(self._dots(x, part[dark[part]], "@soft/.6", (4, 0.75), words))
        return [trace for trace in drawn if trace is not None]

    def _dots(
        self,
        x: npt.NDArray[Any],
        chosen: npt.NDArray[np.intp],
        colour: str | list[str],
        look: tuple[float, float],
        words: bool,
    ) -> dict[str, Any] | None:
        if not len(chosen):
            return None
        hover = (
            {"text": self.hover(chosen), "hovertemplate": "%{text}<extra></extra>"}
            if words
            else {"hoverinfo": "skip"}
        )
        # A position needs whole bases; only a genome laid end to end outgrows 32 bits.
        whole = "i4" if x.max(initial=0) < 2**31 else "f8"
        wide = "f4" if x.dtype.kind == "f" else whole
        return {
            "type": "scatter",
            "mode": "markers",
            "x": packed(x[chosen], wide),
            "y": packed(self.height[chosen]),
            "marker": {"color": colour, "size": look[0], "opacity": look[1]},
            "cliponaxis": False,
        } | hover
