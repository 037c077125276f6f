# SPDX-License-Identifier: GPL-2.0-or-later
"""The recogniser answers as the kernel guard does (klpd/kernel/bpf/recognise.h)."""

from __future__ import annotations

import pytest

from klpd import module
from klpd.module import Kind
from tests.livepatches.evasions import BROKEN, EVASIONS
from tests.unit.module.compilers import example
from tests.unit.module.forgery import Forgery

ORDINARY = b"name=example\0"


def forged() -> Forgery:
    return Forgery(example())


def with_modinfo(content: bytes) -> Forgery:
    return forged().replace(".modinfo", content)


def section(name: str, **fields: int) -> Forgery:
    file = forged()
    return file.set_section(file.index(name), **fields)


def tag_behind_the_end() -> Forgery:
    file = with_modinfo(ORDINARY + b"livepatch=Y\0")
    return file.set_section(file.index(".modinfo"), sh_size=len(ORDINARY))


def two_modinfos() -> Forgery:
    file = with_modinfo(ORDINARY)
    return file.set_section(file.index(".text"), sh_name=file.section(file.index(".modinfo"), "sh_name"))


FILES = {
    "nothing": (b"", Kind.NO_MODULE),
    "text": (b"kernel/fs/ext4/ext4.ko:\n", Kind.NO_MODULE),
    "a livepatch": (forged(), Kind.LIVEPATCH),
    "an ordinary module": (with_modinfo(ORDINARY), Kind.ORDINARY),
    "the tag comes first": (with_modinfo(b"livepatch=Y\0" + ORDINARY), Kind.LIVEPATCH),
    "the tag's value does not matter": (with_modinfo(ORDINARY + b"livepatch=n\0"), Kind.LIVEPATCH),
    "the tag has no value": (with_modinfo(ORDINARY + b"livepatch=\0"), Kind.LIVEPATCH),
    "the tag is after a long string": (with_modinfo(b"x" * 5000 + b"\0livepatch=Y\0"), Kind.LIVEPATCH),
    "the tag is after many strings": (with_modinfo(b"alias=x\0" * 100_000 + b"livepatch=Y\0"), Kind.LIVEPATCH),
    "another tag ends like it": (with_modinfo(ORDINARY + b"nolivepatch=Y\0"), Kind.ORDINARY),
    "a value looks like it": (with_modinfo(ORDINARY + b"alias=livepatch=Y\0"), Kind.ORDINARY),
    "it is no tag": (with_modinfo(ORDINARY + b"livepatch\0"), Kind.ORDINARY),
    "the tag is behind the end": (tag_behind_the_end(), Kind.ORDINARY),
    "no end to the strings": (with_modinfo(ORDINARY + b"livepatch"), Kind.UNCLEAR),
    "empty modinfo": (with_modinfo(b""), Kind.UNCLEAR),
    "two modinfos": (two_modinfos(), Kind.UNCLEAR),
    "no modinfo": (section(".modinfo", sh_name=0), Kind.UNCLEAR),
    "modinfo that is not loaded": (section(".modinfo", sh_flags=0), Kind.UNCLEAR),
    "modinfo without content": (section(".modinfo", sh_type=8), Kind.UNCLEAR),
    "modinfo outside": (section(".modinfo", sh_offset=1 << 63), Kind.UNCLEAR),
    "a name outside": (section(".text", sh_name=1 << 31), Kind.UNCLEAR),
    "truncated": (example()[:-1], Kind.UNCLEAR),
    "only a header": (example()[:64], Kind.UNCLEAR),
    "less than a header": (example()[:63], Kind.UNCLEAR),
    "odd section headers": (forged().set(e_shentsize=63), Kind.UNCLEAR),
    "no sections": (forged().set(e_shnum=0, e_shstrndx=0), Kind.UNCLEAR),
    "names nowhere": (forged().set(e_shstrndx=0xFFFF), Kind.UNCLEAR),
}


@pytest.mark.parametrize(("file", "kind"), FILES.values(), ids=FILES.keys())
def test_what_it_is(file: Forgery | bytes, kind: Kind) -> None:
    data = file if isinstance(file, bytes) else file.done()

    assert module.recognise(data) is kind
    assert module.is_livepatch(data) is (kind in (Kind.LIVEPATCH, Kind.UNCLEAR))


@pytest.mark.parametrize("name", EVASIONS)
def test_an_evasion_is_taken_for_a_livepatch(name: str) -> None:
    assert module.is_livepatch(EVASIONS[name](example()))


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_not_taken_for_an_ordinary_module(name: str) -> None:
    assert module.recognise(BROKEN[name](example())) is not Kind.ORDINARY
