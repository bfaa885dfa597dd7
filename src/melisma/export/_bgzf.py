"""bgzip: gzip in blocks of up to 64 kB, each with its length, which tabix can index.

The layout is the SAM specification's (section 4.1, "The BGZF compression format").
"""

import struct
from pathlib import Path

from isal import isal_zlib

# What bgzip takes into a block: its compressed form stays below 64 kB.
BLOCK = 65_280
_LEVEL = 1
_MOST = 1 << 16
_HEADER = struct.Struct("<4BI2BH2BHH")
_TRAILER = struct.Struct("<II")
END_OF_FILE = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def block(data: bytes | memoryview) -> bytes:
    """One block of up to `BLOCK` bytes, compressed."""
    packed = isal_zlib.compress(data, _LEVEL, -15)
    if len(packed) + _HEADER.size + _TRAILER.size > _MOST:
        # Deflate's own form for what does not shrink: a stored block.
        packed = struct.pack("<BHH", 1, len(data), len(data) ^ 0xFFFF) + bytes(data)
    size = _HEADER.size + len(packed) + _TRAILER.size
    header = _HEADER.pack(31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, size - 1)
    return header + packed + _TRAILER.pack(isal_zlib.crc32(data), len(data))


class TextFile:
    """A file that text is appended to, plain or as bgzip; between calls it is not open.

    A thousand samples can so be written in one walk without as many open files; what does not
    fill a block waits for the next call.
    """

    def __init__(self, path: Path, *, bgzip: bool) -> None:
        self.path, self._bgzip, self._waiting = path, bgzip, b""
        path.touch(exist_ok=False)

    def append(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        if not self._bgzip:
            self._write(data)
            return
        view = memoryview(self._waiting + bytes(data))
        whole = len(view) - len(view) % BLOCK
        self._write(b"".join(block(view[at : at + BLOCK]) for at in range(0, whole, BLOCK)))
        self._waiting = bytes(view[whole:])

    def finish(self) -> None:
        """Write what waits, and the empty block that says that the file is whole."""
        if self._bgzip:
            self._write((block(self._waiting) if self._waiting else b"") + END_OF_FILE)
            self._waiting = b""

    def _write(self, data: bytes | memoryview) -> None:
        if len(data):
            with self.path.open("ab", buffering=0) as file:
                view = memoryview(data)
                while len(view):
                    view = view[file.write(view) :]
