"""AnnData: samples × sites with levels as X, counts as layers, the sheet as obs; one .h5ad."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from melisma.errors import MelismaError
from melisma.export._format import ExportFormat
from melisma.export._reference import Reference
from melisma.export._selection import Selection
from melisma.export._walk import Stretch, walk
from melisma.methylome import CONTEXTS, sample_sheet

ANNDATA = ExportFormat(
    "anndata", "AnnData", ".h5ad", None, levels=True, marks=True, strands=True, contexts=True
)
# An AnnData is built in memory: bytes of its matrices.
MOST_BYTES = 16 << 30
# Below this share of seen cells the matrices are sparse.
DENSE_FROM = 0.5
_CELL_BYTES = 24
_SIGNS = ("-", ".", "+")


def write_anndata(
    selection: Selection,
    path: Path,
    *,
    reference: Reference | None,
    advance: Callable[[float], Any],
) -> list[int]:
    """Write the file; returns how many sites each sample has seen.

    X holds levels. Where fewer than half of the cells are seen, X and the layers are sparse and
    hold the seen cells alone, a level of 0 among them; else they are dense, with NaN in X.

    Raises
    ------
    MelismaError
        anndata is not installed, or the matrices would not fit into memory.
    """
    anndata, sparse = _packages()
    names = ("methylated", "coverage") if selection.has_counts else ()
    kept: dict[str, list[Any]] = {name: [] for name in ("X", *names)}
    sites: list[Stretch] = []
    cells = 0
    for stretch in walk(selection, reference):
        seen = stretch.seen
        where = np.nonzero(seen)
        cells += len(where[0])
        if cells * _CELL_BYTES > MOST_BYTES:
            raise MelismaError(
                f"An AnnData of this selection has over {cells:,} seen cells, more than "
                f"{MOST_BYTES >> 30} GB in memory: choose a --region or fewer samples, or --to "
                "parquet."
            )
        arrays = {"X": _levels(stretch, where)}
        arrays |= {name: getattr(stretch, name)[where] for name in names}
        for name, values in arrays.items():
            kept[name].append(sparse.csc_array((values, where), shape=seen.shape))
        sites.append(stretch)
        advance(len(stretch))
    if not sites:
        return [0] * len(selection.samples)
    matrices = {name: sparse.hstack(parts, format="csr") for name, parts in kept.items()}
    found = np.diff(matrices["X"].indptr).tolist()
    if cells >= DENSE_FROM * matrices["X"].shape[0] * matrices["X"].shape[1]:
        matrices = {name: _dense(matrix, name) for name, matrix in matrices.items()}
    made = anndata.AnnData(
        X=matrices.pop("X"),
        layers=matrices,
        obs=_obs(selection),
        var=_var(selection, sites),
        uns={"strands": selection.methylome.attrs["strands"], "base": 0},
    )
    made.write_h5ad(path, compression="gzip", compression_opts=1)
    return found


def _packages() -> tuple[Any, Any]:
    try:
        import anndata
        from scipy import sparse
    except ImportError:
        raise MelismaError(
            'AnnData files need the package anndata: pip install "melisma[anndata]".'
        ) from None
    return anndata, sparse


def _levels(stretch: Stretch, where: Any) -> npt.NDArray[np.float32]:
    if stretch.beta is not None:
        return stretch.beta[where]
    assert stretch.methylated is not None
    assert stretch.coverage is not None
    return (stretch.methylated[where] / stretch.coverage[where]).astype(np.float32)


def _dense(matrix: Any, name: str) -> npt.NDArray[Any]:
    """A CSR matrix of the seen cells in full; cells that are not seen are NaN in X, else 0."""
    full = np.full(matrix.shape, np.nan if name == "X" else 0, dtype=matrix.dtype)
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    full[row, matrix.indices] = matrix.data
    return full


def _factor(names: Sequence[str], codes: npt.NDArray[Any]) -> pd.Categorical:
    """Words by their codes, as objects: pandas' own type of words is new to anndata's readers."""
    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object))


def _index(names: Sequence[str], name: str) -> pd.Index:
    return pd.Index(names, name=name, dtype=object)


def _obs(selection: Selection) -> pd.DataFrame:
    """The sample sheet, a row a sample."""
    columns: dict[str, Any] = {}
    for name, values in sample_sheet(selection.methylome).items():
        if name == "sample":
            continue
        own = [values[k] for k in selection.samples]
        if own and isinstance(own[0], str):
            words = list(dict.fromkeys(own))
            own = _factor(words, np.array([words.index(word) for word in own]))
        columns[name] = own
    return pd.DataFrame(columns, index=_index(selection.names, "sample"))


def _var(selection: Selection, sites: list[Stretch]) -> pd.DataFrame:
    """The sites: contig, 0-based position, strand, mark, context; named chr1:9+m or by probe."""
    attrs = selection.methylome.attrs
    column = {
        name: np.concatenate([getattr(stretch, name) for stretch in sites])
        for name in ("contig", "position", "strand", "mark", "context")
    }
    words = {
        "contig": _factor(attrs["contigs"], column["contig"]),
        "position": column["position"],
        "strand": _factor(_SIGNS, column["strand"] + 1),
        "mark": _factor(attrs["marks"], column["mark"]),
        "context": _factor(CONTEXTS, column["context"]),
    }
    if sites[0].probe is not None:
        names = [str(name) for stretch in sites for name in stretch.probe.tolist()]  # type: ignore[union-attr]
    else:
        parts = zip(*(column[name].tolist() for name in column if name != "context"), strict=True)
        contigs, marks = attrs["contigs"], attrs["marks"]
        names = [f"{contigs[c]}:{p}{_SIGNS[s + 1]}{marks[m]}" for c, p, s, m in parts]
    return pd.DataFrame(words, index=_index(names, "site"))
