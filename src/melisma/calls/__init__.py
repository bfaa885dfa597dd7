"""Methylation calls: one reader a format, which format a file is, and ingest into a store."""

from melisma.calls._append import AppendSummary, append
from melisma.calls._describe import SampleDescription, StoreDescription, describe
from melisma.calls._format import Format
from melisma.calls._ingest import IngestSummary, ingest
from melisma.calls._records import ContigCalls, site_key, unpack_key
from melisma.calls._registry import FORMATS, OWN_TABLE, Sniffed, format_named, sniff
from melisma.calls._samples_file import read_samples

__all__ = [
    "FORMATS",
    "OWN_TABLE",
    "AppendSummary",
    "ContigCalls",
    "Format",
    "IngestSummary",
    "SampleDescription",
    "Sniffed",
    "StoreDescription",
    "append",
    "describe",
    "format_named",
    "ingest",
    "read_samples",
    "site_key",
    "sniff",
    "unpack_key",
]
