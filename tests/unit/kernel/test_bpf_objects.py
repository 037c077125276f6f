# SPDX-License-Identifier: GPL-2.0-or-later
"""The compiled programs are what Python takes them for; nothing is loaded into this machine's kernel."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from klpd.errors import GuardError, KernelError
from klpd.kernel import bpf, libbpf
from klpd.kernel.bpf.handles import BpfObject
from klpd.kernel.guard import HOOKS
from klpd.module.elf import Elf

if TYPE_CHECKING:
    from pathlib import Path


def test_each_hook_has_its_program_in_the_guards_object() -> None:
    with BpfObject(bpf.object_path("guard")) as guard:
        for hook in HOOKS:
            guard.leave_out(hook.program)


def test_a_program_that_is_not_there_is_an_error_that_names_it() -> None:
    with BpfObject(bpf.object_path("guard")) as guard, pytest.raises(KernelError, match="no program nonesuch"):
        guard.leave_out("nonesuch")


def test_an_object_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"nonesuch\.bpf\.o") as caught:
        BpfObject(tmp_path / "nonesuch.bpf.o")
    assert caught.value.errno == errno.ENOENT


def test_an_object_that_is_none_is_an_error_with_libbpfs_reason(tmp_path: Path) -> None:
    path = tmp_path / "text.bpf.o"
    path.write_text("not an object")
    with pytest.raises(KernelError, match=r"libbpf: .*text\.bpf\.o"):
        BpfObject(path)


@pytest.mark.parametrize("name", ["guard", "stack"])
def test_an_object_has_type_information_and_no_debug_information(name: str) -> None:
    elf = Elf.read(bpf.object_path(name).read_bytes())
    assert [len(list(elf.named(section))) for section in (b".BTF", b".BTF.ext", b".debug_info")] == [1, 1, 0]


def test_a_missing_library_is_named_with_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libbpf, "_SONAME", "libbpf.so.0.nonesuch")
    with pytest.raises(GuardError, match=r"libbpf1 \(Debian\) or libbpf \(Fedora\)"):
        libbpf._Library()
