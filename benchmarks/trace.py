"""Traces: networks against references and peers, sites, studies, abilities, translation.

Each part says in its own file what was set before its figures were seen.
"""

from typing import Any

from benchmarks import (
    _ability,
    _glioma_chain,
    _mediation,
    _networks,
    _site_trace,
    _translation,
)

SEED = 1


def measure(*, quick: bool) -> dict[str, Any]:
    """What the contract asks of `trace`, as far as it is measured here."""
    found = _networks.measure(quick=quick, seed=SEED)
    sites = _site_trace.measure(quick, SEED)
    # Language models have these too: theirs stay on top, and sites' stand under `sites`.
    for key, value in sites.items():
        found.setdefault(key, value)
    found.setdefault("completeness_error", sites["completeness_error_dna"]["p95"])
    found["sites"] = sites
    found |= _mediation.measure(quick=quick)
    found |= _glioma_chain.measure(quick, SEED)
    found |= _ability.measure(quick, SEED)
    found |= _translation.measure(quick, SEED)
    return found | {"seeds": [SEED]}
