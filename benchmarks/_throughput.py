"""Windows a second: the loader, training, prediction and mutagenesis, one thread.

The share of the peak is that of the fastest of this machine's square matrix products, 256 to 2048,
in float32, measured in the same process.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import _imr90
from melisma.sequence.checkpoint import Model, as_input
from melisma.sequence.environment import Environment
from melisma.sequence.model import ModelConfig, SequenceModel, loss
from melisma.sequence.mutagenesis import mutagenesis

BATCH = 256
WIDTHS = {
    "41": ModelConfig(width=41),
    "1001": ModelConfig(
        width=1001, pool=8, channels=48, stem=15, dilations=(1, 2, 4, 8, 16), read_out=4
    ),
}


def _per_second(work: Callable[[], Any], items: int, seconds: float) -> float:
    """Items a second: the median of repeats within so many seconds."""
    work()
    taken = []
    began = time.perf_counter()
    while time.perf_counter() - began < seconds or len(taken) < 3:
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return items / float(np.median(taken))


def measure(*, quick: bool) -> dict[str, Any]:
    """windows_per_second, peak_share, mutagenesis_speedup and what the loader does."""
    import torch

    from melisma.sequence._memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()
    seconds = 0.5 if quick else 4.0
    peak = max(_product(size, seconds / 4) for size in (256, 512, 1024, 2048))
    found: dict[str, Any] = {"gemm_gflops": round(peak / 1e9, 1)}
    rates: dict[str, dict[str, float]] = {}
    for name, config in WIDTHS.items():
        rates[name] = _network(config, peak, seconds)
    short = rates["41"]
    found["windows_per_second"] = {"train": short["train"], "predict": short["predict"]}
    found["peak_share"] = {"train": short["train_share"], "predict": short["predict_share"]}
    found["by_width"] = rates
    found["mutagenesis_speedup"] = _mutagenesis(quick=quick)
    if _imr90.FASTA.exists():
        found["loader"] = _loader(quick=quick)
    return found


def _product(size: int, seconds: float) -> float:
    """Operations a second of a matrix product."""
    import torch

    a = torch.randn(size, size)
    return _per_second(lambda: torch.mm(a, a), 2 * size**3, seconds)


def _network(config: ModelConfig, peak: float, seconds: float) -> dict[str, float]:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module = SequenceModel(config)
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (BATCH, config.width)).astype(np.uint8)
    x, one = as_input(codes), torch.ones(BATCH, 1)
    optimizer = torch.optim.AdamW(module.parameters())

    def step() -> None:
        value = loss(module(as_input(codes)), one, one).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    def answer() -> None:
        with torch.inference_mode():
            module(as_input(codes))

    with FlopCounterMode(display=False) as counter:
        module(x)
    flops = counter.get_total_flops() / BATCH
    train = _per_second(step, BATCH, seconds)
    module.eval()
    predict = _per_second(answer, BATCH, seconds)
    return {
        "train": round(train),
        "predict": round(predict),
        "flops_a_window": round(flops),
        "train_share": round(3 * flops * train / peak, 3),
        "predict_share": round(flops * predict / peak, 3),
    }


def _mutagenesis(*, quick: bool) -> float:
    """Seconds of all mutations of a 1 kb window run whole, over those by stretches."""
    import torch

    torch.manual_seed(0)
    config = WIDTHS["1001"]
    model = Model(config, Environment(), (SequenceModel(config).eval(),), (1.0,))
    codes = np.random.default_rng(1).integers(0, 4, (1, config.width)).astype(np.uint8)
    mutagenesis(model, codes)
    ratios = []
    for _ in range(1 if quick else 3):
        taken = []
        for whole in (False, True):
            start = time.perf_counter()
            mutagenesis(model, codes, whole=whole)
            taken.append(time.perf_counter() - start)
        ratios.append(taken[1] / taken[0])
    return round(float(np.median(ratios)), 1)


def _loader(*, quick: bool) -> dict[str, float]:
    """Windows a second from the FASTA: ours, and one pyfaidx fetch and encoding at a time."""
    from melisma.genome import Genome
    from melisma.sequence.windows import site_windows

    genome = Genome.open(_imr90.FASTA)
    windows = site_windows(_imr90.read(), genome, 501)
    rows = np.random.default_rng(0).permutation(len(windows))[:20_000]
    found = {"melisma": round(_per_second(lambda: windows.codes(rows), len(rows), 1.0))}
    try:
        import pyfaidx
    except ImportError:
        return found
    import gzip
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "chr22.fa"
        with gzip.open(_imr90.FASTA) as source:
            plain.write_bytes(source.read())
        fasta = pyfaidx.Fasta(str(plain))
        table = np.full(256, 4, np.uint8)
        for code, letter in enumerate(b"ACGT"):
            table[[letter, letter + 32]] = code
        some = rows[: 500 if quick else 5_000]

        def naive() -> None:
            for position in windows.position[some]:
                text = str(fasta["chr22"][int(position) - 250 : int(position) + 251])
                table[np.frombuffer(text.encode(), np.uint8)]

        found["pyfaidx_loop"] = round(_per_second(naive, len(some), 1.0))
    found["ratio"] = round(found["melisma"] / found["pyfaidx_loop"], 1)
    return found
