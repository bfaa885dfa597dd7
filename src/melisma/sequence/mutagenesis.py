"""In-silico mutagenesis: every base of a window exchanged, only what that changes computed anew.

A convolution of kernel k changes k positions where one base changes. Layer by layer the network is
run on the stretch that a mutation has reached, the rest taken from the unmutated window; the
read-out, which is linear, gets the difference. Networks with attention, where every position sees
every other, and windows that the tower spans anyway are run whole.
"""

from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit
from torch import Tensor
from torch.nn import functional as F

from melisma.errors import MelismaError
from melisma.sequence.checkpoint import Model, as_input, other_strand, symmetric_view
from melisma.sequence.encodings import UNKNOWN, Codes
from melisma.sequence.model import Block, SequenceModel

Floats = npt.NDArray[np.float32]
# Mutations a step: their stretches stay in the processor's cache.
_STEP = 256


class Mutagenesis(NamedTuple):
    """level: (n,) of the windows as they are; effect: (n, width, 4), the level with base A, C, G
    or T there less `level`, 0 for the window's own base, NaN where that is unknown."""

    level: Floats
    effect: Floats


def mutagenesis(
    model: Model,
    windows: Codes,
    environment: Floats | None = None,
    *,
    surroundings: Floats | None = None,
    head: int = 0,
    whole: bool = False,
) -> Mutagenesis:
    """What every single exchange of a base does to the level.

    Parameters
    ----------
    windows : uint8 (n, width)
    environment : float32 (1, environment width), encoded; None: the mean
    surroundings : float32 (n, scales, 5), which no mutation changes; None: the mean
    head : which mark
    whole : run every mutated window from its first layer, as a check

    Raises
    ------
    MelismaError
        The windows have another width than the model's.
    """
    n, width = windows.shape
    if width != model.config.width:
        raise MelismaError(
            f"This model reads windows of {model.config.width} bases, and these are {width}."
        )
    told = (
        np.zeros((1, model.environment.width), np.float32) if environment is None else environment
    )
    level, effect = np.empty(n, np.float32), np.full((n, width, 4), np.nan, np.float32)
    with torch.inference_mode():
        for i in range(n):
            around = None
            if surroundings is not None and model.config.surroundings:
                around = torch.from_numpy(surroundings[i : i + 1].copy())
            level[i], effect[i] = _one(model, windows[i], told, around, head, whole=whole)
    return Mutagenesis(level, effect)


def _one(
    model: Model, codes: npt.NDArray[np.uint8], told: Floats, around: Tensor | None, head: int,
    *, whole: bool,
) -> tuple[float, Floats]:  # fmt: skip
    width = len(codes)
    place, base = np.nonzero((np.arange(4)[None] != codes[:, None]) & (codes < UNKNOWN)[:, None])
    environment = torch.from_numpy(told.copy()) if model.environment.width else None
    views = [(codes[None], place, base)]
    if model.symmetric:
        # The other strand's view begins one base later: base p stands at width - p.
        views = [
            (symmetric_view(codes[None]), place, base),
            (other_strand(codes[None]), width - place, 3 - base),
        ]
    own = np.zeros(len(model.members), np.float32)
    changed = np.zeros((len(model.members), len(place)), np.float32)
    for view, at, to in views:
        seen = (at >= 1) & (at < width) if model.symmetric else np.ones(len(at), bool)
        for k, member in enumerate(model.members):
            run = _Run(cast(SequenceModel, member), view, environment, around, head)
            own[k] += run.logit / len(views)
            found = np.full(len(at), run.logit, np.float32)
            mutate = run.whole if whole or not run.local else run.stretches
            rows = np.flatnonzero(seen)
            for start in range(0, len(rows), _STEP):
                some = rows[start : start + _STEP]
                found[some] = mutate(at[some], to[some])
            changed[k] += found / len(views)
    level = _level(own, model, head)
    effect = np.full((width, 4), np.nan, np.float32)
    effect[codes < UNKNOWN] = 0.0
    effect[place, base] = _level(changed, model, head) - level
    return float(level), effect


def _level(logit: npt.NDArray[Any], model: Model, head: int) -> Any:
    return expit(logit / np.float32(model.temperature[head])).mean(0)


class _Run:
    """One network on one window: its activations, and mutations of it."""

    def __init__(
        self, module: SequenceModel, view: Codes, environment: Tensor | None,
        around: Tensor | None, head: int,
    ) -> None:  # fmt: skip
        self.module, self.view, self.head, self.environment = module, view, head, environment
        self.around = around
        self.stretched: dict[tuple[int | str, int], Tensor] = {}
        config = module.config
        self.told = None
        if module.environment is not None:
            given = environment
            if given is None:
                given = torch.zeros(1, config.environment)
            self.environment = given
            self.told = module.environment(given)
        x = as_input(view)
        self.logit = float(module(x, self.environment, None, around).logit[0, head])
        # A language model sees every token from every other.
        self.local = (
            isinstance(module, SequenceModel)
            and not config.attention
            and _reach(module) < config.length
        )
        if not self.local:
            return
        self.kept: list[Tensor] = [module.film_stem(module.stem(x), self.told)]  # (1, C, W)
        x = self.kept[0]
        if config.pool > 1:
            x = F.avg_pool1d(x, config.pool, ceil_mode=True, count_include_pad=False)
        self.kept.append(x)
        for block in module.tower:
            x = block(x, self.told)
            self.kept.append(x)
        self.read = F.gelu(module.film(self.kept[-1], self.told))  # (1, C, L)
        self.narrow = module.narrow(self.read)  # (1, R, L)
        self.hidden = module.read_out(self.narrow.flatten(1))  # (1, hidden)
        self.hidden = self.hidden + module.read_mean(self.read.mean(2))
        self.near = None
        if module.near is not None:
            self.near = module.near(self.kept[0], self.told)
        if module.neighbours is not None:
            self.hidden = self.hidden + module.neighbours(torch.zeros(1, 3 * config.neighbours))
        if module.surroundings is not None:
            self.hidden = self.hidden + module.surroundings(around, 1)

    def whole(self, at: npt.NDArray[Any], to: npt.NDArray[Any]) -> Floats:
        """Log odds of mutations, every window run from its first layer."""
        codes = np.repeat(self.view, len(at), axis=0)
        codes[np.arange(len(at)), at] = to
        environment = self.environment
        if environment is not None:
            environment = environment.expand(len(at), -1)
        around = None if self.around is None else self.around.expand(len(at), -1, -1)
        told = self.module(as_input(codes), environment, None, around)
        return told.logit[:, self.head].numpy()

    def stretches(self, at: npt.NDArray[Any], to: npt.NDArray[Any]) -> Floats:
        """Log odds of mutations, what they have not reached taken from the window."""
        module, config = self.module, self.module.config
        place = torch.from_numpy(at.astype(np.int64))
        base = torch.from_numpy(to.astype(np.int64))
        first, x = self._stem(place, base)
        near = self._near(first, x)
        if config.pool > 1:
            first, x = self._pooled(first, x)
        first, x = self._inside(first, x, config.length)
        for k, block in enumerate(module.tower):
            first, x = self._block(cast(Block, block), k + 1, first, x)
        x = F.gelu(module.film(x, self._told(len(x))))
        narrow = module.narrow(x)  # (N, R, w)
        at_sites = first[:, None] + torch.arange(x.shape[2])  # (N, w)
        index = at_sites.clamp(0, config.length - 1)
        before = self._taken("narrow", self.narrow[0], first, x.shape[2])  # (N, R, w)
        _, moved = self._inside(first, narrow - before, config.length)
        whole = torch.zeros(len(x), config.read_out, config.length)
        whole.scatter_add_(2, index[:, None].expand_as(moved), moved)
        hidden = self.hidden + F.linear(whole.flatten(1), module.read_out.weight)
        before = self._taken("read", self.read[0], first, x.shape[2])  # (N, C, w)
        total = self._inside(first, x - before, config.length)[1].sum(2)
        hidden = hidden + module.read_mean(total / config.length)
        if near is not None:
            hidden = hidden + near
        hidden = F.gelu(module.read_film(hidden, self._told(len(x))))
        logit = module.head(hidden)[:, self.head]
        if module.motif_path is not None:
            weight = self._motif_weight()  # (4, W)
            own = torch.from_numpy(self.view[0].astype(np.int64))[place]
            known = own < UNKNOWN
            before = torch.where(known, weight[own.clamp(max=3), place], 0.0)
            logit = logit + self._motif + weight[base, place] - before
        return logit.numpy()

    def _told(self, n: int) -> Tensor | None:
        return None if self.told is None else self.told.expand(n, -1)

    def _stem(self, place: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """The stem's outputs that a mutation reaches: first position (N,), values (N, C, stem)."""
        module = self.module
        size = module.config.stem
        weight = module.stem.weight  # (C, 4, stem)
        own = torch.from_numpy(self.view[0].astype(np.int64))[place]
        theirs = weight[:, own.clamp(max=3)].transpose(0, 1)
        before = torch.where((own < UNKNOWN)[:, None, None], theirs, 0.0)
        # Output q reads input p with tap p - q + reach: the taps in reverse.
        moved = (weight[:, base].transpose(0, 1) - before).flip(2)  # (N, C, stem)
        shift = module.film_stem(torch.zeros(1, moved.shape[1], 1), self.told)
        moved = module.film_stem(moved, self._told(len(moved))) - shift
        # With "same" an even kernel has its surplus on the right.
        first = place - (size - 1 - (size - 1) // 2)
        return first, self._gathered(0, first, size) + moved

    def _near(self, first: Tensor, x: Tensor) -> Tensor | None:
        """What the centre's tower reads, (N, hidden), run only where a mutation touches it."""
        near = self.module.near
        if near is None or self.near is None:
            return None
        found = self.near.repeat(len(x), 1)
        start, size = near.start, near.size
        touched = torch.nonzero((first + x.shape[2] > start) & (first < start + size))[:, 0]
        if len(touched):
            kept = self.kept[0][:, :, start : start + size].repeat(len(touched), 1, 1)
            at = (first[touched] - start)[:, None] + torch.arange(x.shape[2])
            inside = (at >= 0) & (at < size)
            index = at.clamp(0, size - 1)[:, None].expand(-1, kept.shape[1], -1)
            moved = x[touched] - self._gathered(0, first[touched], x.shape[2])
            kept.scatter_add_(2, index, torch.where(inside[:, None], moved, 0.0))
            found[touched] = near.read(kept, self._told(len(touched)))
        return found

    def _gathered(self, layer: int, first: Tensor, size: int) -> Tensor:
        """The window's activations of a layer at stretches, (N, C, size); 0 beyond its ends."""
        return self._taken(layer, self.kept[layer][0], first, size)

    def _taken(self, key: int | str, value: Tensor, first: Tensor, size: int) -> Tensor:
        """Stretches of one array, (N, C, size), 0 beyond its ends; `value` is (C, L).

        Every stretch of a size is laid out once, so that taking one is copying a block.
        """
        table = self.stretched.get((key, size))
        if table is None:
            padded = F.pad(value, (size, size))
            table = padded.unfold(1, size, 1).transpose(0, 1).contiguous()
            self.stretched[key, size] = table
        return table.index_select(0, (first + size).clamp(0, len(table) - 1))

    def _inside(self, first: Tensor, x: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The same with positions beyond the window's ends set to 0, as padding has them."""
        size = x.shape[2]
        if int(first.min()) >= 0 and int(first.max()) + size <= length:
            return first, x
        at = first[:, None] + torch.arange(size)
        return first, torch.where(((at >= 0) & (at < length))[:, None], x, 0.0)

    def _spliced(self, layer: int, first: Tensor, x: Tensor, margin: int) -> Tensor:
        """A stretch with `margin` of the window's own activations on either side."""
        size = x.shape[2]
        wide = self._gathered(layer, first - margin, size + 2 * margin)
        wide[:, :, margin : margin + size] = x
        return wide

    def _pooled(self, first: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled positions that a stretch of the stem touches."""
        config = self.module.config
        pool, size = config.pool, x.shape[2]
        _, x = self._inside(first, x, config.width)
        cell = torch.div(first, pool, rounding_mode="floor")
        cells = (size + pool - 2) // pool + 1
        wide = self._gathered(0, cell * pool, cells * pool)
        offset = (first - cell * pool)[:, None] + torch.arange(size)  # (N, size)
        wide.scatter_(2, offset[:, None].expand_as(x), x)
        at = (cell * pool)[:, None] + torch.arange(cells * pool)
        real = ((at >= 0) & (at < config.width)).view(len(x), 1, cells, pool).sum(3)
        total = wide.view(len(x), wide.shape[1], cells, pool).sum(3)
        return cell, total / real.clamp(min=1)

    def _block(self, block: Block, layer: int, first: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """One residual block over the stretch that the mutation reaches after it."""
        reach = block.conv.dilation[0] * (block.conv.kernel_size[0] // 2)
        wide = self._spliced(layer, first, x, 2 * reach)
        convolved = F.conv1d(wide, block.conv.weight, block.conv.bias, dilation=block.conv.dilation)
        kept = wide[:, :, reach:-reach] if reach else wide
        out = kept + block.mix(F.gelu(block.film(convolved, self._told(len(x)))))
        return self._inside(first - reach, out, self.module.config.length)

    def _motif_weight(self) -> Tensor:
        """The position-weight path as one score of the one-hot window, (4, W)."""
        path = self.module.motif_path
        assert path is not None
        weight = path.weight.weight[self.head]
        self._motif = float(path.weight.bias[self.head])
        if path.scores is not None and self.environment is not None:
            mixture = path.mixture(self.environment).view(len(self.module.config.heads), -1)
            weight = weight + mixture[self.head] @ path.scores.weight
            self._motif += float(path.offset(self.environment)[0, self.head])
        weight = weight.view(4, -1)
        own = as_input(self.view)[0]
        self._motif += float((weight * own).sum())
        return weight


def _reach(module: SequenceModel) -> int:
    """Positions after pooling that a mutation reaches at the tower's end."""
    config = module.config
    blocks = sum(2 * dilation * (config.kernel // 2) for dilation in config.dilations)
    return (config.stem + config.pool - 2) // config.pool + 1 + blocks
