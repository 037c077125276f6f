# SPDX-License-Identifier: GPL-2.0-or-later
"""sysfs is read as kernels of any age show it, and a livepatch that goes away meanwhile is no error."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from klpd.errors import KernelError
from klpd.kernel import sysfs
from klpd.kernel.sysfs import LoadedModule, SysfsLivepatch
from klpd.model import Function, InstalledObject
from tests.unit.kernel.fake_sysfs import add_livepatch, add_module

if TYPE_CHECKING:
    from pathlib import Path


def test_a_kernel_without_livepatching_shows_none(tmp_path: Path) -> None:
    assert sysfs.read_livepatches(tmp_path) == ()


def test_an_older_kernel_tells_neither_replace_nor_order(tmp_path: Path) -> None:
    add_livepatch(tmp_path, "klp_one")
    add_module(tmp_path, "klp_one")
    assert sysfs.read_livepatches(tmp_path) == (
        SysfsLivepatch(
            name="klp_one",
            enabled=True,
            transition=False,
            replace=None,
            stack_order=None,
            objects=(InstalledObject("vmlinux", (Function("cmdline_proc_show", 1),), patched=True),),
            build_id="ab" * 20,
        ),
    )


def test_a_kernel_between_them_tells_replace_alone(tmp_path: Path) -> None:
    add_livepatch(tmp_path, "klp_one", replace="1")
    (found,) = sysfs.read_livepatches(tmp_path)
    assert (found.replace, found.stack_order) == (True, None)


def test_a_kernel_that_does_not_tell_which_objects_are_patched(tmp_path: Path) -> None:
    add_livepatch(tmp_path, "klp_one")
    (tmp_path / "sys/kernel/livepatch/klp_one/vmlinux/patched").unlink()
    (found,) = sysfs.read_livepatches(tmp_path)
    assert [each.patched for each in found.objects] == [None]


def test_a_newer_kernel_tells_both(tmp_path: Path) -> None:
    add_livepatch(tmp_path, "klp_one", replace="0", stack_order="2")
    (found,) = sysfs.read_livepatches(tmp_path)
    assert (found.replace, found.stack_order) == (False, 2)


@pytest.mark.parametrize("gone", ["enabled", "transition"])
def test_a_livepatch_that_vanishes_while_it_is_read_is_not_there(tmp_path: Path, gone: str) -> None:
    add_livepatch(tmp_path, "klp_one")
    (tmp_path / "sys/kernel/livepatch/klp_one" / gone).unlink()
    assert sysfs.read_livepatches(tmp_path) == ()


def test_functions_of_several_objects_are_told_apart(tmp_path: Path) -> None:
    add_livepatch(tmp_path, "klp_one", objects={"vmlinux": ("a,1", "a,2"), "ext4": ("b,0",)})
    (found,) = sysfs.read_livepatches(tmp_path)
    assert {each.name: each.functions for each in found.objects} == {
        "vmlinux": (Function("a", 1), Function("a", 2)),
        "ext4": (Function("b", 0),),
    }


def test_a_module_without_a_build_id_has_none(tmp_path: Path) -> None:
    assert sysfs.read_build_id("klp_one", tmp_path) is None


def test_a_note_that_is_no_build_id_is_none(tmp_path: Path) -> None:
    add_module(tmp_path, "klp_one")
    (tmp_path / "sys/module/klp_one/notes/.note.gnu.build-id").write_bytes(b"GNU")
    assert sysfs.read_build_id("klp_one", tmp_path) is None


def test_livepatch_modules_are_known_by_their_taint(tmp_path: Path) -> None:
    add_module(tmp_path, "klp_one", references=2)
    add_module(tmp_path, "ext4", taint="")
    add_module(tmp_path, "out_of_tree", taint="OE")
    assert sysfs.read_modules(tmp_path)[0] == LoadedModule("klp_one", references=2, live=True, taint="OEK")
    assert [each.is_livepatch for each in sysfs.read_modules(tmp_path)] == [True, False, False]


@pytest.mark.parametrize(("taint", "is_one"), [("OEK", True), ("OE", False), ("", False)])
def test_a_loaded_livepatch_is_told_by_its_taint(tmp_path: Path, taint: str, *, is_one: bool) -> None:
    add_module(tmp_path, "some_module", taint=taint)
    assert sysfs.is_livepatch("some_module", tmp_path) is is_one
    assert not sysfs.is_livepatch("gone", tmp_path)


def test_a_write_goes_to_enabled(tmp_path: Path) -> None:
    add_livepatch(tmp_path, "klp_one")
    sysfs.write_enabled("klp_one", enabled=False, root=tmp_path)
    assert (tmp_path / "sys/kernel/livepatch/klp_one/enabled").read_text() == "0"


def test_disabling_what_is_not_there_tells_the_errno(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="cannot disable klp_one") as caught:
        sysfs.write_enabled("klp_one", enabled=False, root=tmp_path)
    assert caught.value.errno == errno.ENOENT
