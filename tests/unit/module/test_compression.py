# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressed modules are unpacked as far as a module may be large, and no further."""

from __future__ import annotations

import lzma
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

import klpd
from klpd import module
from klpd.errors import ModuleFormatError
from klpd.module.compression import XZ_MEMORY
from tests.unit.module.compilers import example
from tests.unit.module.packing import PACK

MIB = 1 << 20


@pytest.mark.parametrize("name", PACK)
def test_a_compressed_module_is_unpacked(name: str) -> None:
    assert module.unpack(PACK[name](example()), file="a.ko") == example()


@pytest.mark.parametrize("data", [b"", b"text", example()], ids=["nothing", "text", "a module"])
def test_what_is_not_compressed_is_left_as_it_is(data: bytes) -> None:
    assert module.unpack(data, file="a.ko") is data


@pytest.mark.parametrize("name", PACK)
def test_the_largest_module_is_unpacked(name: str) -> None:
    data = example() + bytes(module.LARGEST_FILE - len(example()))

    assert module.unpack(PACK[name](data), file="a.ko") == data


@pytest.mark.parametrize("name", PACK)
def test_a_bomb_is_not_unpacked(name: str) -> None:
    bomb = PACK[name](bytes(module.LARGEST_FILE + 1))

    tracemalloc.start()
    try:
        with pytest.raises(
            ModuleFormatError,
            match=f"^a.ko: compressed with {name}, and unpacks to more than 64 MiB, which no livepatch is$",
        ):
            module.unpack(bomb, file="a.ko")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2 * module.LARGEST_FILE + 16 * MIB


_CONFINED = """
import resource, sys
from pathlib import Path
from klpd import module
from klpd.errors import ModuleFormatError

data = Path(sys.argv[1]).read_bytes()
module.unpack(Path(sys.argv[2]).read_bytes(), file="")  # so that libraries are loaded
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = taken + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    module.unpack(data, file="")
except ModuleFormatError as error:
    print(error)
"""


@pytest.mark.parametrize("name", PACK)
def test_a_bomb_of_a_gibibyte_is_refused_in_the_memory_that_is_stated(name: str, tmp_path: Path) -> None:
    bomb, harmless = tmp_path / "bomb", tmp_path / "harmless"
    bomb.write_bytes(PACK[name](bytes(1024 * MIB)))
    harmless.write_bytes(PACK[name](b"harmless"))
    allowed = 2 * module.LARGEST_FILE + 128 * MIB + 16 * MIB
    command = (sys.executable, "-c", _CONFINED, str(bomb), str(harmless), str(allowed))

    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(klpd.__file__).parents[1])

    assert "unpacks to more than 64 MiB" in done.stdout, done.stderr


def test_an_archive_that_needs_much_memory_is_not_unpacked() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2 * XZ_MEMORY}]

    with pytest.raises(
        ModuleFormatError, match=r"^a\.ko: compressed with xz, and cannot be unpacked: Memory usage limit"
    ):
        module.unpack(lzma.compress(example(), filters=filters), file="a.ko")


@pytest.mark.parametrize("name", PACK)
def test_a_truncated_file_is_refused(name: str) -> None:
    packed = PACK[name](example())

    with pytest.raises(ModuleFormatError, match=f"^a.ko: compressed with {name}, and truncated$"):
        module.unpack(packed[: len(packed) // 2], file="a.ko")


@pytest.mark.parametrize("name", PACK)
def test_a_file_that_goes_on_is_refused(name: str) -> None:
    with pytest.raises(ModuleFormatError, match=f"^a.ko: compressed with {name}, and 4 bytes follow its end$"):
        module.unpack(PACK[name](example()) + b"more", file="a.ko")


@pytest.mark.parametrize("name", PACK)
def test_a_broken_file_is_refused(name: str) -> None:
    packed = bytearray(PACK[name](example()))
    packed[8:40] = b"\xff" * 32

    with pytest.raises(ModuleFormatError, match=f"^a.ko: compressed with {name}, and cannot be unpacked: "):
        module.unpack(bytes(packed), file="a.ko")
