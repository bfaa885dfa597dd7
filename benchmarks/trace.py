"""Traces: networks against references and peers, sites, studies, abilities, translation.

Each part says in its own file what was set before its figures were seen. What is timed runs alone
and first; the rest, which is not timed, runs in two processes.
"""

import json
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
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
    parts = [_networks.sweep(quick, SEED)]
    if quick:
        parts += [part(quick, SEED) for part in PARTS]
    else:
        _say(parts[0])
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(PROCESSES, mp_context=spawn, max_tasks_per_child=1) as pool:
            for one in as_completed([pool.submit(part, quick, SEED) for part in PARTS]):
                parts.append(one.result())
                _say(parts[-1])
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


def _say(part: dict[str, Any]) -> None:
    """A part's figures as they come, so that a run that is broken off has told something."""
    print(json.dumps(part), file=sys.stderr, flush=True)
