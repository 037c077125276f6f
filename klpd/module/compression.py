# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed module files (.ko.xz, .ko.gz, .ko.zst), told by how they begin, as kmod does.

What kmod hands to the kernel, and the kernel guard digests, is what they unpack to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from klpd.errors import ModuleFormatError
from klpd.files import LARGEST_MODULE, said_size

if TYPE_CHECKING:
    from collections.abc import Callable

XZ_MEMORY: Final = 96 << 20
"""In bytes; the strongest preset needs 65 MiB (xz(1)), kernels use far less."""


class _Decompressor(Protocol):
    """What lzma and zlib have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def unpack(data: bytes, *, file: str, largest: int = LARGEST_MODULE) -> bytes:
    """The module in the bytes of a file that may be compressed; those that are not come back as they are.

    At most `largest` bytes are unpacked, with as much memory again and what the format needs beside (XZ_MEMORY;
    128 MiB for zstd).

    Raises ModuleFormatError, with `file` in it, for what cannot be unpacked, is more, or goes on after its end.
    """
    for magic, name, unpacker in _FORMATS:
        if data.startswith(magic):
            try:
                return unpacker(data, largest)
            except ModuleFormatError as error:
                raise ModuleFormatError(f"{file}: compressed with {name}, and {error}") from error
    return data


def _unpack_xz(data: bytes, largest: int) -> bytes:
    import lzma

    try:
        return _unpack(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY), data, largest)
    except lzma.LZMAError as error:
        raise ModuleFormatError(f"cannot be unpacked: {error}") from error


def _unpack_gzip(data: bytes, largest: int) -> bytes:
    import zlib

    try:
        return _unpack(zlib.decompressobj(wbits=16 + zlib.MAX_WBITS), data, largest)
    except zlib.error as error:
        raise ModuleFormatError(f"cannot be unpacked: {error}") from error


def _unpack_zstd(data: bytes, largest: int) -> bytes:
    from klpd.module.zstd import Decompressor

    return _unpack(Decompressor(), data, largest)


def _unpack(decompressor: _Decompressor, data: bytes, largest: int) -> bytes:
    unpacked = decompressor.decompress(data, largest + 1)
    if len(unpacked) > largest:
        raise ModuleFormatError(f"unpacks to more than {said_size(largest)}")
    if not decompressor.eof:
        raise ModuleFormatError("truncated")
    if decompressor.unused_data:
        raise ModuleFormatError(f"{len(decompressor.unused_data)} bytes follow its end")
    return unpacked


_FORMATS: Final[tuple[tuple[bytes, str, Callable[[bytes, int], bytes]], ...]] = (
    (b"\xfd7zXZ\0", "xz", _unpack_xz),
    (b"\x1f\x8b", "gzip", _unpack_gzip),
    (b"\x28\xb5\x2f\xfd", "zstd", _unpack_zstd),
)
