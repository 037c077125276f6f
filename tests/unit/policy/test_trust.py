# SPDX-License-Identifier: GPL-2.0-or-later
"""Signatures made by sign-file and openssl-cms(1), verified with the certificates that a policy names."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from klpd import module
from klpd.judge.drift import judge_installed
from klpd.judge.verdict import judge
from klpd.model import Decision, Installed, Load, Stack, Standing
from tests.livepatches.signing import ECDSA, RSA, certificate, make_key, sign
from tests.unit.module.compilers import example

if TYPE_CHECKING:
    from pathlib import Path

    from klpd.judge.rules import Policy
    from klpd.model import Livepatch, Trust
    from tests.unit.policy.site import Site

NAME = "klpd's own"
DENY = 'untrusted = "deny"'


def expire(key: Path) -> Path:
    """Make the certificate one that was valid in 1999, which openssl-req(1) would not."""
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    old = (
        x509.CertificateBuilder(name, name, private.public_key(), 7)
        .not_valid_before(datetime(1999, 1, 1))  # noqa: DTZ001  it takes UTC without saying so
        .not_valid_after(datetime(1999, 12, 31))  # noqa: DTZ001
        .sign(private, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    pem = serialization.Encoding.PEM
    key.write_bytes(private.private_bytes(pem, form, plain) + old.public_bytes(pem))
    return key


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Keys, most of them of the same name."""
    folder = tmp_path_factory.mktemp("keys")
    return {
        "rsa": make_key(folder / "rsa.pem", NAME),
        "ecdsa": make_key(folder / "ecdsa.pem", NAME, kind=ECDSA),
        "namesake": make_key(folder / "namesake.pem", NAME),
        "impostor": make_key(folder / "impostor.pem", NAME, "-set_serial", "7", "-days", "2"),
        "imitated": make_key(folder / "imitated.pem", NAME, "-set_serial", "7", "-days", "2"),
        "expired": expire(make_key(folder / "expired.pem", NAME)),
        "other": make_key(folder / "other.pem", "somebody else"),
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "example.ko"
    path.write_bytes(example())
    return path


def policy(site: Site, *certificates: Path, settings: str = "", rules: str = "") -> Policy:
    """One that trusts the certificates in these files."""
    named = ", ".join(f'"{each}"' for each in certificates)
    return site.policy(f"[policy]\ntrusted-certificates = [{named}]\n{settings}\n{rules}")


def read(file: Path) -> Livepatch:
    return module.read_livepatch(file.read_bytes(), file=str(file))


def trust(file: Path, site: Site, *certificates: Path) -> Trust:
    return policy(site, *certificates).trust(read(file))


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
@pytest.mark.parametrize("options", [(), ("-k",)], ids=["by-serial", "by-key-id"])
def test_a_signature_by_a_trusted_key_is_trusted(
    keys: dict[str, Path], file: Path, site: Site, kind: str, digest: str, options: tuple[str, ...]
) -> None:
    sign(file, keys[kind], digest, *options)
    found = trust(file, site, keys["other"], keys[kind])
    assert (found.standing, found.signer) == (Standing.TRUSTED, NAME)
    assert str(keys[kind]) in (found.detail or "")


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_certificates_in_a_directory_count_in_either_form(
    keys: dict[str, Path], file: Path, site: Site, tmp_path: Path, form: str
) -> None:
    sign(file, keys["rsa"])
    folder = tmp_path / "certificates"
    folder.mkdir()
    (folder / "README").write_text("none")
    (folder / f"site.{form.lower()}").write_bytes(certificate(keys["rsa"], form))
    assert trust(file, site, folder).standing is Standing.TRUSTED


def test_a_file_may_have_several_certificates(keys: dict[str, Path], file: Path, site: Site, tmp_path: Path) -> None:
    sign(file, keys["rsa"])
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(certificate(keys["other"]) + certificate(keys["rsa"]))
    assert trust(file, site, bundle).standing is Standing.TRUSTED


def test_an_expired_certificate_counts_as_it_does_for_the_kernel_and_its_end_is_told(
    keys: dict[str, Path], file: Path, site: Site
) -> None:
    sign(file, keys["expired"])
    found = trust(file, site, keys["expired"])
    assert found.standing is Standing.TRUSTED
    assert "valid until 1999-12-31" in (found.detail or "")


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_module_that_was_changed_after_it_was_signed_is_not_trusted(
    keys: dict[str, Path], file: Path, site: Site, at: float
) -> None:
    before = len(file.read_bytes())
    sign(file, keys["rsa"])
    data = bytearray(file.read_bytes())
    described = read(file)
    data[int(before * at)] ^= 1
    from klpd.module.signature import read_signature

    changed = replace(described, signature=read_signature(bytes(data)))
    found = policy(site, keys["rsa"]).trust(changed)
    assert found.standing is Standing.UNTRUSTED
    assert "changed after it was signed" in (found.detail or "")


def test_a_certificate_of_the_same_name_is_another_one(keys: dict[str, Path], file: Path, site: Site) -> None:
    sign(file, keys["namesake"])
    found = trust(file, site, keys["rsa"])
    assert found.standing is Standing.UNTRUSTED
    assert "none of the trusted certificates" in (found.detail or "")
    assert trust(file, site, keys["rsa"], keys["namesake"]).standing is Standing.TRUSTED


def test_who_takes_on_a_name_and_serial_number_lacks_the_key(keys: dict[str, Path], file: Path, site: Site) -> None:
    sign(file, keys["impostor"])
    assert trust(file, site, keys["imitated"]).standing is Standing.UNTRUSTED
    assert trust(file, site, keys["imitated"], keys["impostor"]).standing is Standing.TRUSTED


def test_sha1_is_not_relied_on(keys: dict[str, Path], file: Path, site: Site) -> None:
    sign(file, keys["rsa"], "sha1")
    found = trust(file, site, keys["rsa"])
    assert (found.standing, found.detail) == (
        Standing.UNTRUSTED,
        "its signature relies on sha1, which is not to be relied on",
    )


@pytest.mark.parametrize(
    ("options", "flaw"),
    [
        (("-noattr",), None),
        ((), "signed attributes"),
        (("-noattr", "-nodetach"), "content of its own"),
    ],
)
def test_openssl_signs_as_the_kernel_takes_it_or_not(
    keys: dict[str, Path], file: Path, site: Site, options: tuple[str, ...], flaw: str | None
) -> None:
    key = keys["rsa"]
    command = ("openssl", "cms", "-sign", "-binary", "-nocerts", "-outform", "DER", "-md", "sha256", *options)
    done = subprocess.run((*command, "-signer", key, "-in", file), check=True, capture_output=True)
    trailer = bytes([0, 0, 2, 0, 0, 0, 0, 0]) + len(done.stdout).to_bytes(4, "big") + b"~Module signature appended~\n"
    file.write_bytes(file.read_bytes() + done.stdout + trailer)
    found = trust(file, site, key)
    if flaw is None:
        assert found.standing is Standing.TRUSTED
    else:
        assert found.standing is Standing.UNTRUSTED
        assert flaw in (found.detail or "")


def test_without_certificates_nothing_is_verified(keys: dict[str, Path], file: Path, site: Site) -> None:
    assert trust(file, site).standing is Standing.UNSIGNED
    sign(file, keys["rsa"])
    assert trust(file, site).standing is Standing.UNVERIFIED


def test_a_rule_on_a_signer_is_about_what_was_verified_and_never_a_claim(
    keys: dict[str, Path], file: Path, site: Site
) -> None:
    rules = f'[[livepatch]]\nmatch = {{ signer = "{NAME}" }}\nverdict = "allow"'
    sign(file, keys["namesake"])
    there = Installed.expected(read(file))

    def verdict(key: str) -> Decision:
        return judge_installed(there, policy(site, keys[key], rules=rules)).decision

    assert verdict("namesake") is Decision.ALLOW
    assert verdict("rsa") is Decision.DENY
    assert verdict("other") is Decision.DENY


@pytest.mark.parametrize("signed", [False, True])
def test_a_livepatch_that_is_not_trusted_is_denied_where_it_has_to_be_with_the_rule(
    keys: dict[str, Path], file: Path, site: Site, signed: bool
) -> None:
    if signed:
        sign(file, keys["namesake"])
    strict = policy(site, keys["rsa"], settings=DENY, rules='[[livepatch]]\nmatch = { name = "*" }\nverdict = "allow"')
    (finding,) = [each for each in judge(Stack(), Load(read(file)), strict).findings if each.code == "signature"]
    assert finding.decision is Decision.DENY
    assert (finding.rule.line, finding.remedy is not None) == (3, True)
    assert finding.message.endswith(policy(site, keys["rsa"]).trust(read(file)).detail or "?")


def test_what_is_in_force_is_asked_for_its_signature_as_far_as_its_file_is_known(
    keys: dict[str, Path], file: Path, site: Site
) -> None:
    sign(file, keys["rsa"])
    there = Installed.expected(read(file))
    strict = policy(site, keys["rsa"], settings=f'{DENY}\ndefault = "allow"')
    assert judge_installed(there, strict).decision is Decision.ALLOW
    unknown = judge_installed(replace(there, digest=None, signature=None), strict)
    assert "not known" in unknown.reasons[0].message


def test_the_last_file_says_which_certificates_count(keys: dict[str, Path], file: Path, site: Site) -> None:
    sign(file, keys["rsa"])
    texts = [f'[policy]\ntrusted-certificates = ["{keys[each]}"]' for each in ("rsa", "other")]
    assert site.policy(*texts).trust(read(file)).standing is Standing.UNTRUSTED
    assert site.policy(*reversed(texts)).trust(read(file)).standing is Standing.TRUSTED


# The version of a certificate in DER: a number in [0], one less than its name (RFC 5280, 4.1)
_VERSION_3, _VERSION_11 = (bytes([0xA0, 3, 2, 1, number]) for number in (2, 10))


def test_what_is_no_certificate_is_complained_about_with_its_place(site: Site, tmp_path: Path) -> None:
    ed25519 = make_key(tmp_path / "ed25519.pem", NAME, kind=("-newkey", "ed25519"))
    key = make_key(tmp_path / "rsa.pem", NAME)
    bad = tmp_path / "bad.pem"
    wrong = {
        b"": "is no certificate, PEM or DER",
        b"\x30\x82\x01": "is no certificate, PEM or DER",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n": "is no certificate, PEM or DER",
        b"-----BEGIN NOTHING-----\nAAAA\n-----END NOTHING-----\n": f'in {bad}; what it has is "NOTHING"',
        key.read_bytes().partition(b"-----BEGIN CERT")[0]: "there is no certificate in",
        certificate(key).replace(
            b" CERTIFICATE-", b" TRUSTED CERTIFICATE-"
        ): f"make a plain one of it: openssl x509 -in {bad}",
        certificate(ed25519): "is neither RSA nor ECDSA",
        certificate(ed25519, "DER").replace(_VERSION_3, _VERSION_11): "is of a version that X.509 does not have",
    }
    for content, message in wrong.items():
        bad.write_bytes(content)
        (complaint,) = site.complaints(f'[policy]\ntrusted-certificates = [\n  "{bad}"\n]')
        assert complaint.startswith("3:3: trusted-certificates: ")
        assert message in complaint
        assert str(bad) in complaint


def test_every_certificate_of_a_directory_that_is_no_good_is_told(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    make_key(folder / "b.pem", NAME)
    for name in ("a.pem", "c.der"):
        (folder / name).write_bytes(b"nothing")
    (folder / "d.pem").symlink_to("nowhere")
    complaints = site.complaints(f'[policy]\ntrusted-certificates = ["{folder}"]')
    assert [each.split("certificates: ")[1].split(":")[0] for each in complaints] == [
        f"{folder}/a.pem is no certificate, PEM or DER",
        f"{folder}/c.der is no certificate, PEM or DER",
        f"{folder}/d.pem",
    ]


def test_without_the_library_certificates_are_an_error(
    keys: dict[str, Path], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in [each for each in sys.modules if each.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, each)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    (complaint,) = site.complaints(f'[policy]\ntrusted-certificates = ["{keys["rsa"]}"]')
    assert "python3-cryptography, which is not installed" in complaint


def test_keys_of_other_sizes_are_verified_too(file: Path, site: Site, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key.pem", NAME, kind=(RSA[0], "rsa:4096"))
    sign(file, key)
    assert trust(file, site, key).standing is Standing.TRUSTED
