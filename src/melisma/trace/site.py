"""Why a site has its level: what each base around it carries, in one environment or between two.

Integrated gradients from dinucleotide shuffles of the window (twenty at the least), a mean over
shuffles and networks. The site's own bases stay where they are in every shuffle, so that the
baseline is a site too. Effects are in the log odds of the level, which add up; a level does not.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Network
from melisma.trace._trace import Edge, Node, Trace
from melisma.trace.attribute import COMPLETE, integrated_gradients

FEWEST_SHUFFLES = 20
Codes = npt.NDArray[np.uint8]
Views = Callable[[Codes, Codes], list[tuple[Codes, Codes, npt.NDArray[np.int64]]]]
_OUTCOME = "log odds of the level"
_ASSUMPTIONS = (
    "Effects are of the model, not of the cell: they say what it reads.",
    "The baseline is a shuffle of the window that keeps its dinucleotides and the site.",
)


def trace_windows(
    members: tuple[torch.nn.Module, ...],
    window: npt.NDArray[np.uint8],
    shuffles: npt.NDArray[np.uint8],
    batch: Mapping[str, Tensor | None],
    *,
    head: int = 0,
    temperature: float = 1.0,
    views: Views | None = None,
    about: Mapping[str, Any] | None = None,
) -> Trace:
    """What each base of one window carries of the difference from its shuffles.

    Parameters
    ----------
    members : networks of an ensemble, alike in kind
    window : uint8 (width,), codes, the site in the middle
    shuffles : uint8 (n, width), 20 or more
    batch : what the networks are told besides sequence, one row each: environment, surroundings
    head : which mark
    temperature : what the log odds are divided by
    views : how a model that reads both strands sees a window and its shuffles: for each view the
        two, and the window's base that each of its bases is (-1: none); None: as they are
    about : what the trace should say of its model and site

    Returns
    -------
    Trace of bases (layer 0; names are their place from the site and their letter) to the log odds.
    Its errors are standard errors over shuffles; `about` holds the level, the baseline's mean
    level, and the share of runs that added up.

    Raises
    ------
    MelismaError
        There are fewer than 20 shuffles.
    """
    n = len(shuffles)
    if n < FEWEST_SHUFFLES:
        raise MelismaError(
            f"{n} shuffles are too few for a baseline: give {FEWEST_SHUFFLES} or more."
        )

    def metric(output: Any, _: dict[str, Any]) -> Tensor:
        return output.logit[:, head] / temperature

    reads = (
        [(window, shuffles, np.arange(len(window)))] if views is None else views(window, shuffles)
    )
    values, differences, done, own = [], [], [], []
    for member in members:
        network = Network(member)
        told = {
            name: value.expand(n, *value.shape[1:])
            for name, value in batch.items()
            if value is not None
        }
        for seen, others, place in reads:
            given = network.adapter.encode(torch.from_numpy(np.repeat(seen[None], n, 0))) | told
            baseline = network.adapter.embed(network.adapter.encode(torch.from_numpy(others)))
            found = integrated_gradients(network, given, metric, baseline=baseline)
            value = np.zeros((n, len(window)), np.float32)
            inside = (place >= 0) & (place < len(window))
            value[:, place[inside]] = found.by_position.numpy()[:, inside]
            values.append(value)
            differences.append(found.difference.numpy())
            done.append(found.converged.numpy())
            own.append(float(metric(network.run(given).output, given)[0]))
    value = np.mean(values, axis=0)  # (n, width)
    difference = np.mean(differences, axis=0)  # (n,)
    middle = len(window) // 2
    nodes = [Node(_OUTCOME, 1, "level", float(np.mean(own)))]
    edges = []
    for k, code in enumerate(window):
        name = f"{k - middle:+d} {'ACGTN'[code]}".replace("+0", "0")
        nodes.append(Node(name, 0, "base"))
        error = float(value[:, k].std(ddof=1) / np.sqrt(n))
        edges.append(Edge(name, _OUTCOME, float(value[:, k].mean()), error, "integrated gradients"))
    level, base = (1 / (1 + np.exp(-x)) for x in (np.mean(own), np.mean(own) - difference.mean()))
    return Trace(
        tuple(nodes),
        tuple(edges),
        _OUTCOME,
        float(difference.mean()),
        float(difference.std(ddof=1) / np.sqrt(n)),
        "log odds",
        _ASSUMPTIONS,
        dict(about or {})
        | {
            "level": float(level), "baseline_level": float(base), "shuffles": n,
            "added_up": float(np.mean(done)), "tolerance": COMPLETE,
            "share_error": _share_error(value, difference),
        },
    )  # fmt: skip


def _share_error(value: npt.NDArray[Any], difference: npt.NDArray[Any]) -> float | None:
    """The error of the share that bases explain: both come from the same shuffles (n of them)."""
    left = value.sum(1) - difference
    total = abs(float(difference.mean()))
    return float(left.std(ddof=1) / np.sqrt(len(left))) / total if total else None


def shuffled_around_site(
    window: npt.NDArray[np.uint8],
    n: int,
    site: int,
    shuffle: Callable[[npt.NDArray[np.uint8], int], npt.NDArray[np.uint8]],
) -> npt.NDArray[np.uint8]:
    """Shuffles of what stands around a site, both sides together, the site in the middle: uint8
    (n, width).

    Parameters
    ----------
    window : uint8 (width,), the site's first base in the middle
    site : bases of the site: 2 for a CpG
    shuffle : from windows (1, m) and n to (1, n, m), as `dinucleotide_shuffle`

    Raises
    ------
    MelismaError
        The window has fewer than four bases around its site.
    """
    middle = len(window) // 2
    flanks = np.concatenate([window[:middle], window[middle + site :]])
    if len(flanks) < 4:
        raise MelismaError(f"A window of {len(window)} bases has too few to be shuffled.")
    others = shuffle(flanks[None], n)[0]
    own = np.repeat(window[None, middle : middle + site], n, 0)
    return np.concatenate([others[:, :middle], own, others[:, middle:]], axis=1)
