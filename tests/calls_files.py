"""Small files of calls, read or ingested, for the tests of `melisma.calls`."""

import gzip
from contextlib import contextmanager, nullcontext
from pathlib import Path

import polars as pl

from melisma.calls import ingest
from melisma.methylome import CONTEXTS, open_methylome
from melisma.progress import reporting

SHARED = Path(__file__).parents[2] / "shared" / "data"


def cov(*rows, contig="chr1"):
    """Bismark coverage rows (1-based position, M, unmethylated)."""
    return "".join(
        f"{contig}\t{p}\t{p}\t{100 * m / (m + u) if m + u else 0:.10g}\t{m}\t{u}\n"
        for p, m, u in rows
    )


def bed(*rows, contig="chr1"):
    """bedMethyl rows (0-based position, code, strand, N valid, M, canonical, other)."""
    return "".join(
        f"{contig}\t{p}\t{p + 1}\t{code}\t{n}\t{strand}\t{p}\t{p + 1}\t255,0,0\t"
        f"{n} {100 * m / n if n else 0:.2f} {m} {c} {o} 0 0 0 0\n"
        for p, code, strand, n, m, c, o in rows
    )


def put(path, text):
    """Write text to a file, compressed where its name ends in .gz."""
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def sheet_of(files, **columns):
    """A sample sheet of files: samples a, b, c, ..."""
    names = [chr(ord("a") + k) for k in range(len(files))]
    return pl.DataFrame({"sample": names, "path": [str(file) for file in files]} | columns)


def ingested(folder, *texts, suffix=".txt", **options):
    """The store of samples with these texts, in memory."""
    files = [put(folder / f"{k}{suffix}", text) for k, text in enumerate(texts)]
    ingest(sheet_of(files), folder / "out.zarr", overwrite=True, **options)
    return open_methylome(folder / "out.zarr").load()


def sites(methylome):
    """Every site as (contig, position, strand, mark, context, [(M, N), ...])."""
    attrs = methylome.attrs
    counts = zip(methylome["methylated"].values, methylome["coverage"].values, strict=True)
    columns = (methylome[name].values for name in ("contig", "position", "strand", "mark"))
    return [
        (
            attrs["contigs"][contig],
            int(position),
            int(strand),
            attrs["marks"][mark],
            CONTEXTS[context],
            [(int(m), int(n)) for m, n in zip(ms, ns, strict=True)],
        )
        for contig, position, strand, mark, context, (ms, ns) in zip(
            *columns, methylome["context"].values, counts, strict=True
        )
    ]


class _Notes(list):
    def note(self, text):
        self.append(text)

    def stage(self, name, total):
        return nullcontext(lambda done: None)


@contextmanager
def noted():
    """The notes that the library leaves in the block."""
    notes = _Notes()
    with reporting(notes):
        yield notes
