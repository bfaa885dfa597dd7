"""Illumina's IDAT files: the mean intensity at each bead address, and levels from a manifest.

The layout (version 3): the word IDAT, a 64-bit version, a 32-bit number of fields, then for each
field a 16-bit code and the 64-bit offset of its data. Field 1000 holds the number of addresses,
102 their identifiers (int32) and 104 their mean intensities (uint16); all little-endian (as
documented by Smith et al. 2013, the illuminaio package).

Levels are **raw**: M / (M + U + 100), without background, dye-bias or probe-type correction.
"""

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from melisma.calls._format import Format
from melisma.calls._manifest import Manifest
from melisma.calls._source import check_file, open_bytes, read_into
from melisma.errors import MelismaError

IDAT = Format(
    name="idat",
    title="Illumina IDAT, X_Grn.idat with X_Red.idat beside it; needs --manifest",
    base=0,
    evidence="literals written from the format's description",
    tested="literals and round trips",
    sniff=lambda lines: None,
)
_VERSION = 3
_COUNT, _ADDRESS, _MEAN = 1000, 102, 104
# Illumina's offset, which keeps probes without signal from extreme levels.
_OFFSET = 100.0
_FEWEST_FOUND = 0.5


class Intensities(NamedTuple):
    """address : (beads,) int32, sorted; mean : (beads,) uint16, the channel's mean intensity."""

    address: npt.NDArray[np.int32]
    mean: npt.NDArray[np.uint16]


def both_channels(path: Path) -> tuple[Path, Path]:
    """The green and the red file of one sample, from either.

    Raises
    ------
    MelismaError
        The name says no channel, or the other channel's file is missing.
    """
    for mine, other in (("_Grn.idat", "_Red.idat"), ("_Red.idat", "_Grn.idat")):
        if mine not in path.name:
            continue
        beside = path.with_name(path.name.replace(mine, other))
        if not beside.is_file():
            raise MelismaError(
                f"{path} has no {beside.name} beside it: an array has both channels."
            )
        return (path, beside) if mine == "_Grn.idat" else (beside, path)
    raise MelismaError(
        f"{path}: the name of an IDAT file should end in _Grn.idat or _Red.idat, its channel."
    )


def read_idat(path: Path) -> Intensities:
    """Addresses and mean intensities of one channel; plain or gzip.

    Raises
    ------
    MelismaError
        The file is no IDAT of version 3, truncated, or names an address twice.
    """
    data = _whole(path)
    if data[:4] != b"IDAT":
        raise MelismaError(f"{path} is no IDAT file: it does not begin with the word IDAT.")
    try:
        version, n_fields = struct.unpack_from("<qi", data, 4)
        if version != _VERSION:
            raise MelismaError(
                f"{path} is IDAT of version {version}, and version {_VERSION}, of methylation "
                "arrays, is read."
            )
        offsets = dict(struct.iter_unpack("<Hq", data[16 : 16 + 10 * n_fields]))
        (count,) = struct.unpack_from("<i", data, offsets[_COUNT])
        address = np.frombuffer(data, "<i4", count, offsets[_ADDRESS])
        mean = np.frombuffer(data, "<u2", count, offsets[_MEAN])
    except (struct.error, ValueError, KeyError):
        raise MelismaError(f"{path} is damaged or truncated: copy or download it again.") from None
    order = np.argsort(address, kind="stable")
    address, mean = address[order], mean[order]
    if (np.diff(address) == 0).any():
        twice = address[1:][np.diff(address) == 0][0]
        raise MelismaError(f"{path} gives the address {twice} more than once: it is damaged.")
    return Intensities(address.astype(np.int32), mean.astype(np.uint16))


def _whole(path: Path) -> bytes:
    check_file(path)
    stream, raw = open_bytes(path)
    parts = []
    with raw, stream:
        buffer = bytearray(1 << 22)
        while got := read_into(path, stream, memoryview(buffer)):
            parts.append(bytes(buffer[:got]))
    return b"".join(parts)


class Addresses(NamedTuple):
    """Where each probe's two signals are measured, (probes,).

    methylated, unmethylated : bead addresses; green, red : in which channel the methylated and
    the unmethylated signal lie (True: green)
    """

    methylated: npt.NDArray[np.int64]
    unmethylated: npt.NDArray[np.int64]
    methylated_green: npt.NDArray[np.bool_]
    unmethylated_green: npt.NDArray[np.bool_]


def probe_addresses(manifest: Manifest) -> Addresses:
    """Bead addresses by design: Infinium I has two beads in one channel (A unmethylated, B
    methylated), Infinium II one bead with the methylated signal in green, the other in red.

    Raises
    ------
    MelismaError
        The manifest has no addresses, or a probe of design I has no channel.
    """
    if not manifest.has_addresses:
        raise MelismaError(
            f"{manifest.path} has no bead addresses (AddressA_ID, AddressB_ID, "
            "Infinium_Design_Type, Color_Channel), which IDAT files need: give Illumina's CSV "
            "manifest of the array."
        )
    table = manifest.table
    a, b = (
        table[name].cast(pl.Int64, strict=False).fill_null(-1).to_numpy()
        for name in ("address_a", "address_b")
    )
    one = (table["design"].str.strip_chars() == "I").fill_null(False).to_numpy()
    channel = table["colour"].str.to_lowercase().fill_null("")
    green = channel.str.starts_with("g").to_numpy()
    red = channel.str.starts_with("r").to_numpy()
    lost = one & (~(green | red) | (b < 0))
    if lost.any():
        probe = table["probe"][int(np.argmax(lost))]
        raise MelismaError(
            f"{manifest.path}: {probe} is of design I and lacks its colour channel or its address "
            "B: is this the full manifest?"
        )
    return Addresses(
        methylated=np.where(one, b, a),
        unmethylated=a,
        methylated_green=np.where(one, green, True),
        unmethylated_green=np.where(one, green, False),
    )


def raw_levels(
    green: Intensities, red: Intensities, probes: Addresses, *, names: tuple[Path, Path]
) -> npt.NDArray[np.float32]:
    """M / (M + U + 100) of every probe, (probes,); NaN where there is no signal at all.

    Raises
    ------
    MelismaError
        The array has fewer than half of the manifest's addresses.
    """
    m, found = _signal(green, red, probes.methylated, probes.methylated_green)
    u, also = _signal(green, red, probes.unmethylated, probes.unmethylated_green)
    share = float((found & also).mean())
    if share < _FEWEST_FOUND:
        raise MelismaError(
            f"{names[0]} has {len(green.address):,} addresses and {share:.0%} of the manifest's "
            "probes: is this the manifest of another array?"
        )
    seen = found & also & (m + u > 0)
    level = np.full(len(m), np.nan, dtype=np.float32)
    level[seen] = m[seen] / (m[seen] + u[seen] + _OFFSET)
    return level


def _signal(
    green: Intensities,
    red: Intensities,
    address: npt.NDArray[np.int64],
    in_green: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    signal = np.zeros(len(address))
    found = np.zeros(len(address), dtype=bool)
    for channel, chosen in ((green, in_green), (red, ~in_green)):
        place = np.searchsorted(channel.address, address).clip(max=len(channel.address) - 1)
        here = chosen & (channel.address[place] == address)
        signal[here] = channel.mean[place[here]]
        found |= here
    return signal, found
