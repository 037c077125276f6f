# SPDX-License-Identifier: GPL-2.0-or-later
"""The stack is put together from whatever can be had, and what cannot be had is unknown, not absent."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from klpd.kernel.memory import MemoryLivepatch
from klpd.kernel.stack import read_stack
from klpd.model import VMLINUX, Callback, Leftover, Livepatch, Object, State, StatesSource
from klpd.module.origin import Origin
from tests.unit.kernel.fake_sysfs import add_livepatch, add_module, tell_of_signatures

if TYPE_CHECKING:
    from pathlib import Path


class FakeMemory:
    """Gives one picture after another, the last one for ever."""

    def __init__(self, *pictures: tuple[MemoryLivepatch, ...]) -> None:
        self._pictures = list(pictures)

    def read_patches(self) -> tuple[MemoryLivepatch, ...]:
        return self._pictures.pop(0) if len(self._pictures) > 1 else self._pictures[0]


def in_memory(name: str, *states: State) -> MemoryLivepatch:
    return MemoryLivepatch(name=name, replace=True, enabled=True, forced=False, transition=False, states=states)


def unknown(_name: str, _build_id: str) -> None:
    return None


def a_file(name: str) -> Livepatch:
    return Livepatch(name=name, digest="d1", size=1, replace=False, states=(State(1, 3),), objects=())


def from_file(name: str, _build_id: str) -> Origin:
    return Origin.of(a_file(name))


def installed(root: Path, *names: str) -> None:
    for each in names:
        add_livepatch(root, each)
        add_module(root, each)


def test_the_order_is_the_kernels_list(tmp_path: Path) -> None:
    installed(tmp_path, "klp_a", "klp_b")
    stack = read_stack(FakeMemory((in_memory("klp_b"), in_memory("klp_a"))), unknown, root=tmp_path)
    assert [each.name for each in stack.livepatches] == ["klp_b", "klp_a"]
    assert stack.readable


def test_without_memory_the_order_is_sysfs_own_where_it_has_one(tmp_path: Path) -> None:
    add_livepatch(tmp_path, "klp_a", stack_order="2")
    add_livepatch(tmp_path, "klp_b", stack_order="1")
    add_module(tmp_path, "klp_a")
    stack = read_stack(None, unknown, root=tmp_path)
    assert [each.name for each in stack.livepatches] == ["klp_b", "klp_a"]
    assert not stack.readable


def test_states_come_from_memory_first(tmp_path: Path) -> None:
    installed(tmp_path, "klp_a")
    stack = read_stack(FakeMemory((in_memory("klp_a", State(1, 2)),)), from_file, root=tmp_path)
    (found,) = stack.livepatches
    assert (found.states, found.states_source) == ((State(1, 2),), StatesSource.MEMORY)
    assert (found.replace, found.digest) == (True, "d1")


def test_else_they_come_from_the_file(tmp_path: Path) -> None:
    installed(tmp_path, "klp_a")
    (found,) = read_stack(None, from_file, root=tmp_path).livepatches
    assert (found.states, found.states_source, found.replace) == ((State(1, 3),), StatesSource.FILE, False)


@pytest.mark.parametrize("callbacks", [(), (Callback.POST_PATCH,), (Callback.POST_UNPATCH,)])
def test_whether_it_restores_what_was_before_is_in_the_file(tmp_path: Path, callbacks: tuple[Callback, ...]) -> None:
    def known(name: str, _build_id: str) -> Origin:
        return Origin.of(dataclasses.replace(a_file(name), objects=(Object("vmlinux", (), callbacks),)))

    installed(tmp_path, "klp_a")
    (found,) = read_stack(None, known, root=tmp_path).livepatches
    assert found.restores is (Callback.POST_UNPATCH in callbacks)


def test_else_they_are_unknown(tmp_path: Path) -> None:
    installed(tmp_path, "klp_a")
    stack = read_stack(None, unknown, root=tmp_path)
    assert stack.unknown == ("klp_a",)
    assert stack.livepatches[0].replace is None
    assert stack.livepatches[0].restores is None


def test_a_livepatch_that_the_kernels_list_does_not_have_is_not_in_force(tmp_path: Path) -> None:
    installed(tmp_path, "klp_a", "klp_coming")
    stack = read_stack(FakeMemory((in_memory("klp_a"),)), unknown, root=tmp_path)
    assert [each.name for each in stack.livepatches] == ["klp_a"]
    assert (stack.steady, stack.leftovers) == (False, ())


def test_a_livepatch_that_sysfs_does_not_show_any_more_is_in_force_as_long_as_the_kernel_has_it(tmp_path: Path) -> None:
    add_module(tmp_path, "klp_a")
    stack = read_stack(FakeMemory((in_memory("klp_a", State(1, 2)),)), unknown, root=tmp_path)
    assert (stack.states, stack.steady) == ({1: 2}, False)


@pytest.mark.parametrize("coming", [True, False])
def test_a_livepatch_that_is_being_initialised_or_is_gone_is_not_in_force(tmp_path: Path, *, coming: bool) -> None:
    installed(tmp_path, "klp_a", "klp_b")
    other = dataclasses.replace(in_memory("klp_b"), enabled=False, transition=coming, coming=coming)
    stack = read_stack(FakeMemory((in_memory("klp_a"), other)), unknown, root=tmp_path)
    assert [each.name for each in stack.livepatches] == ["klp_a"]
    assert (stack.steady, stack.leftovers) == (False, ())


def test_without_memory_one_that_is_neither_enabled_nor_on_its_way_is_not_in_force(tmp_path: Path) -> None:
    installed(tmp_path, "klp_a")
    add_livepatch(tmp_path, "klp_b", enabled=0)
    stack = read_stack(None, unknown, root=tmp_path)
    assert [each.name for each in stack.livepatches] == ["klp_a"]
    assert not stack.steady


@pytest.mark.parametrize("state", ["Loading", "Unloading"])
def test_a_module_that_is_being_loaded_or_unloaded_is_not_left_over(tmp_path: Path, state: str) -> None:
    add_module(tmp_path, "klp_a", state=state)
    assert read_stack(FakeMemory(()), unknown, root=tmp_path).leftovers == ()


def test_a_livepatch_that_enters_between_two_looks_is_waited_for(tmp_path: Path) -> None:
    installed(tmp_path, "klp_a")
    stack = read_stack(FakeMemory((), (), (in_memory("klp_a", State(1, 2)),)), unknown, root=tmp_path)
    assert stack.states == {1: 2}


def test_modules_of_replaced_livepatches_are_left_over(tmp_path: Path) -> None:
    installed(tmp_path, "klp_new")
    add_module(tmp_path, "klp_old", references=0)
    add_module(tmp_path, "klp_forced", references=1)
    add_module(tmp_path, "ext4", taint="", references=0)
    stack = read_stack(FakeMemory((in_memory("klp_new"),)), unknown, root=tmp_path)
    assert stack.leftovers == (
        Leftover("klp_old", removable=True, build_id="ab" * 20),
        Leftover("klp_forced", removable=False, build_id="ab" * 20),
    )


@pytest.mark.parametrize(("taint", "verified"), [("OEK", False), ("K", True)])
def test_what_the_kernel_verified_is_told_of_each(tmp_path: Path, taint: str, *, verified: bool) -> None:
    tell_of_signatures(tmp_path, sig_enforce="N", lockdown=None)
    add_livepatch(tmp_path, "klp_a")
    add_module(tmp_path, "klp_a", taint=taint)
    (found,) = read_stack(None, unknown, root=tmp_path).livepatches
    assert found.kernel_verified is verified


def test_a_kernel_that_does_not_check_signatures_tells_nothing_of_them(tmp_path: Path) -> None:
    installed(tmp_path, "klp_a")
    assert read_stack(None, unknown, root=tmp_path).livepatches[0].kernel_verified is None


def before_6_1(root: Path) -> None:
    """A kernel whose sysfs does not tell which objects are patched."""
    add_livepatch(root, "klp_a", objects={VMLINUX: (), "here": (), "leaving": (), "absent": ()})
    add_module(root, "klp_a")
    add_module(root, "here", taint="")
    add_module(root, "leaving", taint="", state="Unloading")
    for each in (root / "sys/kernel/livepatch/klp_a").glob("*/patched"):
        each.unlink()


@pytest.mark.parametrize(("misnamed", "patched"), [(True, False), (False, True), (None, None)])
def test_an_older_kernel_tells_by_its_list_whether_it_is_patched_itself(
    tmp_path: Path, misnamed: bool | None, patched: bool | None
) -> None:
    before_6_1(tmp_path)
    listed = dataclasses.replace(in_memory("klp_a"), misnamed=misnamed)
    (found,) = read_stack(FakeMemory((listed,)), unknown, root=tmp_path).livepatches
    assert {each.name: each.patched for each in found.objects}[VMLINUX] is patched


def test_of_an_older_kernel_modules_that_are_there_are_patched(tmp_path: Path) -> None:
    before_6_1(tmp_path)
    (found,) = read_stack(None, unknown, root=tmp_path).livepatches
    patched = {each.name: each.patched for each in found.objects}
    assert patched == {VMLINUX: None, "here": True, "leaving": False, "absent": False}
