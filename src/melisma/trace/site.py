"""Why a site has its level: which bases and motifs carry it, through which parts of the network.

The baseline is dinucleotide shuffles of the window, twenty at the least; the site's own bases stay
where they are in every shuffle, so that the baseline is a site too. Along the line from a shuffle
to the window, what each base carries through each part of the network is added up (see
`melisma.trace.conduct`), a mean over shuffles, networks and strands. Effects are in the log odds of
the level, which add up; a level does not.

Bases whose contributions stand out together are motifs, and all others one node. So the same sum
is cut four times: by base, by base and motif, by motif and part, by part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from melisma.errors import MelismaError
from melisma.network import Metric, Network
from melisma.trace._batches import taken
from melisma.trace._stretches import Stretch, joined, standing_out
from melisma.trace._trace import Edge, Node, Trace
from melisma.trace.attribute import COMPLETE, gradient
from melisma.trace.conduct import Conductance, conductance

FEWEST_SHUFFLES = 20
# Other shuffles that a shuffle's own contributions are taken against.
_OTHERS = 19
_ROWS = 64
# Points of a line; what does not add up by then is flagged.
_MOST = 256
Codes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating[Any]]
Views = Callable[[Codes, Codes], list[tuple[Codes, Codes, npt.NDArray[np.int64]]]]
OUTCOME = "log odds of the level"
OTHER_BASES = "other bases"
_ASSUMPTIONS = (
    "Effects are of the model, not of the cell: they say what it reads.",
    "The baseline is a shuffle of the window that keeps its dinucleotides and the site.",
    "A part of the network is credited with what it hands straight to the outcome.",
)


class SiteEffects(NamedTuple):
    """What each base carries through each part of a network, shuffle by shuffle.

    window : uint8 (width,), codes, the site in the middle
    parts : P names
    value : float32 (shuffles, width, P), in log odds
    null : float32 (shuffles, width), what the shuffles' own bases carry against other shuffles
    difference : float32 (shuffles,), the window's log odds less each shuffle's
    log_odds : the window's
    added_up : share of runs that miss no more than `COMPLETE` of the mean difference
    steps : points on a line where most were needed
    """

    window: Codes
    parts: tuple[str, ...]
    value: Floats
    null: Floats
    difference: Floats
    log_odds: float
    added_up: float
    steps: int

    @property
    def by_base(self) -> Floats:
        """(width,), means over shuffles."""
        return self.value.sum(2).mean(0)

    @property
    def completeness_error(self) -> float:
        """What the bases miss of the difference, as a share of it."""
        total = float(self.difference.mean())
        missed = abs(float(self.value.sum((1, 2)).mean()) - total)
        return missed / max(abs(total), 1e-12)

    def motifs(self, width: int = 6) -> list[Stretch]:
        """Stretches of about `width` bases that stand out; see `standing_out`."""
        return standing_out(self.by_base, self.null, width)

    def less(self, other: "SiteEffects") -> "SiteEffects":
        """These effects less those in another environment, shuffle by shuffle.

        Raises
        ------
        MelismaError
            The windows, the parts or the numbers of shuffles differ.
        """
        if self.parts != other.parts or self.value.shape != other.value.shape or (
            (self.window != other.window).any()
        ):  # fmt: skip
            raise MelismaError(
                "Effects of different windows, networks or shuffles have no difference: trace one "
                "window twice, with the same shuffles."
            )
        return SiteEffects(
            self.window, self.parts, self.value - other.value, self.null - other.null,
            self.difference - other.difference, self.log_odds - other.log_odds,
            min(self.added_up, other.added_up), max(self.steps, other.steps),
        )  # fmt: skip


def site_effects(
    members: tuple[torch.nn.Module, ...],
    window: Codes,
    shuffles: Codes,
    batch: Mapping[str, Tensor | None],
    *,
    head: int = 0,
    temperature: float = 1.0,
    views: Views | None = None,
) -> SiteEffects:
    """What each base of one window carries through each part of a network.

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

    Raises
    ------
    MelismaError
        There are fewer than 20 shuffles.
    """
    n, width = shuffles.shape
    if n < FEWEST_SHUFFLES:
        raise MelismaError(
            f"{n} shuffles are too few for a baseline: give {FEWEST_SHUFFLES} or more."
        )

    def metric(output: Any, _: dict[str, Any]) -> Tensor:
        return output.logit[:, head] / temperature

    told = {k: v for k, v in batch.items() if v is not None}
    reads = [(window, shuffles, np.arange(width))] if views is None else views(window, shuffles)
    values, nulls, found = [], [], []
    for member in members:
        network = Network(member)
        for seen, others, place in reads:
            one, null = _of_view(network, seen, others, told, metric)
            inside = (place >= 0) & (place < width)
            value = np.zeros((n, width, len(one.places)), np.float32)
            value[:, place[inside]] = one.value.numpy()[:, inside]
            background = np.zeros((n, width), np.float32)
            background[:, place[inside]] = null.numpy()[:, inside]
            values.append(value)
            nulls.append(background)
            found.append(one)
    return SiteEffects(
        window, tuple(place.name for place in found[0].places), np.mean(values, axis=0),
        np.mean(nulls, axis=0), np.mean([one.difference.numpy() for one in found], axis=0),
        float(np.mean([float(one.output[0]) for one in found])),
        float(np.mean([one.converged.numpy() for one in found])),
        max(one.steps for one in found),
    )  # fmt: skip


def _of_view(
    network: Network, seen: Codes, others: Codes, told: Mapping[str, Tensor], metric: Metric
) -> tuple[Conductance, Tensor]:
    """One network's conductance from the shuffles to the window, and the shuffles' own."""
    n = len(others)

    def given(codes: Codes) -> dict[str, Any]:
        more = {name: value.expand(len(codes), *value.shape[1:]) for name, value in told.items()}
        return network.adapter.encode(torch.from_numpy(codes)) | more

    batch, bad = given(np.repeat(seen[None], n, 0)), given(others)
    baseline = network.adapter.embed(bad)
    found = conductance(network, batch, metric, baseline=baseline, together=True, most_steps=_MOST)
    return found, _own_contributions(network, bad, baseline, metric)


def _own_contributions(
    network: Network, told: dict[str, Any], shuffles: Tensor, metric: Metric
) -> Tensor:
    """What the bases of each shuffle carry against the others: (n, width).

    One point of every line, spread over them: expected gradients (Erion et al. 2021).
    """
    n = len(shuffles)
    many = min(n - 1, _OTHERS)
    found = torch.zeros(shuffles.shape[:2])
    for numbers in torch.arange(many * n).split(_ROWS):
        k, row = numbers // n, numbers % n
        start = shuffles[(row + 1 + k) % n]
        way = shuffles[row] - start
        at = start + ((k + 0.5) / many)[:, None, None] * way
        slope, _ = gradient(network, taken(told, row), at, metric)
        found.index_add_(0, row, (slope * way).sum(2) / many)
    return found


def trace_windows(
    members: tuple[torch.nn.Module, ...],
    window: Codes,
    shuffles: Codes,
    batch: Mapping[str, Tensor | None],
    *,
    head: int = 0,
    temperature: float = 1.0,
    views: Views | None = None,
    about: Mapping[str, Any] | None = None,
) -> Trace:
    """The trace of one window: parameters as `site_effects`, result as `site_trace`."""
    found = site_effects(
        members, window, shuffles, batch, head=head, temperature=temperature, views=views
    )
    return site_trace(found, about=about)


def site_trace(
    effects: SiteEffects,
    motifs: Sequence[Stretch] | None = None,
    *,
    named: Mapping[Stretch, Mapping[str, Any]] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Trace:
    """From bases through motifs and the network's parts to the log odds.

    Parameters
    ----------
    motifs : stretches that do not overlap; None: `effects.motifs()`
    named : by stretch, what its node should say besides: the known motif it resembles
    about : what the trace should say of its model and site

    Returns
    -------
    Trace of bases (layer 0, named by place from the site and letter), motifs and the other bases
    (1), parts of the network (2) and the log odds (3). What enters a node leaves it. Errors are
    standard errors over shuffles; those of the edges into the log odds stand in their evidence, so
    that `completeness_error` is what the sum misses. `about` holds the level, the baseline's mean
    level and the share of runs that added up.
    """
    chosen = effects.motifs() if motifs is None else list(motifs)
    group = np.full(len(effects.window), len(chosen))
    for k, one in enumerate(chosen):
        group[one.start : one.end] = k
    between = _between(effects, chosen, group, named or {})
    nodes, edges = [*_base_nodes(effects), *between], []
    for k, node in enumerate(nodes[: len(group)]):
        edges.append(_edge(node.name, between[group[k]].name, effects.value[:, k].sum(1)))
    for p, part in enumerate(effects.parts):
        nodes.append(Node(part, 2, "part", about={"depth": p}))
        for k, node in enumerate(between):
            edges.append(_edge(node.name, part, effects.value[:, group == k, p].sum(1)))
        # Parts and total move with the shuffles alike, so that their errors are none of the sum's.
        whole = _edge(part, OUTCOME, effects.value[:, :, p].sum(1))
        edges.append(replace(whole, error=None, evidence={"standard_error": whole.error}))
    nodes.append(Node(OUTCOME, 3, "level", effects.log_odds))
    total = float(effects.difference.mean())
    level, base = (1 / (1 + np.exp(-x)) for x in (effects.log_odds, effects.log_odds - total))
    return Trace(
        tuple(nodes), tuple(edges), OUTCOME, total, None, "log odds", _ASSUMPTIONS,
        dict(about or {})
        | {
            "level": float(level), "baseline_level": float(base),
            "total_standard_error": _error(effects.difference),
            "shuffles": len(effects.difference), "steps": effects.steps,
            "added_up": effects.added_up, "completeness_error": effects.completeness_error,
            "converged": effects.completeness_error <= COMPLETE, "tolerance": COMPLETE,
        },
    )  # fmt: skip


def traces_between(
    ours: SiteEffects,
    theirs: SiteEffects,
    *,
    width: int = 6,
    named: Callable[[Stretch], Mapping[str, Any]] | None = None,
    about: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
) -> tuple[Trace, Trace, Trace]:
    """Two traces of one window with the same motifs, and the first less the second.

    The motifs are those of either environment and of the difference; those that overlap are joined.
    Errors of the difference are over shuffles, which both share.
    """
    less = ours.less(theirs)
    motifs = joined(one for effects in (ours, theirs, less) for one in effects.motifs(width))
    told = {one: named(one) for one in motifs} if named else None
    first, second = (
        site_trace(effects, motifs, named=told, about=more)
        for effects, more in zip((ours, theirs), about, strict=True)
    )
    whole = site_trace(less, motifs, named=told)
    # A difference of log odds has no level of its own.
    kept = {name: value for name, value in whole.about.items() if "level" not in name}
    both = {"difference": [dict(first.about), dict(second.about)]}
    return first, second, replace(whole, about=both | kept)


def motif_name(window: Codes, one: Stretch) -> str:
    """A motif by its place from the site and its letters: `motif +2..+7 TGACGT`."""
    middle = len(window) // 2
    first, last = one.start - middle, one.end - 1 - middle
    where = _offset(first) if first == last else f"{_offset(first)}..{_offset(last)}"
    return f"motif {where} {_letters(window, one)}"


def _letters(window: Codes, one: Stretch) -> str:
    return "".join("ACGTN"[code] for code in window[one.start : one.end])


def _between(
    effects: SiteEffects, motifs: Sequence[Stretch], group: npt.NDArray[Any],
    named: Mapping[Stretch, Mapping[str, Any]],
) -> list[Node]:  # fmt: skip
    """The motifs, and the bases of none, if there are any: what each is, and carries."""
    middle = len(effects.window) // 2
    nodes = []
    for k in range(int(group.max()) + 1):
        own = effects.value[:, group == k].sum((1, 2))
        told = {"effect": float(own.mean()), "error": _error(own)}
        if k == len(motifs):
            told["bases"] = int((group == k).sum())
            nodes.append(Node(OTHER_BASES, 1, "bases", about=told))
            continue
        one = motifs[k]
        told |= {"first": one.start - middle, "last": one.end - 1 - middle, "p": one.p}
        told |= {"letters": _letters(effects.window, one), **named.get(one, {})}
        nodes.append(Node(motif_name(effects.window, one), 1, "motif", about=told))
    return nodes


def _base_nodes(effects: SiteEffects) -> list[Node]:
    middle = len(effects.window) // 2
    return [
        Node(f"{_offset(k - middle)} {'ACGTN'[code]}", 0, "base")
        for k, code in enumerate(effects.window)
    ]


def _offset(k: int) -> str:
    return f"{k:+d}" if k else "0"


def _edge(source: str, target: str, value: Floats) -> Edge:
    return Edge(source, target, float(value.mean()), _error(value), "conductance")


def _error(value: Floats) -> float:
    """The standard error of a mean over shuffles."""
    return float(value.std(ddof=1) / np.sqrt(len(value)))


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
