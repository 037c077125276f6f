# SPDX-License-Identifier: GPL-2.0-or-later
"""What the BTF of kernels tells of their livepatch structures, and where it is looked for.  clang writes it."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from klpd.kernel.btf import read_structs
from klpd.kernel.layouts import STRUCTS, KernelLayouts, understood
from klpd.layout import CALLBACKS, KNOWN, FunctionLayout, KernelLayout, Layout, ObjectLayout, PatchLayout, StateLayout
from klpd.module.elf import Elf

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.kernel.btf import Struct

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file root's")

RELEASE: Final = "6.1.0-13-amd64"
MACHINE: Final = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}.get(os.uname().machine, "")
TODAY: Final = """\
struct module;
struct klp_func { const char *old_name; void *new_func; unsigned long old_sympos; long others[16]; };
struct klp_callbacks { void *pre_patch, *post_patch, *pre_unpatch, *post_unpatch; _Bool post_unpatch_enabled; };
struct klp_object { const char *name; struct klp_func *funcs; struct klp_callbacks callbacks; long others[14]; };
struct klp_state { unsigned long id; unsigned int version; void *data; };
struct klp_patch {
	struct module *mod; struct klp_object *objs; struct klp_state *states; _Bool replace; long others[21];
} patch;
"""
USED: Final = "struct klp_func function; struct klp_object object; struct klp_state state;\n"
LAYOUT: Final = Layout(
    PatchLayout(size=200), ObjectLayout(size=168), FunctionLayout(size=152), StateLayout(id=0, version=8, size=24)
)


@functools.cache
def kernel(source: str) -> bytes:
    """A "vmlinux" with the BTF of a C source."""
    with tempfile.TemporaryDirectory() as folder:
        vmlinux = Path(folder) / "vmlinux"
        command = ["clang", "--target=bpf", "-g", "-O2", "-x", "c", "-c", "-o", str(vmlinux), "-"]
        subprocess.run(command, input=(source + USED).encode(), check=True)
        return vmlinux.read_bytes()


def changed(old: str, new: str) -> str:
    assert old in TODAY
    return TODAY.replace(old, new)


def told(source: str) -> KernelLayout:
    with tempfile.NamedTemporaryFile() as vmlinux:
        vmlinux.write(kernel(source))
        vmlinux.flush()
        return understood(read_structs(Path(vmlinux.name), STRUCTS), "BTF")


def test_a_kernel_of_today_has_what_is_known_and_tells_the_sizes_too() -> None:
    assert told(TODAY) == KernelLayout(LAYOUT, "BTF")
    known = KNOWN.layout
    assert known is not None
    assert known == Layout(
        replace(LAYOUT.patch, size=None), replace(LAYOUT.object, size=None), replace(LAYOUT.function, size=None)
    )


def test_members_are_found_wherever_they_are() -> None:
    moved = changed("_Bool replace; long others[21];", "long others[21]; _Bool other, replace;")
    moved = moved.replace("struct klp_object { ", "struct klp_object { long other; ")
    found = told(moved).layout
    assert found is not None
    assert found.patch == PatchLayout(replace=193, size=200)
    assert found.object == ObjectLayout(8, 16, tuple((each, at + 8) for each, at in CALLBACKS), 176)


@pytest.mark.parametrize("qualified", ["const struct klp_object *const objs", "objects objs", "volatile objects objs"])
def test_what_a_type_is_called_does_not_matter(qualified: str) -> None:
    source = changed("struct klp_object *objs", qualified).replace(
        "struct klp_patch {", "typedef struct klp_object *objects;\nstruct klp_patch {"
    )
    assert told(source).layout == LAYOUT


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("_Bool replace;", "unsigned int replace_set;", "klp_patch.replace"),
        ("_Bool replace;", "unsigned char replace;", "klp_patch.replace"),
        ("_Bool replace;", "_Bool replace : 1, other : 1;", "klp_patch.replace"),
        ("_Bool replace;", "union { _Bool replace; int other; };", "klp_patch.replace"),
        ("struct klp_state *states;", "struct klp_state **states;", "klp_patch.states"),
        ("struct klp_state *states;", "unsigned long states;", "klp_patch.states"),
        ("struct klp_callbacks callbacks;", "", "klp_object.callbacks"),
        ("struct klp_callbacks callbacks;", "struct klp_callbacks *callbacks;", "klp_object.callbacks"),
        ("*post_unpatch;", "*other;", "klp_object.callbacks"),
        ("unsigned int version;", "_Bool block_disable, is_shadow;", "klp_state"),
        ("unsigned int version;", "unsigned long version;", "klp_state"),
        ("unsigned long id;", "const char *id;", "klp_state"),
    ],
)
def test_what_a_kernel_has_otherwise_is_not_known_and_told(old: str, new: str, part: str) -> None:
    found = told(changed(old, new))
    assert found.source == f"BTF, not understood: {part}"
    layout = found.layout
    assert layout is not None
    parts = {
        "klp_patch.replace": layout.patch.replace,
        "klp_patch.states": layout.patch.states,
        "klp_object.callbacks": layout.object.callbacks,
        "klp_state": layout.state,
    }
    assert [name for name, known in parts.items() if known is None] == [part]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("struct module *mod;", "", "struct klp_patch has no member mod"),
        (
            "struct klp_object *objs",
            "struct klp_object **objs",
            "the member objs of struct klp_patch is something else",
        ),
        ("const char *name;", "const char name[8];", "the member name of struct klp_object is something else"),
        ("struct klp_func *funcs;", "void *funcs;", "the member funcs of struct klp_object is something else"),
        ("old_sympos;", "old_sympos : 63;", "struct klp_func has no member old_sympos"),
        ("long others[21];", "long others[9000];", "struct klp_patch has 72032 bytes"),
    ],
)
def test_where_a_klp_patch_could_not_be_found_nothing_is_understood(old: str, new: str, reason: str) -> None:
    assert told(changed(old, new)) == KernelLayout(None, f"BTF, not understood: {reason}")


LOCAL: Final = "long {name}(void) {{ static struct klp_state {{ {members} }} it; return it.id++; }}\n"


def test_structures_that_are_told_twice_alike_are_one() -> None:
    again = LOCAL.format(name="again", members="unsigned long id; unsigned int version; void *data;")
    assert told(TODAY + again).layout == LAYOUT


def test_of_different_structures_of_one_name_none_is_taken() -> None:
    other = LOCAL.format(name="other", members="void *data; unsigned long id; unsigned int version;")
    assert told(TODAY + other).source == "BTF, not understood: klp_state"


def test_every_structure_of_a_name_is_found_among_all_others(tmp_path: Path) -> None:
    sizes = (5, 900, 40)
    source = "".join(
        f"int f{size}(int klp_state) {{ static struct klp_state {{ char m[{size}]; }} s; return s.m[klp_state]++; }}\n"
        for size in sizes
    )
    (tmp_path / "vmlinux").write_bytes(kernel(TODAY + source))
    found = read_structs(tmp_path / "vmlinux", ("klp_state", "klp_nothing"))
    assert sorted(each.size for each in found["klp_state"]) == [5, 24, 40, 900]
    assert found["klp_nothing"] == ()


@pytest.fixture
def structs(tmp_path: Path) -> dict[str, tuple[Struct, ...]]:
    """Today's, to be spoilt."""
    (tmp_path / "vmlinux").write_bytes(kernel(TODAY))
    return dict(read_structs(tmp_path / "vmlinux", STRUCTS))


@pytest.mark.parametrize(("offset", "unknown"), [(20, "klp_patch.states"), (200, "klp_patch.replace")])
def test_members_that_overlap_or_lead_out_are_not_believed(
    structs: dict[str, tuple[Struct, ...]], offset: int, unknown: str
) -> None:
    (patch,) = structs["klp_patch"]
    members = tuple(replace(each, offset=offset) if each.name == "replace" else each for each in patch.members)
    found = understood(structs | {"klp_patch": (replace(patch, members=members),)}, "BTF")
    assert found.source == f"BTF, not understood: {unknown}"


def test_without_one_of_the_structures_nothing_is_understood(structs: dict[str, tuple[Struct, ...]]) -> None:
    found = understood(structs | {"klp_func": ()}, "BTF")
    assert found == KernelLayout(None, "BTF, not understood: it has no struct klp_func")


def raw(vmlinux: bytes) -> bytes:
    """The BTF itself, as /sys/kernel/btf/vmlinux has it."""
    elf = Elf.read(vmlinux)
    (section,) = elf.named(b".BTF")
    return bytes(elf.content(section))


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def put(file: str, content: bytes) -> Path:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o644)
        return path

    return put


FROM_BTF: Final = KernelLayout(LAYOUT, f"BTF of {RELEASE}")


@as_root
@pytest.mark.parametrize(
    "file",
    [
        f"boot/vmlinux-{RELEASE}",
        f"lib/modules/{RELEASE}/vmlinux-{RELEASE}",
        f"lib/modules/{RELEASE}/build/vmlinux",
        f"usr/lib/modules/{RELEASE}/kernel/vmlinux",
        f"usr/lib/debug/boot/vmlinux-{RELEASE}",
        f"usr/lib/debug/boot/vmlinux-{RELEASE}.debug",
        f"usr/lib/debug/lib/modules/{RELEASE}/vmlinux",
    ],
)
def test_a_kernels_own_file_is_found_where_distributions_have_it(
    tmp_path: Path, put: Callable[[str, bytes], Path], file: str
) -> None:
    put(file, kernel(TODAY))
    assert KernelLayouts(tmp_path, "6.9.0")(RELEASE, MACHINE) == FROM_BTF
    assert KernelLayouts(tmp_path, "6.9.0")("6.9.0", MACHINE) == KNOWN


@as_root
def test_the_running_kernel_is_asked_itself_and_once(tmp_path: Path, put: Callable[[str, bytes], Path]) -> None:
    running = put("sys/kernel/btf/vmlinux", raw(kernel(TODAY)))
    put(f"boot/vmlinux-{RELEASE}", kernel(changed("struct module *mod;", "")))
    layouts = KernelLayouts(tmp_path, RELEASE)
    layouts.load_running()
    running.unlink()
    assert layouts(RELEASE, MACHINE) == FROM_BTF
    assert layouts("6.9.0", MACHINE) == KNOWN


@as_root
def test_a_kernel_that_comes_later_is_asked_then(tmp_path: Path, put: Callable[[str, bytes], Path]) -> None:
    layouts = KernelLayouts(tmp_path, "6.9.0")
    assert layouts(RELEASE, MACHINE) == KNOWN
    put(f"boot/vmlinux-{RELEASE}", kernel(TODAY))
    assert layouts(RELEASE, MACHINE) == FROM_BTF


@as_root
@pytest.mark.parametrize(("owner", "mode"), [(1000, 0o644), (0, 0o664), (0, 0o646)])
def test_what_others_than_root_may_have_written_is_not_read(
    tmp_path: Path, put: Callable[[str, bytes], Path], owner: int, mode: int
) -> None:
    path = put(f"boot/vmlinux-{RELEASE}", kernel(TODAY))
    os.chown(path, owner, 0)
    path.chmod(mode)
    assert KernelLayouts(tmp_path, RELEASE)(RELEASE, MACHINE) == KNOWN


@as_root
@pytest.mark.parametrize(
    "content",
    [b"", b"no BTF", b"\x9f\xeb\x01\x00", kernel("int nothing;\n" + TODAY.replace("klp_patch", "other_patch"))],
    ids=["empty", "something else", "cut off", "of a kernel without livepatches"],
)
def test_what_tells_nothing_is_passed_over(tmp_path: Path, put: Callable[[str, bytes], Path], content: bytes) -> None:
    put(f"boot/vmlinux-{RELEASE}", content)
    assert KernelLayouts(tmp_path, RELEASE)(RELEASE, MACHINE) == KNOWN
    put(f"usr/lib/debug/boot/vmlinux-{RELEASE}", kernel(TODAY))
    assert KernelLayouts(tmp_path, RELEASE)(RELEASE, MACHINE) == FROM_BTF


@as_root
@pytest.mark.parametrize(
    ("release", "machine"),
    [
        (RELEASE, "EM_RISCV"),
        ("", MACHINE),
        (".", MACHINE),
        ("../elsewhere/file", MACHINE),
        (f"{RELEASE}\n", MACHINE),
        ("6" * 65, MACHINE),
    ],
)
def test_for_another_machine_or_what_is_no_release_no_file_is_looked_for(
    tmp_path: Path, put: Callable[[str, bytes], Path], release: str, machine: str
) -> None:
    (tmp_path / "boot/vmlinux-..").mkdir(parents=True)
    put("boot/elsewhere/file", kernel(TODAY))
    put(f"boot/vmlinux-{RELEASE}", kernel(TODAY))
    put("boot/vmlinux-", kernel(TODAY))
    put("boot/vmlinux-" + "6" * 65, kernel(TODAY))
    assert KernelLayouts(tmp_path, RELEASE)(release, machine) == KNOWN
