# SPDX-License-Identifier: GPL-2.0-or-later
"""The test host's initial ram disk."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from tests.vm.errors import HarnessError
from tests.vm.initrd import Node, archive
from tests.vm.kernel import load_order

if TYPE_CHECKING:
    from pathlib import Path

DEPENDENCIES = """\
kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci.ko.xz: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/block/virtio-blk.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
"""


def test_an_archive_has_names_modes_devices_and_bytes() -> None:
    nodes = [
        Node("dev", stat.S_IFDIR | 0o755),
        Node("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        Node("init", stat.S_IFREG | 0o755, b"#!/bin/sh\n"),
        Node("odd", stat.S_IFREG | 0o644, b"12345"),
    ]
    rows = _read_newc(archive(nodes))
    assert rows == [
        ("dev", stat.S_IFDIR | 0o755, (0, 0), b""),
        ("dev/console", stat.S_IFCHR | 0o600, (5, 1), b""),
        ("init", stat.S_IFREG | 0o755, (0, 0), b"#!/bin/sh\n"),
        ("odd", stat.S_IFREG | 0o644, (0, 0), b"12345"),
        ("TRAILER!!!", 0, (0, 0), b""),
    ]


def _read_newc(data: bytes) -> list[tuple[str, int, tuple[int, int], bytes]]:
    rows = []
    at = 0
    while at < len(data):
        assert data[at : at + 6] == b"070701"
        assert at % 4 == 0
        field = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        name_size, size = field[11], field[6]
        name = data[at + 110 : at + 110 + name_size]
        assert name.endswith(b"\0")
        begin = -(-(at + 110 + name_size) // 4) * 4
        rows.append((name[:-1].decode(), field[1], (field[9], field[10]), data[begin : begin + size]))
        at = -(-(begin + size) // 4) * 4
    return rows


def test_modules_come_after_those_that_they_need(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(DEPENDENCIES)
    (tmp_path / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    names = [path.name for path in load_order(tmp_path, ["virtio_pci", "virtio_blk", "ext4"])]
    assert names == ["virtio_ring.ko", "virtio.ko", "virtio_pci.ko.xz", "virtio-blk.ko"]


def test_a_module_that_the_kernel_has_not_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "modules.dep").write_text(DEPENDENCIES)
    (tmp_path / "modules.builtin").write_text("")
    with pytest.raises(HarnessError, match="no module ext4"):
        load_order(tmp_path, ["ext4"])
