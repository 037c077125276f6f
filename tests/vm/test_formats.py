# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpd reads from the files of the build systems' formats is what the kernel makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from klpd import module
from klpd.layout import FunctionLayout, Layout, ObjectLayout, PatchLayout, StateLayout
from klpd.plain import to_plain
from tests.livepatches.table import BY_FORMAT, TARGET
from tests.vm.lab import Lab
from tests.vm.livepatches import installed, put_livepatches, set_policy, wait_settled
from tests.vm.marks import extended, on_every_kernel

if TYPE_CHECKING:
    from klpd.model import Livepatch
    from tests.vm.host import Host


KPATCH: Final = "klp_kpatch_build"
VENDOR: Final = f"""
[[livepatch]]
match = {{ name = "{KPATCH}" }}
verdict = "allow"
"""


@pytest.fixture
def lab(bare_host: Host) -> Lab:
    return Lab(bare_host)


def entries(livepatch: Livepatch) -> set[str]:
    """Its objects and functions, as sysfs names them (klp_init_func: the only one of a name is the first)."""
    return {
        f"{each.name}/{function.name},{function.sympos or 1}"
        for each in livepatch.objects or ()
        for function in each.functions
    }


def told(lab: Lab, name: str) -> set[str]:
    """The callbacks that have run."""
    lines = lab.host.run("dmesg", check=True).stdout.splitlines()
    return {line.partition(f"klp_test: {name}: ")[2] for line in lines} - {"", "init", "exit"}


@extended
@on_every_kernel
def test_a_kernels_btf_says_of_its_structures_what_is_known_of_them(lab: Lab) -> None:
    found = lab("layout")
    assert found["source"] == f"BTF of {lab.release}"
    size = found["layout"]["patch"].pop("size")
    assert 32 < size < 1024
    assert found["layout"] == to_plain(
        Layout(PatchLayout(), ObjectLayout(size=168), FunctionLayout(size=152), StateLayout())
    )


def test_the_kernel_patches_what_the_tables_of_each_format_say(lab: Lab) -> None:
    lab.host.run(f"insmod {lab.livepatch(TARGET)}", check=True)
    for name, form in BY_FORMAT.items():
        livepatch = module.read_livepatch(lab.livepatch_bytes(name), file=name)
        lab.host.run(f"insmod {lab.livepatch(name)}", check=True)
        lab.settle()
        (patch,) = lab("patches")
        shown = lab.host.run(f"cd /sys/kernel/livepatch/{name} && ls -d */*,*", check=True).stdout
        assert livepatch.format is form
        assert (patch["name"], patch["states"]) == (name, [])
        assert set(shown.split()) == entries(livepatch)
        assert lab.host.run("cat /proc/cmdline", check=True).stdout == f"livepatch: {name}\n"
        lab.take_out(name)
        assert told(lab, name) == {
            f"{callback} {each.name}" for each in livepatch.objects or () for callback in each.callbacks
        }


def test_what_kpatch_keeps_comes_and_goes_by_plain_tools_where_a_rule_lets_it(host: Host) -> None:
    set_policy(host, VENDOR)
    put_livepatches(host, KPATCH)
    host.run(
        f"""
        folder=/var/lib/kpatch/$(uname --kernel-release)
        mkdir --parents $folder
        cp {KPATCH}.ko $folder
        until insmod $folder/{KPATCH}.ko; do
            # Watched as soon as it is there, which may be a moment after it is.
            test $((refused += 1)) -lt 10
            sleep 0.5
        done
        """,
        check=True,
    )
    wait_settled(host)
    assert installed(host) == [KPATCH]
    host.run(f"echo 0 > /sys/kernel/livepatch/{KPATCH}/enabled", check=True)
    wait_settled(host)
    host.run(f"rmmod {KPATCH}", check=True)
    assert installed(host) == []
