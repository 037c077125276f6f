# SPDX-License-Identifier: GPL-2.0-or-later
"""What else a kernel has is read from files of its own; what cannot be read is unknown."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from klpd.kernel.kallsyms import Kallsyms
from klpd.kernel.surroundings import Around
from klpd.kernel.taken import MOST_READ, read_taken
from klpd.model import VMLINUX, Circumstances, Function, Needed, Object, SymbolCount, Taken
from tests.builders import livepatch

if TYPE_CHECKING:
    from pathlib import Path

SYMBOLS: Final = """\
ffffffff81000000 T _text
ffffffff81000010 t show
ffffffff81000020 t show
ffffffff81000030 T only
ffffffff81000040 t static.llvm.123
ffffffffc0000000 t show\t[one]
ffffffffc0000010 t theirs\t[one]
ffffffffc0000020 t theirs\t[two]
ffffffffc0000030 t only\t[bpf]
"""


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def counted(kallsyms: Kallsyms, object_: str, *names: str, stamp: str = "") -> dict[str, int]:
    return {each.name: each.count for each in kallsyms.counts({object_: frozenset(names)}, {object_: stamp})}


@pytest.mark.parametrize(
    ("object_", "counts"),
    [
        (VMLINUX, {"show": 2, "only": 1, "theirs": 0, "nothing": 0}),
        ("one", {"show": 1, "only": 0, "theirs": 1}),
        ("two", {"show": 0, "theirs": 1}),
    ],
)
def test_symbols_are_counted_by_the_object_that_has_them(tmp_path: Path, object_: str, counts: dict[str, int]) -> None:
    write(tmp_path, "proc/kallsyms", SYMBOLS)
    assert counted(Kallsyms(tmp_path), object_, *counts) == counts


def test_several_objects_are_looked_through_at_once(tmp_path: Path) -> None:
    write(tmp_path, "proc/kallsyms", SYMBOLS)
    wanted = {VMLINUX: frozenset({"only"}), "two": frozenset({"theirs"})}
    assert set(Kallsyms(tmp_path).counts(wanted, {})) == {
        SymbolCount(VMLINUX, "only", 1),
        SymbolCount("two", "theirs", 1),
    }


def test_symbols_are_found_wherever_the_file_is_cut_into_pieces(tmp_path: Path) -> None:
    kernel = "".join(f"{each:016x} t f{each}\n" for each in range(30000))
    module = "".join(f"{each:016x} t f{each}\t[one]\n" for each in range(0, 30000, 3))
    write(tmp_path, "proc/kallsyms", kernel + module)
    names = tuple(f"f{each}" for each in range(0, 30003, 7))
    assert counted(Kallsyms(tmp_path), VMLINUX, *names) == {each: int(int(each[1:]) < 30000) for each in names}
    assert counted(Kallsyms(tmp_path), "one", *names) == {
        each: int(int(each[1:]) < 30000 and int(each[1:]) % 3 == 0) for each in names
    }


def test_a_name_that_some_kernels_would_find_without_its_suffix_is_not_told(tmp_path: Path) -> None:
    write(tmp_path, "proc/kallsyms", SYMBOLS)
    assert counted(Kallsyms(tmp_path), VMLINUX, "static", "static.llvm.123") == {"static.llvm.123": 1}


def test_those_of_the_kernel_are_read_once(tmp_path: Path) -> None:
    write(tmp_path, "proc/kallsyms", SYMBOLS)
    kallsyms = Kallsyms(tmp_path)
    assert counted(kallsyms, VMLINUX, "only") == {"only": 1}
    (tmp_path / "proc/kallsyms").unlink()
    assert counted(kallsyms, VMLINUX, "show") == {"show": 2}


def test_those_of_the_kernel_can_be_read_before_anybody_waits_for_them(tmp_path: Path) -> None:
    write(tmp_path, "proc/kallsyms", SYMBOLS)
    around = Around(tmp_path)
    around.prepare()
    (tmp_path / "proc/kallsyms").unlink()
    coming = replace(livepatch(), objects=(Object(VMLINUX, (Function("only"),)),))
    assert around.of((coming,)).symbols == (SymbolCount(VMLINUX, "only", 1),)


def test_a_module_that_was_loaded_anew_is_looked_through_anew(tmp_path: Path) -> None:
    write(tmp_path, "proc/kallsyms", SYMBOLS)
    kallsyms = Kallsyms(tmp_path)
    assert counted(kallsyms, "one", "fresh", stamp="1") == {"fresh": 0}
    write(tmp_path, "proc/kallsyms", SYMBOLS + "ffffffffc0000040 t fresh\t[one]\n")
    assert counted(kallsyms, "one", "fresh", stamp="1") == {"fresh": 0}
    assert counted(kallsyms, "one", "fresh", stamp="2") == {"fresh": 1}


@pytest.mark.parametrize("text", [None, "", "ffffffffc0000000 t show\t[one]\n"])
def test_of_symbols_that_are_not_shown_nothing_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        write(tmp_path, "proc/kallsyms", text)
    assert counted(Kallsyms(tmp_path), VMLINUX, "only") == {}


ENABLED: Final = """\
vfs_read (1) R   \ttramp: 0xffffffffc0a00000 (bpf_trampoline+0x0/0x10) ->ftrace_ops_assist_func+0x0/0x10
cmdline_proc_show (1) R I  \ttramp: 0xffffffffc0a00000 (kprobe_ftrace_handler+0x0/0x1a0) ->arch_ftrace_ops_list_func
their_show [one] (1) R I     \ttramp: 0xffffffffc0a00000 (hook+0x0/0x1a0) ->hook+0x0/0x1a0 [hooks]
version_proc_show (2) R I D\ttramp: 0xffffffffc0a00000 (klp_ftrace_handler+0x0/0x1c0) ->klp_ftrace_handler+0x0/0x1c0
unnamed (2) R I
"""
KPROBES: Final = """\
ffffffff81000000  k  cmdline_proc_show+0x4    [FTRACE]
ffffffff81000000  k  unnamed+0x10    [OPTIMIZED]
ffffffffc0000000  r  other+0x0  one [FTRACE]
"""


@pytest.mark.parametrize("folder", ["sys/kernel/tracing", "sys/kernel/debug/tracing"])
def test_functions_that_somebody_has_to_himself_are_told_with_him_but_for_livepatches(
    tmp_path: Path, folder: str
) -> None:
    write(tmp_path, f"{folder}/enabled_functions", ENABLED)
    write(tmp_path, "sys/kernel/debug/kprobes/list", KPROBES)
    assert read_taken(tmp_path) == (
        Taken(VMLINUX, "cmdline_proc_show", "a kprobe with a post_handler at cmdline_proc_show+0x4"),
        Taken("one", "their_show", "the ftrace handler hook"),
        Taken(VMLINUX, "unnamed", "somebody whom the kernel does not name"),
    )


def test_without_debugfs_it_is_told_what_is_taken_and_not_by_which_kprobe(tmp_path: Path) -> None:
    write(tmp_path, "sys/kernel/tracing/enabled_functions", "f (1) R I  \n")
    assert read_taken(tmp_path) == (Taken(VMLINUX, "f", "somebody whom the kernel does not name"),)


def test_while_all_functions_are_traced_it_is_not_waited_for_who_has_what(tmp_path: Path) -> None:
    write(tmp_path, "sys/kernel/tracing/enabled_functions", "f (1) R I  \n" * (MOST_READ // 8))
    assert read_taken(tmp_path) is None


def test_without_tracefs_it_is_unknown_who_has_what(tmp_path: Path) -> None:
    assert read_taken(tmp_path) is None


def test_a_kernel_that_shows_nothing_leaves_everything_unknown(tmp_path: Path) -> None:
    around = Around(tmp_path)
    assert around.circumstances() == Circumstances()
    wanted = replace(livepatch(), objects=(Object(VMLINUX, (Function("only"),)),))
    assert around.of((wanted,)).symbols == ()


def test_only_what_is_loaded_is_looked_through(tmp_path: Path) -> None:
    write(tmp_path, "proc/kallsyms", SYMBOLS)
    write(tmp_path, "proc/modules", "one 1 0 - Live 0x0\ntwo 1 0 - Loading 0x0\n")
    write(tmp_path, "proc/sys/kernel/ftrace_enabled", "0\n")
    only = Function("only")
    wanted = replace(
        livepatch(),
        objects=(
            Object(VMLINUX, (only,)),
            Object("one", (Function("theirs"),)),
            Object("two", (Function("theirs"),)),
            Object(VMLINUX, (Function("show"),), misnamed=True),
        ),
        needs=(Needed(VMLINUX, VMLINUX, "_text"), Needed("one", "two", "theirs"), Needed("two", "one", "show")),
    )
    around = Around(tmp_path).of((wanted,))
    assert around.circumstances == Circumstances(modules=("one",), taken=None, ftrace=False, demand=None)
    assert set(around.symbols) == {
        SymbolCount(VMLINUX, "only", 1),
        SymbolCount(VMLINUX, "_text", 1),
        SymbolCount("one", "theirs", 1),
    }
