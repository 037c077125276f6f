# SPDX-License-Identifier: GPL-2.0-or-later
"""What the test harness reads out of apt."""

from __future__ import annotations

from tests.vm.apt import parse_policy

POLICY = """\
systemd:
  Installed: 252.39-1~deb12u2
  Candidate: 252.39-1~deb12u2
  Version table:
 *** 252.39-1~deb12u2 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
        100 /var/lib/dpkg/status
gone:
  Installed: 1.0
  Candidate: (none)
  Version table:
linux-image-cloud-amd64:
  Installed: (none)
  Candidate: 6.1.192-2
  Version table:
     6.1.192-2 500
        500 http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
"""


def test_candidates_are_read_and_packages_without_one_left_out() -> None:
    assert parse_policy(POLICY) == {"systemd": "252.39-1~deb12u2", "linux-image-cloud-amd64": "6.1.192-2"}
