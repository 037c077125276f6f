# SPDX-License-Identifier: GPL-2.0-or-later
"""klpctl beside klpd and without it, on a real kernel: it tells the same of what is in force, and of what may come."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from tests.livepatches.build import build
from tests.vm.livepatches import ALLOW_ALL, put_livepatches, set_policy

if TYPE_CHECKING:
    from tests.vm.host import Host

FOLDER: Final = "/srv/livepatches"
POLICY: Final = ALLOW_ALL + f'directories = ["{FOLDER}"]\n[[state]]\nid = 7\nsticky = true\n'
MANIFEST: Final = '[livepatch]\nsha256 = "{digest}"\n\n[[state]]\nid = {id}\nversion = 1\n'
FILES: Final = ("klp_add_v2", "klp_sticky", "klp_cmdline_v1")


def told(host: Host) -> dict[str, object]:
    """What klpctl tells of the stack and of the files, and how it ends."""
    answers: dict[str, object] = {}
    for each in FILES:
        check = host.run(f"klpctl check --json {FOLDER}/{each}.ko")
        complaints = [line for line in check.stderr.splitlines() if "judged without klpd" not in line]
        answers[each] = check.returncode, json.loads(check.stdout or "null"), complaints
    answers["list"] = json.loads(host.run("klpctl list --json", check=True).stdout)
    return answers


def test_klpctl_tells_the_same_with_klpd_and_without(host: Host) -> None:
    built = build(release=host.run("uname --kernel-release", check=True).stdout.strip())
    digests = {each: hashlib.sha256(built[each].read_bytes()).hexdigest() for each in (*FILES, "klp_add_stateless")}
    # A manifest of the site's about what is in force; files where only the policy says that they are; one with a
    # manifest beside it that is somebody else's, and one in force whose manifest cannot be read any more.
    site = MANIFEST.format(digest=digests["klp_add_stateless"], id=7)
    host.write("/etc/klpd/livepatches.d/site.toml", site.encode())
    put_livepatches(host, "klp_add_stateless", *FILES)
    host.run(f"mkdir -p {FOLDER} && cp {' '.join(f'{each}.ko' for each in FILES)} {FOLDER}/", check=True)
    set_policy(host, POLICY)
    host.run(f"klpctl apply klp_add_stateless.ko {FOLDER}/klp_sticky.ko", check=True)
    host.write(f"{FOLDER}/klp_sticky.livepatch.toml", b"[livepatch\n")
    host.write(f"{FOLDER}/klp_add_v2.livepatch.toml", MANIFEST.format(digest=digests["klp_add_v2"], id=8).encode())
    host.run(f"chown nobody {FOLDER}/klp_add_v2.livepatch.toml && systemctl reload klpd", check=True)

    with_klpd = told(host)
    host.run("systemctl stop klpd", check=True)
    assert told(host) == with_klpd
    in_force = with_klpd["list"]
    assert isinstance(in_force, list)
    (site_says,) = [each["declared"]["states"] for each in in_force if each["name"] == "klp_add_stateless"]
    assert [each["id"] for each in site_says] == [7]
