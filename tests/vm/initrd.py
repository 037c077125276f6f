# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's initial ram disk: busybox, the disk's drivers and ten lines of shell, as a newc cpio archive.

Written here and not by cpio(1) because device nodes must be in it, and those need no root in an archive.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.vm import apt
from tests.vm.cache import digest, source
from tests.vm.kernel import load_order

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.vm.cache import Cache
    from tests.vm.kernel import Unpacked

_BUSYBOX: Final = "busybox-static"
_ROOT_DRIVERS: Final = ("virtio_pci", "virtio_blk", "ext4")
_INIT: Final = """\
#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
{loads}
/bin/busybox mount -t ext4 -o rw,noatime /dev/vda /root
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A file of an archive.  ``mode`` has the type bits of stat(2); ``device`` is (major, minor)."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def archive(nodes: Iterable[Node]) -> bytes:
    """A newc archive (Linux, Documentation/driver-api/early-userspace/buffer-format.rst), all owned by root."""
    out = bytearray()
    for number, node in enumerate([*nodes, Node("TRAILER!!!", 0)], start=1):
        name = node.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(node.mode) else 1
        fields = (number, node.mode, 0, 0, links, 0, len(node.data), 0, 0, *node.device, len(name), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += bytes(-len(out) % 4)
        out += node.data
        out += bytes(-len(out) % 4)
    return bytes(out)


def build(cache: Cache, kernel: Unpacked) -> Path:
    """The initrd for ``kernel`` with its root on the first virtio disk."""
    version = apt.candidates(cache, [_BUSYBOX])[_BUSYBOX]

    def fill(folder: Path) -> None:
        apt.unpack(apt.download(cache, _BUSYBOX, version, folder), folder)
        (folder / "initrd").write_bytes(archive(_nodes((folder / "bin/busybox").read_bytes(), kernel)))

    return cache.get("initrd", digest(source(__file__), kernel.key, version), fill, keep=8) / "initrd"


def _nodes(busybox: bytes, kernel: Unpacked) -> list[Node]:
    modules = load_order(kernel.modules, _ROOT_DRIVERS)
    init = _INIT.format(loads="\n".join(f"/bin/busybox insmod /modules/{_plain(path)}" for path in modules))
    return [
        *(Node(name, stat.S_IFDIR | 0o755) for name in ("bin", "dev", "modules", "root")),
        Node("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        Node("bin/busybox", stat.S_IFREG | 0o755, busybox),
        Node("init", stat.S_IFREG | 0o755, init.encode()),
        *(Node(f"modules/{_plain(path)}", stat.S_IFREG | 0o644, _decompressed(path)) for path in modules),
    ]


def _plain(path: Path) -> str:
    return path.name.partition(".")[0] + ".ko"


def _decompressed(path: Path) -> bytes:
    """A module's bytes; kernels from 6.12 on have them compressed."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        import lzma

        return lzma.decompress(data)
    return data
