# SPDX-License-Identifier: GPL-2.0-or-later
"""Livepatches signed by a key that the site trusts, and by one that only says so."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Final

from tests.livepatches.build import build
from tests.livepatches.signing import certificate, make_key, sign
from tests.vm.livepatches import installed, put_into_tree, set_policy, wait_settled

if TYPE_CHECKING:
    from pathlib import Path

    from tests.vm.host import Host

NAME: Final = "Example livepatches"
FILE: Final = "/lib/modules/$(uname -r)/updates/klp_add.ko"
POLICY: Final = f"""[policy]
trusted-certificates = ["/etc/klpd/certificates"]
untrusted = "deny"

[[livepatch]]
match = {{ signer = "{NAME}" }}
verdict = "allow"
"""

# Whether the kernel verified the modules that come with it, as klpd reads it of each that is loaded.
OWN_MODULES: Final = """
from klpd.kernel.signing import read_verified
from klpd.kernel.sysfs import read_modules
print(*(read_verified(each.name) for each in read_modules() if "O" not in each.taint))
"""


def test_only_the_key_of_a_trusted_certificate_lets_a_livepatch_in(host: Host, tmp_path: Path) -> None:
    own, other = (make_key(tmp_path / name, NAME) for name in ("own.pem", "other.pem"))
    file = build(release=host.run("uname --kernel-release", check=True).stdout.strip())["klp_add"]
    for name, key in (("good", own), ("bad", other)):
        signed = tmp_path / f"{name}.ko"
        shutil.copy(file, signed)
        sign(signed, key)
        host.put(signed, f"/root/{name}.ko")
    host.run("mkdir -p /etc/klpd/certificates", check=True)
    host.write("/etc/klpd/certificates/site.pem", certificate(own))
    set_policy(host, POLICY)
    put_into_tree(host, "klp_add")
    # Neither without a signature, nor with one by a key of the same name.
    for wrong, why in (("klp_add.ko", "it is not signed"), ("bad.ko", "none of the trusted certificates is")):
        host.run(f"cp {wrong} {FILE}", check=True)
        assert "Operation not permitted" in host.run(f"insmod {FILE}").stderr
        said = " ".join(host.run(f"klpctl check {FILE}").stdout.split())
        assert why in said
        assert "/etc/klpd/policy.d/50-test.toml:3" in said
    assert "not verified" in " ".join(host.run("klpctl inspect bad.ko", check=True).stdout.split())
    assert installed(host) == []
    # With the site's own it comes in, and a policy with other certificates knows it no more.
    shown = " ".join(host.run("klpctl inspect good.ko", check=True).stdout.split())
    assert f"by {NAME}" in shown
    assert "verified with /etc/klpd/certificates/site.pem" in shown
    host.run(f"cp good.ko {FILE} && insmod {FILE}", check=True)
    wait_settled(host)
    assert installed(host) == ["klp_add"]
    # The site's key is none of the kernel's, whose own modules it verified; and it does not demand that.
    (told,) = json.loads(host.run("klpctl list --json", check=True).stdout)
    assert told["kernel_verified"] is False
    assert "the kernel does not demand signatures" in shown
    assert json.loads(host.run("klpctl inspect --json good.ko", check=True).stdout)["kernel_demand"] == "nothing"
    verified = host.run(f"python3 -c '{OWN_MODULES}'", check=True).stdout.split()
    assert verified
    assert set(verified) == {"True"}
    host.write("/etc/klpd/certificates/site.pem", certificate(other))
    host.run("systemctl reload klpd", check=True)
    assert "none of the trusted certificates is" in " ".join(host.run(f"klpctl check {FILE}").stdout.split())
    # Broken certificates leave the policy as it was.
    host.write("/etc/klpd/certificates/site.pem", b"no certificate")
    assert host.run("systemctl reload klpd").returncode != 0
    assert "50-test.toml:2:" in host.run("klpctl status").stdout
    # A kernel that is locked down does demand it.
    host.run("echo integrity > /sys/kernel/security/lockdown", check=True)
    assert json.loads(host.run("klpctl inspect --json good.ko").stdout)["kernel_demand"] == "lockdown"
