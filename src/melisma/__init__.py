"""Computational epigenetics: from methylation calls to answers one can look at and trust."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Loaded on first use, so that `import melisma` and the command line's help stay instant.
_PLACES = {
    "open_methylome": "melisma.methylome",
    "MelismaError": "melisma.errors",
    "read_sheet": "melisma.design",
    "make_design": "melisma.design",
    "ingest": "melisma.calls",
    "site_tests": "melisma.differential",
    "find_regions": "melisma.differential",
    "region_tests": "melisma.differential",
    "check_quality": "melisma.quality",
}

if TYPE_CHECKING:
    from melisma.calls import ingest
    from melisma.design import make_design, read_sheet
    from melisma.differential import find_regions, region_tests, site_tests
    from melisma.errors import MelismaError
    from melisma.methylome import open_methylome
    from melisma.quality import check_quality

__all__ = [
    "MelismaError",
    "__version__",
    "check_quality",
    "find_regions",
    "ingest",
    "make_design",
    "open_methylome",
    "read_sheet",
    "region_tests",
    "site_tests",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'melisma' has no attribute {name!r}")
