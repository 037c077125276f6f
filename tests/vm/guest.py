# SPDX-License-Identifier: GPL-2.0-or-later
"""How the guest differs from a Debian fresh from its packages: a few files, all listed here, and the agent."""

from __future__ import annotations

from pathlib import Path
from typing import Final

HOSTNAME: Final = "klpd-test"
CONSOLE: Final = "ttyS0"
_AGENT_FOLDER: Final = "usr/lib/klpd-test-host"
_PROJECT: Final = Path(__file__).resolve().parents[2]
_AGENT_SOURCES: Final = ("tests/__init__.py", "tests/vm/__init__.py", "tests/vm/agent.py", "tests/vm/frames.py")
_AGENT_UNIT: Final = f"""\
[Unit]
Description=Agent of the test host
# In the way of nothing and waiting for nothing: it must be there when the rest is broken.
DefaultDependencies=no

[Service]
Type=exec
ExecStart=/usr/bin/python3 -B -m tests.vm.agent
WorkingDirectory=/{_AGENT_FOLDER}
Restart=always
TasksMax=infinity
"""
_JOURNAL: Final = """\
[Journal]
Storage=volatile
# A test that looks for an entry must find it, however many there are.
RateLimitBurst=0
"""
# Nobody logs in on a console, nor over ssh before a test starts a server, and a host that lives for seconds needs no
# housekeeping.  What writes down the random seed, the boot or the hardware clock would only slow down the boot.
_MASKED: Final = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    f"serial-getty@{CONSOLE}.service",
    "ssh.service",
    "systemd-hwdb-update.service",
    "systemd-random-seed.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
)


def files() -> dict[str, str]:
    """Path (from the root, without the first slash) and text of each file that is put into the guest."""
    return {
        "etc/fstab": "",
        "etc/hostname": f"{HOSTNAME}\n",
        "etc/hosts": f"127.0.0.1 localhost {HOSTNAME}\n",
        "etc/machine-id": "6b6c706474657374686f737400000001\n",
        "etc/modules-load.d/agent.conf": "virtio_console\n",
        "etc/systemd/journald.conf.d/test-host.conf": _JOURNAL,
        "etc/systemd/system/klpd-test-agent.service": _AGENT_UNIT,
        **{f"{_AGENT_FOLDER}/{path}": (_PROJECT / path).read_text() for path in _AGENT_SOURCES},
    }


def links() -> dict[str, str]:
    """Path and target of each symbolic link that is put into the guest."""
    units = "etc/systemd/system"
    return {
        **{f"{units}/{unit}": "/dev/null" for unit in _MASKED},
        f"{units}/default.target": "/usr/lib/systemd/system/multi-user.target",
        f"{units}/sysinit.target.wants/klpd-test-agent.service": f"/{units}/klpd-test-agent.service",
    }
