"""The network: from a window of sequence and an environment to the level of a mark at its centre.

Which sequences carry a mark is decided in two ways, and the network has a path for each.

1. A **position-weight path**. Writers of marks bind short motifs at a fixed distance from the
   base they modify, so a linear score of the one-hot window goes straight to the log odds. The
   environment chooses among a few such scores (low rank), as a cell chooses its writers.

2. A **tower**. A convolutional stem reads motifs, residual blocks of dilated convolutions combine
   them over distance, and, where the window is long, attention relates what is far apart. The
   read-out keeps positions: a motif two bases from the site is not the same as one twenty away,
   so channels are narrowed and every remaining number keeps its own weight. Beside it stands the
   mean over positions, which is what the density of CpGs and the composition are. Long windows
   are pooled before the tower, and a second, short tower keeps every position of their centre.

The **environment** (tissue, species, diet, age) does not enter as one more input at the end: it
scales and shifts every block's channels (FiLM, Perez et al. 2018). One network then serves all
samples. What it is told is a sum over factors, so a combination that it has not seen is answered
from its parts; a row of zeros is the mean.

**Surroundings** say what lies beyond the window: the share of CpGs, of G and C, and of three other
pairs in stretches of up to hundreds of thousands of bases, in which lamina-bound and active domains
differ. They are one more input of the read-out.

**Neighbouring marks**, where they are known, are a second input. They can be hidden one by one,
so the same network imputes a site from its sequence, its context, or both.

The outcome of a site with N reads is beta-binomial: the log odds of the mean, and the log of the
precision, by which a site with 50 reads weighs more than one with 5. A label is one read, where
the beta-binomial is Bernoulli.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from melisma.errors import MelismaError

# The ratio between neighbouring scales of grid cells (Wei, Prentice & Balasubramanian 2015).
GRID_RATIO = 1.42
# A precision outside these bounds is not told from them by data.
PRECISION = (0.1, 1000.0)


@dataclass(frozen=True)
class ModelConfig:
    """What a network is; with its weights it is the whole model.

    Attributes
    ----------
    width : bases of a window, odd
    heads : the marks that are predicted
    environment : numbers in an encoded environment; 0 for none
    neighbours : sites around whose marks may be known; 0 for none
    surroundings : how far to either side composition is told, in bases, a stretch each; () for none
    channels, stem, kernel : the tower's width and its convolutions' lengths
    dilations : one residual block each
    pool : bases averaged into one position after the stem; 1 keeps them all
    centre, near : bases in the middle that a second tower keeps unpooled, odd, and its dilations; 0
        for none
    attention, attention_heads : transformer layers after the tower
    position : how those layers know where they are
    read_out, hidden : channels that the read-out keeps, and its hidden units
    motif_path, motif_rank : the position-weight path, and how many scores the environment mixes
    head : "beta_binomial" for counts, "bernoulli" for labels
    backbone, backbone_hash, tune : the folder of a language model that reads in the tower's place,
        the hash of its weights, and what of it is trained; see `melisma.sequence.backbone`
    """

    width: int
    heads: tuple[str, ...] = ("m",)
    environment: int = 0
    neighbours: int = 0
    surroundings: tuple[int, ...] = ()
    channels: int = 64
    stem: int = 9
    kernel: int = 3
    dilations: tuple[int, ...] = (1, 2, 4, 1)
    pool: int = 1
    centre: int = 0
    near: tuple[int, ...] = (1, 2, 4)
    attention: int = 0
    attention_heads: int = 4
    position: Literal["none", "learned", "rotary", "grid"] = "none"
    read_out: int = 16
    hidden: int = 64
    motif_path: bool = True
    motif_rank: int = 8
    film: int = 64
    head: Literal["bernoulli", "beta_binomial"] = "bernoulli"
    dropout: float = 0.1
    backbone: str = ""
    backbone_hash: str = ""
    tune: Literal["frozen", "lora", "full"] = "frozen"

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % 2 == 0:
            raise MelismaError(f"A window of {self.width} bases has no centre: choose an odd one.")
        if self.attention and self.channels % (2 * self.attention_heads):
            raise MelismaError(
                f"{self.channels} channels are not divided by {self.attention_heads} attention "
                "heads of even width: choose a multiple."
            )
        if self.centre and (self.centre % 2 == 0 or self.centre > self.width):
            raise MelismaError(
                f"A centre of {self.centre} bases is not the middle of {self.width}: choose an odd "
                "number within the window."
            )
        if self.pool > self.width:
            raise MelismaError(f"Pooling over {self.pool} of {self.width} bases leaves nothing.")

    @property
    def length(self) -> int:
        """Positions after pooling."""
        return math.ceil(self.width / self.pool)


class Output(NamedTuple):
    """logit: (batch, heads), the mean's log odds; precision: (batch, heads), the beta-binomial's,
    as a logarithm; None for a Bernoulli head."""

    logit: Tensor
    precision: Tensor | None


class Film(nn.Module):
    """A scale and a shift for each channel, from the environment."""

    def __init__(self, environment: int, channels: int) -> None:
        super().__init__()
        self.scale_shift = nn.Linear(environment, 2 * channels) if environment else None
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        if self.scale_shift is not None:
            nn.init.normal_(self.scale_shift.weight, std=0.02)
            nn.init.zeros_(self.scale_shift.bias)

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:  # (B, C) or (B, C, L)
        scale, shift = self.scale.expand(len(x), -1), self.shift.expand(len(x), -1)
        if self.scale_shift is not None and told is not None:
            more, add = self.scale_shift(told).chunk(2, dim=1)
            scale, shift = scale + more, shift + add
        if x.dim() == 3:
            scale, shift = scale[:, :, None], shift[:, :, None]
        return x * scale + shift


class Block(nn.Module):
    """A residual block: convolve with gaps, modulate, mix channels.

    It begins as the identity, so the tower needs no normalisation, which on short windows would
    cost as much as the convolutions.
    """

    def __init__(self, config: ModelConfig, dilation: int) -> None:
        super().__init__()
        c = config.channels
        self.conv = nn.Conv1d(c, c, config.kernel, padding="same", dilation=dilation)
        self.film = Film(config.film if config.environment else 0, c)
        self.mix = nn.Conv1d(c, c, 1)
        nn.init.zeros_(self.mix.weight)
        nn.init.zeros_(cast(Tensor, self.mix.bias))

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:  # (B, C, L)
        return x + self.mix(F.gelu(self.film(self.conv(x), told)))


class Attention(nn.Module):
    """A transformer layer over positions; `rotary` turns queries and keys by their place."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        c = config.channels
        self.heads, self.rotary = config.attention_heads, config.position == "rotary"
        self.norm, self.norm_wide = nn.LayerNorm(c), nn.LayerNorm(c)
        self.qkv, self.out = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.wide, self.narrow = nn.Linear(c, 2 * c), nn.Linear(2 * c, c)
        self.drop = nn.Dropout(config.dropout)
        self.film = Film(config.film if config.environment else 0, c)

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:  # (B, C, L)
        x = x.transpose(1, 2)  # (B, L, C)
        b, length, c = x.shape
        q, k, v = (
            part.view(b, length, self.heads, c // self.heads).transpose(1, 2)
            for part in self.qkv(self.norm(x)).chunk(3, dim=2)
        )  # (B, heads, L, C / heads)
        if self.rotary:
            q, k = _turned(q), _turned(k)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, length, c)
        x = x + self.drop(self.out(mixed))
        wide = F.gelu(self.wide(self.norm_wide(x)))
        x = x + self.drop(self.narrow(wide))
        return self.film(x.transpose(1, 2), told)  # (B, C, L)


def _turned(x: Tensor) -> Tensor:
    """Pairs of channels turned by an angle that grows with position (Su et al. 2021)."""
    length, width = x.shape[-2:]
    rate = 10_000 ** (-torch.arange(0, width, 2, device=x.device) / width)
    angle = torch.arange(length, device=x.device)[:, None] * rate  # (L, width / 2)
    cos, sin = angle.cos(), angle.sin()
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


def grid_code(length: int) -> Tensor:
    """Each position's phase at many scales: (length, 2 scales), sines and cosines.

    Periods grow by `GRID_RATIO` from 3 positions to the whole window, as the modules of
    entorhinal grid cells do; neighbouring places share most phases and distant ones few.
    """
    scales = max(1, math.ceil(math.log(max(length, 4) / 3, GRID_RATIO)) + 1)
    period = 3 * GRID_RATIO ** torch.arange(scales)
    phase = 2 * math.pi * (torch.arange(length) - length // 2)[:, None] / period
    return torch.cat([phase.sin(), phase.cos()], dim=1)


class MotifPath(nn.Module):
    """Linear scores of the one-hot window, mixed by the environment into log odds."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n = len(config.heads)
        self.weight = nn.Linear(4 * config.width, n)
        nn.init.zeros_(self.weight.weight)
        self.scores: nn.Linear | None = None
        if config.environment:
            self.scores = nn.Linear(4 * config.width, config.motif_rank, bias=False)
            self.mixture = nn.Linear(config.environment, n * config.motif_rank, bias=False)
            self.offset = nn.Linear(config.environment, n, bias=False)
            nn.init.normal_(self.scores.weight, std=0.05)
            nn.init.zeros_(self.mixture.weight)

    def forward(self, sequence: Tensor, told: Tensor | None) -> Tensor:  # (B, 4, W)
        flat = sequence.flatten(1)  # (B, 4 W)
        logit = self.weight(flat)  # (B, heads)
        if self.scores is not None and told is not None:
            mixture = self.mixture(told).view(len(flat), logit.shape[1], -1)  # (B, heads, rank)
            logit = logit + (mixture * self.scores(flat)[:, None]).sum(2) + self.offset(told)
        return logit


class Near(nn.Module):
    """A tower over the centre of a long window, every position kept."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        told = config.film if config.environment else 0
        self.start = (config.width - config.centre) // 2
        self.size = config.centre
        self.tower = nn.ModuleList(Block(config, dilation) for dilation in config.near)
        self.film = Film(told, config.channels)
        self.narrow = nn.Conv1d(config.channels, config.read_out, 1)
        self.drop = nn.Dropout(config.dropout)
        self.read_out = nn.Linear(config.read_out * config.centre, config.hidden)

    def forward(self, x: Tensor, told: Tensor | None) -> Tensor:  # the stem's, (B, C, W)
        return self.read(x[:, :, self.start : self.start + self.size], told)

    def read(self, x: Tensor, told: Tensor | None) -> Tensor:  # (B, C, centre)
        for block in self.tower:
            x = block(x, told)
        x = self.narrow(F.gelu(self.film(x, told)))
        return self.read_out(self.drop(x.flatten(1)))  # (B, hidden)


class Surroundings(nn.Module):
    """What the stretches around are made of, standardised as training saw them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n = 5 * len(config.surroundings)
        self.norm = nn.BatchNorm1d(n, affine=False)
        self.wide = nn.Linear(n, 2 * config.hidden)
        self.drop = nn.Dropout(config.dropout)
        self.narrow = nn.Linear(2 * config.hidden, config.hidden)

    def forward(self, shares: Tensor | None, n: int) -> Tensor:  # (B, scales, 5)
        if shares is None:
            x = self.wide.weight.new_zeros(n, self.wide.in_features)  # the mean
        else:
            x = self.norm(shares.flatten(1))
        return self.narrow(self.drop(F.gelu(self.wide(x))))  # (B, hidden)


class SequenceModel(nn.Module):
    """The network that `ModelConfig` describes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        c, told = config.channels, config.film if config.environment else 0
        self.motif_path = MotifPath(config) if config.motif_path else None
        self.environment = (
            nn.Linear(config.environment, config.film, bias=False) if config.environment else None
        )
        self.stem = nn.Conv1d(4, c, config.stem, padding="same")
        self.film_stem = Film(told, c)
        self.tower = nn.ModuleList(Block(config, dilation) for dilation in config.dilations)
        self.position = _position(config)
        self.attention = nn.ModuleList(Attention(config) for _ in range(config.attention))
        self.film = Film(told, c)
        self.narrow = nn.Conv1d(c, config.read_out, 1)
        self.read_out = nn.Linear(config.read_out * config.length, config.hidden)
        self.read_mean = nn.Linear(c, config.hidden, bias=False)
        self.near = Near(config) if config.centre else None
        self.neighbours = (
            nn.Sequential(
                nn.Linear(3 * config.neighbours, 2 * config.hidden),
                nn.GELU(),
                nn.Linear(2 * config.hidden, config.hidden),
            )
            if config.neighbours
            else None
        )
        self.surroundings = Surroundings(config) if config.surroundings else None
        self.read_film = Film(told, config.hidden)
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.hidden, len(config.heads))
        self.precision = (
            nn.Linear(config.hidden, len(config.heads)) if config.head == "beta_binomial" else None
        )

    def forward(
        self,
        sequence: Tensor,  # (B, 4, W) float
        environment: Tensor | None = None,  # (B, E)
        neighbours: Tensor | None = None,  # (B, 3, K)
        surroundings: Tensor | None = None,  # (B, scales, 5)
    ) -> Output:
        """The level's log odds and the log precision, (B, heads) each.

        No environment is the mean environment, no neighbours are hidden ones, no surroundings the
        mean ones.
        """
        b = len(sequence)
        if self.environment is not None and environment is None:
            environment = sequence.new_zeros(b, self.config.environment)
        told = self.environment(environment) if self.environment is not None else None
        x = self.film_stem(self.stem(sequence), told)  # (B, C, W)
        near = self.near(x, told) if self.near is not None else None
        x = F.gelu(self.film(self.body(x, told), told))  # (B, C, L)
        kept = self.narrow(x).flatten(1)  # (B, read_out L)
        hidden = self.read_out(self.drop(kept)) + self.read_mean(x.mean(2))  # (B, hidden)
        if near is not None:
            hidden = hidden + near
        if self.neighbours is not None:
            if neighbours is None:
                neighbours = sequence.new_zeros(b, 3, self.config.neighbours)
            hidden = hidden + self.neighbours(neighbours.flatten(1))
        if self.surroundings is not None:
            hidden = hidden + self.surroundings(surroundings, b)
        hidden = self.drop(F.gelu(self.read_film(hidden, told)))
        logit = self.head(hidden)  # (B, heads)
        if self.motif_path is not None:
            logit = logit + self.motif_path(sequence, environment)
        precision = self.precision(hidden) if self.precision is not None else None
        return Output(logit, precision)

    def body(self, x: Tensor, told: Tensor | None) -> Tensor:
        """From the stem's channels at every base, (B, C, W), to the tower's and attention's at
        every position, (B, C, L): what pretraining learns."""
        if self.config.pool > 1:
            x = F.avg_pool1d(x, self.config.pool, ceil_mode=True, count_include_pad=False)
        for block in self.tower:
            x = block(x, told)
        if self.position is not None:
            x = x + self.position()
        for layer in self.attention:
            x = layer(x, told)
        return x


class _Position(nn.Module):
    """A code added to every position: a table, or grid phases with a learned mixture."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.position == "learned":
            self.table = nn.Parameter(0.02 * torch.randn(config.channels, config.length))
            self.mixture = None
        else:
            phases = grid_code(config.length)
            self.register_buffer("phases", phases, persistent=False)
            self.mixture = nn.Linear(phases.shape[1], config.channels, bias=False)

    def forward(self) -> Tensor:  # (C, L)
        return self.table if self.mixture is None else self.mixture(self.phases).t()


def _position(config: ModelConfig) -> _Position | None:
    if not config.attention or config.position in ("none", "rotary"):
        return None
    return _Position(config)


def loss(
    output: Output, methylated: Tensor, coverage: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Negative log-likelihood of the counts given their coverage, without its constant.

    Parameters
    ----------
    output : of the network
    methylated, coverage : (batch, heads); a label is one read; coverage 0 is not measured
    label_smoothing : share of every read that is moved to one half

    Returns
    -------
    (batch, heads), in nats; 0 where coverage is 0. With one read the beta-binomial is Bernoulli.
    """
    methylated = methylated + label_smoothing * (coverage / 2 - methylated)
    if output.precision is None:
        each = F.softplus(output.logit) * coverage - output.logit * methylated
        return torch.where(coverage > 0, each, 0.0)
    mean = output.logit.sigmoid().clamp(1e-5, 1 - 1e-5)
    precision = output.precision.exp().clamp(*PRECISION)
    a, b = mean * precision, (1 - mean) * precision
    unmethylated = coverage - methylated
    each = (
        torch.lgamma(a)
        + torch.lgamma(b)
        - torch.lgamma(a + b)
        - torch.lgamma(a + methylated)
        - torch.lgamma(b + unmethylated)
        + torch.lgamma(a + b + coverage)
    )
    return torch.where(coverage > 0, each, 0.0)
