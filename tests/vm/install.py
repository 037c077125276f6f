# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd, as `make install` lays it down, put into a guest and started there."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.vm.cache import digest, source
from tests.vm.command import run
from tests.vm.errors import HarnessError
from tests.vm.image import owned_by_root

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.cache import Cache
    from tests.vm.host import Host

PROJECT: Final = Path(__file__).resolve().parents[2]
_SETTLE_IN: Final = """\
set -e
systemd-sysusers
systemd-tmpfiles --create --prefix=/etc/klpd --prefix=/run/klpd --prefix=/var/lib/klpd --prefix=/var/log/klpd
journalctl --quiet --update-catalog
systemctl --quiet --no-reload enable klpd
systemctl daemon-reload
busctl --quiet call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig
"""


def staged(cache: Cache) -> tuple[bytes, str]:
    """What `make install` installs, as a tar archive, and a key of its content."""
    with cache.locked("stage"), cache.scratch() as folder:
        run(["make", "--no-print-directory", "-C", PROJECT, "install", "PREFIX=/usr", f"DESTDIR={folder}"])
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            # Not the folder itself: its mode would become that of the guest's root directory.
            for each in sorted(folder.iterdir()):
                tar.add(each, each.name, filter=owned_by_root)
        return packed.getvalue(), _content_key(folder)


def _content_key(folder: Path) -> str:
    """Equal for trees of equal names, modes and bytes, whenever they were made."""
    rows = []
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            content = ""
        rows.append((str(path.relative_to(folder)), status.st_mode, content))
    return digest(source(__file__), rows)


def installer(archive: bytes, say: Callable[[str], None]) -> Callable[[Host], None]:
    """What puts the archive into a host: klpd is enabled then, and not running."""

    def install(host: Host) -> None:
        say("installing klpd in the test host")
        host.unpack(archive, "/")
        host.run(["python3", "-m", "compileall", "-q", *_python_folders(archive)], check=True)
        host.run(_SETTLE_IN, check=True)

    return install


def start(host: Host) -> None:
    """Start klpd and wait until it says that it is ready; raises HarnessError with its journal if it does not."""
    done = host.run(["systemctl", "start", "klpd"])
    if done.returncode != 0:
        about = host.run("systemctl status --no-pager --full klpd; journalctl --no-pager --unit klpd")
        raise HarnessError(f"klpd does not start in the test host: {done.stderr}\n{about.stdout}")


def _python_folders(archive: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = [Path("/") / member.name for member in tar.getmembers()]
    folders = {name.parent for name in names if name.suffix == ".py"}
    return sorted(str(folder) for folder in folders if not folders & set(folder.parents))
