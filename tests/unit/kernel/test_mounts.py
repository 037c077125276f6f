# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading the text of /proc/self/mountinfo, and telling by it where a file is."""

from __future__ import annotations

from pathlib import Path

import pytest

from klpd.kernel.mounts import Mount, Mounts, Place, lies_in, parse, place_of


def test_a_mount_is_its_number_and_its_place() -> None:
    text = (
        b"22 27 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
        b"36 35 98:0 /mnt1 /srv/with\\040space\\134 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
    )
    assert parse(text) == {Mount(22, Path("/sys")), Mount(36, Path("/srv/with space\\"))}


def test_the_mounts_of_this_machine_have_a_root() -> None:
    assert Path("/") in {mount.point for mount in Mounts().read()}


MOUNTED = b"""22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 8:2 / /srv rw - ext4 /dev/sdb rw
31 22 8:1 /var/lib/kpatch /mnt/bound rw - ext4 /dev/sda1 rw
32 30 0:50 / /srv/over rw - tmpfs none rw
33 32 8:2 /below /srv/over rw - ext4 /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("folder", "place"),
    [
        ("/var/lib/kpatch/t", Place(b"8:1", Path("/var/lib/kpatch/t"))),
        ("/mnt/bound/t", Place(b"8:1", Path("/var/lib/kpatch/t"))),
        ("/srv/lps", Place(b"8:2", Path("/lps"))),
        ("/srv/over/a", Place(b"8:2", Path("/below/a"))),
    ],
)
def test_a_directory_is_somewhere_in_its_file_system(folder: str, place: Place) -> None:
    assert place_of(Path(folder), MOUNTED) == place


def test_a_directory_lies_in_another_by_whatever_mount() -> None:
    bound, own = place_of(Path("/mnt/bound/t"), MOUNTED), place_of(Path("/var/lib/kpatch"), MOUNTED)
    assert bound is not None
    assert own is not None
    assert bound.lies_in(own)
    assert not own.lies_in(bound)
    assert not Place(b"8:2", own.folder).lies_in(own)


def test_a_file_lies_where_it_is_and_not_where_a_link_to_it_is(tmp_path: Path) -> None:
    for each in ("here", "links"):
        (tmp_path / each).mkdir()
    (tmp_path / "here/file").touch()
    (tmp_path / "links/file").symlink_to("../here/file")
    (tmp_path / "current").symlink_to("here")
    with (tmp_path / "links/file").open() as file:
        assert lies_in(file.fileno(), (tmp_path / "here",))
        assert lies_in(file.fileno(), (tmp_path / "none", tmp_path / "current"))
        assert lies_in(file.fileno(), (tmp_path,))
        assert not lies_in(file.fileno(), (tmp_path / "links",))
        assert not lies_in(file.fileno(), ())


def test_what_is_no_file_any_more_lies_nowhere(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        (tmp_path / "file").unlink()
        assert not lies_in(file.fileno(), (tmp_path,))
        (tmp_path / "file").touch()
        assert not lies_in(file.fileno(), (tmp_path,))
