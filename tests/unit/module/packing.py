# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressing, as module files are."""

from __future__ import annotations

import ctypes
import functools
import gzip
import lzma
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


def zstd(data: bytes) -> bytes:
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_compressBound.restype = library.ZSTD_compress.restype = ctypes.c_size_t
    room = ctypes.create_string_buffer(library.ZSTD_compressBound(ctypes.c_size_t(len(data))))
    size = library.ZSTD_compress(room, ctypes.c_size_t(len(room)), data, ctypes.c_size_t(len(data)), 3)
    return room.raw[:size]


PACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "xz": functools.partial(lzma.compress, preset=0),
    "gzip": functools.partial(gzip.compress, compresslevel=1, mtime=0),
    "zstd": zstd,
}
"""By the name of the format; the same bytes become the same."""
