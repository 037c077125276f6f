# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever the bytes of a module file are, reading them gives a Livepatch or a ModuleFormatError, in bounded memory."""

from __future__ import annotations

import functools
import struct
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from klpd import module
from klpd.errors import ModuleFormatError, NotALivepatchError
from klpd.layout import KNOWN
from klpd.model import Callback, Livepatch
from klpd.module import Kind
from klpd.module.elf import MOST_SECTIONS
from klpd.module.image import LONGEST_STRING, MOST_RELOCATIONS, MOST_SYMBOLS
from klpd.module.modinfo import LARGEST_MODINFO
from klpd.module.structures import MOST_ENTRIES
from klpd.policy.certificates import certificate_files
from klpd.policy.trust import trusting
from tests.livepatches.build import build
from tests.livepatches.signing import make_key, sign
from tests.unit.module.compilers import COMPILERS, example, layout
from tests.unit.module.forgery import Forgery

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.judge.rules import Verifier
    from klpd.layout import KernelLayout

MOST_MEMORY: Final = 64 << 20
"""What klpd/module/reader.py promises, in bytes, beside the file."""
MOST_SECONDS: Final = 2.0
"""Of processor time, for files that take as much as there can be: a quarter of that, unless the machine is busy."""
REAL: Final = (
    "klp_callbacks",
    "klp_cmdline_v4",
    "klp_needs",
    "klp_kpatch_build",
    "klp_klp_build",
    "klp_allocated",
    "klp_ordinary",
)
LAYOUTS: Final = ((), ("REORDERED",))
"""Of kernels that tell theirs, as macros of example.c."""
ODD_NUMBERS: Final = (
    0,
    1,
    2,
    7,
    8,
    24,
    64,
    0x7F,
    0xFF,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 62,
    (1 << 63) - 1,
    (1 << 64) - 1,
)


def tables() -> tuple[bytes, ...]:
    """Modules whose code puts the klp_patch together from tables, on either byte order."""
    formats = ("KPATCH_BUILD", 'KLP_BUILD="__klp_objects"')
    return tuple(example(machine, "AT_RUN_TIME", each) for machine in ("x86_64", "s390x") for each in formats)


@functools.cache
def originals() -> tuple[bytes, ...]:
    """Modules to begin with: real ones, and one for each machine."""
    files = build()
    return (
        *(files[name].read_bytes() for name in REAL),
        *map(example, COMPILERS),
        *tables(),
        example("x86_64", *LAYOUTS[1]),
    )


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A module with some of it changed: mostly numbers in its tables, sometimes bytes anywhere, or its length."""
    data = bytearray(draw(st.sampled_from(originals())))
    order = "<" if data[5] == 1 else ">"
    (table,) = struct.unpack_from(f"{order}Q", data, 40)
    (count,) = struct.unpack_from(f"{order}H", data, 60)
    contents = [struct.unpack_from(f"{order}QQ", data, table + index * 64 + 24) for index in range(count)]
    regions = [(0, 64), (table, count * 64), *(each for each in contents if each[1])]
    for _ in range(draw(st.integers(1, 6))):
        start, size = draw(st.sampled_from(regions))
        width = draw(st.sampled_from((1, 2, 4, 8)))
        at = start + draw(st.integers(0, max(0, size // width - 1))) * width
        value = draw(st.one_of(st.sampled_from(ODD_NUMBERS), st.integers(0, 2 * len(data)))) & ((1 << 8 * width) - 1)
        new = value.to_bytes(width, "little" if order == "<" else "big")
        data[at : at + width] = new[: max(0, len(data) - at)]
    if draw(st.integers(0, 9)) == 0:
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


def read(data: bytes, kernel: KernelLayout = KNOWN) -> Livepatch | ModuleFormatError:
    try:
        return module.read_livepatch(data, file="some.ko", layouts=lambda _release, _machine: kernel)
    except ModuleFormatError as error:
        return error


@settings(max_examples=700, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(mutated(), st.sampled_from((None, *LAYOUTS)))
def test_a_mutated_module_is_read_or_refused(data: bytes, macros: tuple[str, ...] | None) -> None:
    found = read(data, KNOWN if macros is None else layout(*macros))

    if isinstance(found, ModuleFormatError):
        assert str(found).startswith("some.ko: ")
        assert "\n" not in str(found)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(mutated())
def test_what_the_guard_lets_pass_is_no_livepatch_to_the_reader(data: bytes) -> None:
    found = read(data)

    match module.recognise(data):
        case Kind.ORDINARY | Kind.NO_MODULE:
            assert isinstance(found, ModuleFormatError)
        case Kind.LIVEPATCH:
            assert not isinstance(found, NotALivepatchError)


@given(st.binary(max_size=512))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert isinstance(read(data), ModuleFormatError)


@given(st.binary(max_size=512))
def test_any_signature_is_read_or_refused(content: bytes) -> None:
    end = bytes([0, 0, 2, 0, 0, 0, 0, 0]) + len(content).to_bytes(4, "big") + b"~Module signature appended~\n"

    read(example() + content + end)


@functools.cache
def signed_example() -> tuple[bytes, Verifier]:
    """A signed module, and what trusts the one who signed it."""
    with tempfile.TemporaryDirectory() as folder:
        key, file = make_key(Path(folder) / "key.pem", "somebody"), Path(folder) / "example.ko"
        file.write_bytes(example())
        sign(file, key)
        return file.read_bytes(), trusting((certificate_files(str(key), None),))


@given(st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_signature_is_refused_or_trusted_for_what_it_was(damage: list[tuple[int, int]]) -> None:
    data, verify = signed_example()
    whole = module.read_livepatch(data, file="").signature
    assert whole is not None
    assert whole.proof is not None
    damaged = bytearray(data)
    for at, byte in damage:
        damaged[len(example()) + at % (len(data) - len(example()))] = byte
    found = read(bytes(damaged))
    if isinstance(found, Livepatch) and found.signature is not None and found.signature.proof is not None:
        proof = found.signature.proof
        same = (proof.digest, proof.value) == (whole.proof.digest, whole.proof.value)
        assert same or not verify(found.signature).trusted


def many_sections() -> bytes:
    file = Forgery(example())
    table, count = file.get("e_shoff"), file.get("e_shnum")
    rows = bytes(file.data[table : table + count * 64])
    file.data += bytes(-len(file.data) % 8)
    file.set(e_shoff=len(file.data), e_shnum=MOST_SECTIONS)
    file.data += rows + rows[:64] * (MOST_SECTIONS - count)
    return file.done()


def many_relocations() -> bytes:
    """As many as are read, all of pointers to struct module."""
    file = Forgery(example())
    first = file.content(".rela.data")[:24]
    info_and_addend = first[8:]
    count = MOST_RELOCATIONS // 2 - 1000
    return file.replace(
        ".rela.data", b"".join(struct.pack("<Q", 8 * at) + info_and_addend for at in range(count))
    ).done()


def many_symbols() -> bytes:
    """As many as are read, each a variable somewhere else."""
    file = Forgery(example())
    symbols = file.content(".symtab")
    count = MOST_SYMBOLS - len(symbols) // 24
    more = (struct.pack("<IBBHQQ", 0, 1, 0, file.index(".data"), 1 << 32 | at, 8) for at in range(count))
    return file.replace(".symtab", symbols + b"".join(more)).done()


def many_tags() -> bytes:
    file = Forgery(example())
    tags = file.content(".modinfo")
    return file.replace(".modinfo", tags + b"a=\0" * ((LARGEST_MODINFO - len(tags)) // 3)).done()


def many_functions() -> bytes:
    """As many as are read, each in an object of its own, with the longest names."""
    file = Forgery(example("x86_64", "AT_RUN_TIME", "KPATCH_BUILD"))
    new_function, name, object_name = struct.iter_unpack("<QIIq", file.content(".rela.kpatch.funcs")[: 3 * 24])
    strings = file.content(".symtab")[name[2] * 24 :]
    section = struct.unpack_from("<IBBHQQ", strings)[3]
    file.set_section(section, sh_offset=len(file.data), sh_size=MOST_ENTRIES * LONGEST_STRING)
    file.data += b"".join(b"%0*d\0" % (LONGEST_STRING - 1, number) for number in range(MOST_ENTRIES))
    entries = (
        struct.pack("<QIIq", 56 * number + at, kind, symbol, addend)
        for number in range(MOST_ENTRIES)
        for at, (_, kind, symbol, _), addend in (
            (0, new_function, new_function[3]),
            (40, name, number * LONGEST_STRING),
            (48, object_name, number * LONGEST_STRING),
        )
    )
    for each in Callback:
        file.set_section(file.index(f".kpatch.callbacks.{each}"), sh_size=0)
    return (
        file.replace(".kpatch.funcs", bytes(56 * MOST_ENTRIES)).replace(".rela.kpatch.funcs", b"".join(entries)).done()
    )


def far_away() -> bytes:
    """A megabyte of zeros that claims to be a section of 2 GiB without content."""
    file = Forgery(example() + bytes(1 << 20))
    return file.set_section(file.index(".bss"), sh_size=2 << 30).done()


def many_sizes() -> bytes:
    """Zeros behind the first object that entries of many a size fit into, and a pointer at the end that fits none."""
    file = Forgery(example())
    size = 8 * 2**6 * 3**4 * 5 * 7
    data = file.content(".data")
    rows = struct.iter_unpack("<QQq", file.content(".rela.data"))
    entries = {offset: (info, addend) for offset, info, addend in rows}
    at = file.symbol("patch") + 8
    info, old = entries[at]
    (value,) = struct.unpack_from("<Q", file.content(".symtab"), (info >> 32) * 24 + 8)
    start = len(data) - value
    entries |= {at: (info, start), len(data) + 8: (info, start + 16), len(data) + size - 8: (info, old)}
    symbol = struct.pack("<IBBHQQ", 0, 1, 0, file.index(".data"), len(data), size)
    return (
        file.replace(".data", data + bytes(size))
        .replace(".rela.data", b"".join(struct.pack("<QQq", offset, *entries[offset]) for offset in entries))
        .replace(".symtab", file.content(".symtab") + symbol)
        .done()
    )


WORST: Final = (many_sections, many_relocations, many_symbols, many_tags, many_functions, far_away)


@pytest.mark.parametrize("make", WORST)
def test_memory_is_bounded(make: Callable[[], bytes]) -> None:
    data = make()
    read(originals()[0])  # imports

    tracemalloc.start()
    try:
        read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < MOST_MEMORY


@pytest.mark.parametrize("make", [*WORST, many_sizes])
def test_time_is_bounded(make: Callable[[], bytes]) -> None:
    data = make()
    read(originals()[0])  # imports

    began = time.process_time()
    read(data)

    assert time.process_time() - began < MOST_SECONDS


def test_sizes_of_entries_are_tried_within_a_bound() -> None:
    assert str(read(many_sizes())) == "some.ko: its klp_patch has more than 16384 entries, which are not read"
