# SPDX-License-Identifier: GPL-2.0-or-later
"""Zstandard by way of libzstd, until Python's own (3.14) is there; where systemd is, libzstd is."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

from klpd.errors import ModuleFormatError

_LIBRARY: Final = "libzstd.so.1"
_PIECE: Final = 1 << 20


class _InBuffer(ctypes.Structure):
    """ZSTD_inBuffer"""

    _fields_ = (("src", ctypes.c_char_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t))


class _OutBuffer(ctypes.Structure):
    """ZSTD_outBuffer"""

    _fields_ = (("dst", ctypes.c_void_p), ("size", ctypes.c_size_t), ("pos", ctypes.c_size_t))


class Decompressor:
    """Unpacks one frame, with the interface of bz2's and lzma's.

    A frame that needs a window of more than 128 MiB is refused, as the library does by itself.
    """

    def __init__(self) -> None:
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Up to `max_length` bytes of what `data` begins with.  Raises ModuleFormatError where it is no good."""
        library = _library()
        source = _InBuffer(data, len(data), 0)
        piece = ctypes.create_string_buffer(_PIECE)
        unpacked = bytearray()
        stream = library.ZSTD_createDStream()
        if not stream:
            raise MemoryError
        try:
            while not self.eof and len(unpacked) < max_length:
                target = _OutBuffer(ctypes.addressof(piece), min(_PIECE, max_length - len(unpacked)), 0)
                missing = library.ZSTD_decompressStream(stream, ctypes.byref(target), ctypes.byref(source))
                if library.ZSTD_isError(missing):
                    reason = library.ZSTD_getErrorName(missing).decode()
                    raise ModuleFormatError(f"cannot be unpacked: {reason}")
                unpacked += piece.raw[: target.pos]
                self.eof = missing == 0
                if not self.eof and source.pos == len(data) and target.pos < target.size:
                    break
        finally:
            library.ZSTD_freeDStream(stream)
        self.unused_data = data[source.pos :]
        return bytes(unpacked)


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise ModuleFormatError(f"cannot be unpacked: {error}") from error
    library.ZSTD_createDStream.restype = ctypes.c_void_p
    library.ZSTD_freeDStream.argtypes = (ctypes.c_void_p,)
    library.ZSTD_decompressStream.argtypes = (
        ctypes.c_void_p,
        ctypes.POINTER(_OutBuffer),
        ctypes.POINTER(_InBuffer),
    )
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_isError.argtypes = (ctypes.c_size_t,)
    library.ZSTD_getErrorName.argtypes = (ctypes.c_size_t,)
    library.ZSTD_getErrorName.restype = ctypes.c_char_p
    return library
