# SPDX-License-Identifier: GPL-2.0-or-later
"""What only kernels after 6.1 do.  Tests of what all do run on each by the mark on_every_kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.livepatches.evasions import EVASIONS
from tests.vm.kernel import BACKPORT
from tests.vm.lab import Lab
from tests.vm.livepatches import ALLOW_ALL, installed, put_livepatches, set_policy, wait_settled
from tests.vm.marks import extended

if TYPE_CHECKING:
    from tests.vm.host import Host
    from tests.vm.kernel import Kernel

pytestmark = extended

NAME: Final = "klp_cmdline_v1"
TREE: Final = "/lib/modules/$(uname -r)/updates"


@pytest.fixture
def kernel() -> Kernel:
    return BACKPORT


def put_compressed(host: Host) -> str:
    """Make a livepatch a compressed one of the module tree, as the kernel can decompress it; its path there."""
    put_livepatches(host, NAME)
    host.run(f"mkdir {TREE} && xz --check=crc32 --stdout {NAME}.ko > {TREE}/{NAME}.ko.xz && depmod", check=True)
    return host.run(f"echo {TREE}/{NAME}.ko.xz").stdout.strip()


def test_the_kernel_loads_a_compressed_livepatch_where_there_is_no_guard(bare_host: Host) -> None:
    assert Lab(bare_host).load("compressed-file", put_compressed(bare_host)) == "ok"
    assert installed(bare_host) == [NAME]


def test_a_compressed_livepatch_that_is_not_approved_gets_in_by_no_way(host: Host) -> None:
    path = put_compressed(host)
    assert Lab(host).load("compressed-file", path) == "ENOSYS"
    refused = host.run(f"modprobe {NAME}")
    assert refused.returncode != 0
    assert "Operation not permitted" in refused.stderr
    assert installed(host) == []


def test_an_approvable_one_is_left_to_the_loader_to_decompress(host: Host) -> None:
    set_policy(host, ALLOW_ALL)
    path = put_compressed(host)
    assert Lab(host).load("compressed-file", path) == "ENOSYS"
    host.run(f"modprobe {NAME}", check=True)
    wait_settled(host)
    assert installed(host) == [NAME]


def test_this_kernel_refuses_a_second_modinfo_itself_and_loads_the_other_evasions(bare_host: Host) -> None:
    lab = Lab(bare_host)
    files = lab("evade", lab.livepatch("klp_fails"))
    answers = lab("load", "file", *(files[name] for name in EVASIONS))
    itself = {"second-modinfo-after.ko", "second-modinfo-before.ko"}
    assert {name for name, answer in answers.items() if answer == "ENOEXEC"} == itself
    assert {answer for name, answer in answers.items() if name not in itself} == {"ENODEV"}


def test_it_shows_in_sysfs_what_is_read_from_its_memory(bare_host: Host) -> None:
    lab = Lab(bare_host)
    for name in (NAME, "klp_add"):
        bare_host.run(f"insmod {lab.livepatch(name)}", check=True)
        lab.settle()
    shown = bare_host.run("cd /sys/kernel/livepatch && grep . */replace").stdout.split()
    assert sorted(shown) == ["klp_add/replace:0", f"{NAME}/replace:1"]
    assert {each["name"]: each["replace"] for each in lab("patches")} == {"klp_add": False, NAME: True}
