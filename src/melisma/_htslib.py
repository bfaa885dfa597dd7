"""What the modules that use htslib through pysam share."""

from collections.abc import Iterator
from contextlib import contextmanager

import pysam


@contextmanager
def quiet_htslib() -> Iterator[None]:
    """Keep htslib from writing its own warnings to stderr; the caller reports what went wrong."""
    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)
