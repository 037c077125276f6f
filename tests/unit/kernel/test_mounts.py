# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the text of /proc/self/mountinfo."""

from __future__ import annotations

from pathlib import Path

from klpd.kernel.mounts import Mount, Mounts, parse


def test_a_mount_is_its_number_and_its_place() -> None:
    text = (
        b"22 27 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
        b"36 35 98:0 /mnt1 /srv/with\\040space\\134 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
    )
    assert parse(text) == {Mount(22, Path("/sys")), Mount(36, Path("/srv/with space\\"))}


def test_the_mounts_of_this_machine_have_a_root() -> None:
    assert Path("/") in {mount.point for mount in Mounts().read()}
