# SPDX-License-Identifier: GPL-2.0-or-later
"""What the mutators make: inputs that get past the first checks, within their bound, and the same for the same seed."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd import module
from klpd.errors import ModuleFormatError
from klpd.model import Livepatch
from tests.fuzz import der_mutator, elf_mutator, signature_mutator
from tests.fuzz.modules import Module, small
from tests.fuzz.targets import TARGETS
from tests.livepatches.build import build
from tests.unit.module.compilers import COMPILERS, example
from tests.unit.module.packing import PACK

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = range(200)


def plainly(data: bytes, largest: int) -> bytes:
    """A mutation of plain bytes that is always the same."""
    return (data[:1] + b"0" + data[1:])[:largest]


def read(data: bytes) -> Livepatch | str:
    try:
        return replace(module.read_livepatch(module.unpack(data, file=""), file=""), digest="", size=0)
    except ModuleFormatError as error:
        return str(error)


@pytest.mark.parametrize("machine", COMPILERS)
def test_a_module_taken_apart_and_put_together_reads_the_same(machine: str) -> None:
    taken = Module.of(example(machine))
    assert taken is not None
    assert read(taken.done()) == read(example(machine))


def test_what_was_put_together_comes_apart_the_same() -> None:
    taken = Module.of(example())
    assert taken is not None
    assert Module.of(taken.done() + b"tail") == replace(taken, header=taken.done()[:64], tail=b"tail")


@pytest.mark.parametrize(
    "name", ["klp_callbacks", "klp_kpatch_build", "klp_klp_build", "klp_allocated", "klp_ordinary"]
)
def test_a_small_module_tells_the_same(name: str) -> None:
    whole = build()[name].read_bytes()
    assert read(small(whole)) == read(whole)
    assert len(small(whole)) < len(whole)


@pytest.mark.parametrize("name", TARGETS)
def test_an_input_is_changed_within_its_bound_and_the_same_for_the_same_seed(name: str) -> None:
    target = TARGETS[name]
    data = next(target.seeds())
    largest = len(data) + 8
    changed = [target.mutate(data, largest, seed, plainly) for seed in SEEDS]
    assert max(map(len, changed)) <= largest
    assert len(set(changed)) > len(SEEDS) // 4
    assert changed == [target.mutate(data, largest, seed, plainly) for seed in SEEDS]


@pytest.mark.parametrize("pack", PACK.values(), ids=PACK)
def test_what_is_in_a_compressed_module_is_changed(pack: Callable[[bytes], bytes]) -> None:
    data = pack(small(example()))
    changed = [TARGETS["module"].mutate(data, 1 << 20, seed, plainly) for seed in SEEDS]
    assert sum(isinstance(read(each), Livepatch) for each in changed) > len(SEEDS) // 10


def test_most_changed_modules_are_still_read() -> None:
    found = [read(elf_mutator.mutate(small(example()), 1 << 20, seed, plainly)) for seed in SEEDS]
    assert sum(isinstance(each, Livepatch) for each in found) > len(SEEDS) // 3
    assert len(Counter(map(str, found))) > len(SEEDS) // 4


def test_two_modules_are_crossed_within_the_bound() -> None:
    one, other = small(example()), small(example("s390x"))
    crossed = [elf_mutator.cross(one, other, len(one), seed) for seed in SEEDS]
    assert max(map(len, crossed)) <= len(one)
    assert len(set(crossed)) > 1


def test_lengths_in_der_stay_right() -> None:
    two_numbers = b"\x30\x06\x02\x01\x05\x02\x01\x07"
    changed = [der_mutator.mutate(two_numbers, 1 << 10, seed, plainly) for seed in SEEDS]
    whole = [each for each in changed if each[:1] == b"\x30" and each[1] == len(each) - 2]
    assert len(whole) > len(SEEDS) // 3


def test_a_signature_is_changed_behind_what_is_signed() -> None:
    signed = next(TARGETS["signature"].seeds())
    content, _ = signature_mutator.split(signed)
    changed = [signature_mutator.mutate(signed, 1 << 14, seed, plainly) for seed in SEEDS]
    assert content == b"what is signed"
    assert sum(each.startswith(content) and each != signed for each in changed) > len(SEEDS) // 2


def test_many_changed_texts_are_still_toml() -> None:
    manifest = next(TARGETS["manifest"].seeds())
    texts = [TARGETS["manifest"].mutate(manifest, 1 << 14, seed, plainly) for seed in SEEDS]
    assert sum(map(is_toml, texts)) > len(SEEDS) // 20


def is_toml(text: bytes) -> bool:
    try:
        tomllib.loads(text.decode())
    except ValueError:
        return False
    return True
