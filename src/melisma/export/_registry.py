"""The formats that are written."""

from melisma.errors import MelismaError
from melisma.export._format import ExportFormat
from melisma.export.anndata import ANNDATA
from melisma.export.bigwig import BIGWIG
from melisma.export.matrix import MATRIX
from melisma.export.parquet import PARQUET
from melisma.export.text import TEXT_FORMATS

EXPORTS: tuple[ExportFormat, ...] = (*TEXT_FORMATS, BIGWIG, PARQUET, ANNDATA, MATRIX)


def export_named(name: str) -> ExportFormat:
    """The format that `--to` names.

    Raises
    ------
    MelismaError
        There is no such format.
    """
    for form in EXPORTS:
        if form.name == name.strip().lower():
            return form
    known = ", ".join(form.name for form in EXPORTS)
    raise MelismaError(f"There is no format {name!r} to export to: use one of {known}.")
