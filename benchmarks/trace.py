"""Traces: networks against references and peers, sites, studies, abilities, translation.

Each part says in its own file what was set before its figures were seen. What is timed runs alone
and first; the rest, which is not timed, runs in two processes.
"""

import json
import multiprocessing
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks import (
    _ability,
    _glioma_chain,
    _joined,
    _mediation,
    _networks,
    _site_trace,
    _translation,
)

SEED = 1
PROCESSES = 2
# The longest first.
PARTS: tuple[Callable[[bool, int], dict[str, Any]], ...] = (
    _networks.texts, _ability.measure, _site_trace.measure, _mediation.measure,
    _glioma_chain.measure, _networks.indirect_objects, _joined.measure, _translation.measure,
    _networks.references,
)  # fmt: skip


def measure(*, quick: bool) -> dict[str, Any]:
    """What the contract asks of `trace`, as far as it is measured here."""
    parts = [_told(_networks.sweep, quick)]
    if quick:
        parts += [part(quick, SEED) for part in PARTS]
    else:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(PROCESSES, mp_context=spawn, max_tasks_per_child=1) as pool:
            waiting = [pool.submit(_told, part, quick) for part in PARTS]
        parts += [one.result() for one in waiting]
    found: dict[str, Any] = {}
    sites: dict[str, Any] = {}
    for part in parts:
        if "completeness_error_dna" in part:
            sites = part
        else:
            found |= part
    # Language models have these too: theirs stay on top, and sites' stand under `sites`.
    for key, value in sites.items():
        found.setdefault(key, value)
    found.setdefault("completeness_error", sites["completeness_error_dna"]["p95"])
    return found | {"sites": sites, "seeds": [SEED]}


def _told(part: Callable[[bool, int], dict[str, Any]], quick: bool) -> dict[str, Any]:
    """A part's figures, also said as they come: a run that is broken off has told something."""
    try:
        found = part(quick, SEED)
    except BaseException:
        traceback.print_exc()
        raise
    print("\n" + json.dumps(found), file=sys.stderr, flush=True)
    return found
