"""FASTA files for `genome`: what they are packed in, their index, and their bases.

htslib indexes and reads plain and bgzip files; what it cannot index (plain gzip, sequence
lines of different lengths) is read into memory whole.
"""

import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import cast

import numpy as np
import numpy.typing as npt
import pysam
from isal import igzip, isal_zlib

from melisma._htslib import quiet_htslib
from melisma.errors import MelismaError

# A FASTA that must be held in memory may decompress to this many bytes.
MEMORY_LIMIT = 2 * 1024**3
_READ_SIZE = 1 << 24
_UPPER = bytes(range(256)).upper()
_BLANKS = b"\r\n\t "
# samtools' own commands share global state inside one process.
_INDEXING = Lock()

Bases = npt.NDArray[np.uint8]
Fetch = Callable[[str, int, int], Bases]


def open_fasta(path: Path) -> tuple[dict[str, int], Fetch]:
    """Contig lengths in file order, and a function that reads contig, start, end.

    Raises
    ------
    MelismaError
        The file is missing, empty, truncated, no FASTA, repeats a contig, or is too large for
        memory where it cannot be indexed.
    """
    packing = _packing(path)
    if packing != "gzip":
        indexed = _open_indexed(path, compressed=packing == "bgzip")
        if indexed is not None:
            return indexed
    sequences = _read_whole(path, compressed=packing != "plain")
    lengths = {contig: len(bases) for contig, bases in sequences.items()}
    return lengths, lambda contig, start, end: sequences[contig][start:end]


def _packing(path: Path) -> str:
    """How a FASTA is packed, from its first bytes: "plain", "gzip" or "bgzip"."""
    if not path.is_file():
        raise MelismaError(f"There is no genome file at {path}: give a FASTA file.")
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise MelismaError(f"The genome file {path} is empty: give a FASTA file.")
    if head[:2] == b"\x1f\x8b":
        extra_field = bool(head[3] & 4)
        return "bgzip" if extra_field and head[12:14] == b"BC" else "gzip"
    _check_start(path, head)
    return "plain"


def _check_start(path: Path, head: bytes) -> None:
    if not head.lstrip().startswith(b">"):
        found = head.lstrip()[:20].decode("ascii", "replace")
        raise MelismaError(
            f"{path} is not a FASTA file: it begins with {found!r}, and a FASTA begins with '>'."
        )


def _open_indexed(path: Path, *, compressed: bool) -> tuple[dict[str, int], Fetch] | None:
    """Contig lengths and a function that fetches bases; None where no index can be made."""
    with quiet_htslib():
        files = _index_files(path, compressed=compressed)
        if files is None:
            return None
        index, block_index = (str(file) for file in files)
        try:
            fasta = pysam.FastaFile(
                str(path),
                filepath_index=index,
                filepath_index_compressed=block_index if compressed else None,
            )
        except (OSError, ValueError):
            raise MelismaError(
                f"The index {index} of {path} cannot be read: remove it, and it is made again."
            ) from None
    lengths = dict(zip(fasta.references, fasta.lengths, strict=True))

    def fetch(contig: str, start: int, end: int) -> Bases:
        found = np.empty(end - start, np.uint8)
        for first in range(start, end, _READ_SIZE):
            last = min(first + _READ_SIZE, end)
            piece = _fetch_piece(fasta, contig, first, last)
            if len(piece) != last - first:
                raise MelismaError(
                    f"{path} is shorter than its index says at {contig}:{first}-{last}: the file "
                    "is damaged, or its .fai belongs to another version of it; remove the .fai."
                )
            found[first - start : last - start] = np.frombuffer(piece, np.uint8)
        found.setflags(write=False)
        return found

    return lengths, fetch


def _fetch_piece(fasta: pysam.FastaFile, contig: str, start: int, end: int) -> bytes:
    try:
        return fasta.fetch(contig, start, end).encode("latin-1").translate(_UPPER)
    except (OSError, ValueError):
        return b""


def _index_files(path: Path, *, compressed: bool) -> tuple[Path, Path] | None:
    """The .fai and .gzi to use, made where they are missing or older than the file."""
    for stem in (path, _cache_stem(path)):
        files = (Path(f"{stem}.fai"), Path(f"{stem}.gzi"))
        needed = files if compressed else files[:1]
        if all(file.exists() and file.stat().st_mtime >= path.stat().st_mtime for file in needed):
            return files
    # An index would silently keep only the first of two contigs of one name.
    _check_names(path, header_counts(_pieces(path, compressed=compressed)))
    for stem in (path, _cache_stem(path), None):
        stem = stem or Path(tempfile.mkdtemp(prefix="melisma-")) / path.name
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".index-", dir=stem.parent) as folder:
                # Built aside and moved: another process never sees half an index.
                work = (Path(folder) / "fai", Path(folder) / "gzi")
                if not _make_index(path, *work):
                    return None
                final = (Path(f"{stem}.fai"), Path(f"{stem}.gzi"))
                for made, file in zip(work, final, strict=True):
                    if made.exists():
                        os.replace(made, file)
        except OSError:
            continue
        return final
    return None


def _make_index(path: Path, index: Path, block_index: Path) -> bool:
    """Let htslib index the file; False where it cannot, as with lines of different lengths."""
    options = ("--fai-idx", str(index), "--gzi-idx", str(block_index))
    try:
        with _INDEXING:
            pysam.faidx(str(path), *options, catch_stdout=False)
    except pysam.SamtoolsError:
        return False
    return index.exists()


def _cache_stem(path: Path) -> Path:
    """Where the index lies when the genome's own folder cannot be written to."""
    found = path.resolve().stat()
    key = f"{path.resolve()}:{found.st_size}:{found.st_mtime_ns}"
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return Path(home) / "melisma" / "genomes" / f"{path.name}-{digest}"


def header_counts(pieces: Iterable[bytes]) -> Counter[str]:
    """How often each contig name stands in a FASTA's header lines, in file order."""
    counts: Counter[str] = Counter()
    kept = b""
    for piece in pieces:
        text = kept + piece
        cut = text.rfind(b"\n") + 1
        counts.update(_header_names(text[:cut]))
        # Of an unfinished sequence line, its first letter says that it is no header.
        kept = text[cut:] if text[cut : cut + 1] == b">" else text[cut : cut + 1]
    counts.update(_header_names(kept))
    return counts


def _header_names(text: bytes) -> list[str]:
    return [found.decode("utf-8", "replace") for found in re.findall(rb"(?m)^>(\S*)", text)]


def _check_names(path: Path, counts: Mapping[str, int]) -> None:
    for contig, count in counts.items():
        if not contig:
            raise MelismaError(f"{path} has a '>' line without a contig name: give it one.")
        if count > 1:
            raise MelismaError(
                f"{path} holds the contig {contig!r} {count} times: contig names must be unique, "
                "so remove or rename the repeats."
            )


def _pieces(path: Path, *, compressed: bool) -> Iterator[bytes]:
    """The file's decompressed bytes, a stretch at a time."""
    try:
        with igzip.open(path, "rb") if compressed else path.open("rb") as file:
            while piece := cast(bytes, file.read(_READ_SIZE)):
                yield piece
    except (EOFError, OSError, cast(type[Exception], isal_zlib.error)) as error:
        raise MelismaError(
            f"{path} cannot be read to its end ({error}): it is truncated or damaged; copy or "
            "download it again."
        ) from None


def _read_whole(path: Path, *, compressed: bool) -> dict[str, Bases]:
    """Every contig in memory, for a FASTA that cannot be indexed."""
    data = bytearray()
    for piece in _pieces(path, compressed=compressed):
        data += piece
        if len(data) > MEMORY_LIMIT:
            remedy = (
                f"run `gunzip {path.name}` and `bgzip {path.stem}`"
                if compressed
                else "wrap its sequence lines at one width"
            )
            raise MelismaError(
                f"{path} cannot be indexed as it is and holds more than "
                f"{MEMORY_LIMIT / 1024**3:g} GB of text: {remedy}, so that it can be read in part."
            )
    _check_start(path, bytes(data[:4096]))
    headers = [(h.start(), h.end(), h[1].decode()) for h in re.finditer(rb"(?m)^>(\S*).*$", data)]
    _check_names(path, Counter(name for _, _, name in headers))
    ends = [start for start, _, _ in headers[1:]] + [len(data)]
    # bytes.translate upper-cases and drops line ends in one pass, and its result is read-only.
    return {
        name: np.frombuffer(bytes(data[start:end]).translate(_UPPER, _BLANKS), np.uint8)
        for (_, start, name), end in zip(headers, ends, strict=True)
    }
