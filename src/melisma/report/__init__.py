"""One self-contained HTML page a study."""

from pathlib import Path

from melisma.methylome import atomic_file
from melisma.report._explain import write_explanation
from melisma.report._page import page
from melisma.report._power import write_power
from melisma.report._study import read_study
from melisma.report._trace import trace_page, write_traces

__all__ = ["trace_page", "write_explanation", "write_power", "write_report", "write_traces"]


def write_report(folder: Path | str) -> Path:
    """What a finished run found, as one page that opens without a network.

    Parameters
    ----------
    folder : a folder that `melisma run` left: run.json, study.zarr and tables/

    Returns
    -------
    Path of `report.html` in that folder; it is replaced only when the new one is whole.

    Raises
    ------
    MelismaError
        The folder is not a finished run.
    """
    folder = Path(folder)
    text = page(read_study(folder))
    path = folder / "report.html"
    with atomic_file(path) as work:
        work.write_text(text, encoding="utf-8")
    return path
