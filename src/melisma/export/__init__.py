"""From a store to files of other tools: one module a family of formats, and `export`."""

from melisma.export._export import ExportSummary, export
from melisma.export._format import ExportFormat
from melisma.export._registry import EXPORTS, export_named

__all__ = ["EXPORTS", "ExportFormat", "ExportSummary", "export", "export_named"]
