# SPDX-License-Identifier: GPL-2.0-or-later
"""What a module's signature claims, in signatures made by the kernel's own sign-file, and in broken ones."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from klpd import module
from klpd.errors import ModuleFormatError
from klpd.model import Signature
from tests.livepatches.headers import find_headers
from tests.unit.module.compilers import example

if TYPE_CHECKING:
    from pathlib import Path

MARKER = b"~Module signature appended~\n"
NAME = "klpd's test key, 签"


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key with its certificate."""
    path = tmp_path_factory.mktemp("key") / "key.pem"
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-utf8", "-subj", f"/O=klpd/CN={NAME}", "-days", "2"]
    run("openssl", "req", *options, "-keyout", path, "-out", path)
    return path


@pytest.fixture
def module_file(tmp_path: Path) -> Path:
    path = tmp_path / "example.ko"
    path.write_bytes(example())
    return path


def sign(path: Path, key: Path, digest: str = "sha256", *options: str) -> Signature:
    run(find_headers().folder / "scripts/sign-file", *options, digest, key, key, path)
    signature = module.read_livepatch(path.read_bytes(), file="").signature
    assert signature is not None
    return signature


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_modinfo_says_the_same(digest: str, key: Path, module_file: Path) -> None:
    found = sign(module_file, key, digest)

    said = [run("modinfo", "-F", field, module_file).strip() for field in ("signer", "sig_key", "sig_hashalgo")]
    assert [found.signer, found.key_id, found.hash_algorithm] == said
    assert (found.signer, found.hash_algorithm) == (NAME, digest)


def test_a_signer_may_be_known_by_a_key_id_only(key: Path, module_file: Path) -> None:
    found = sign(module_file, key, "sha256", "-k")

    printed = run("openssl", "x509", "-in", key, "-noout", "-ext", "subjectKeyIdentifier")
    assert found == Signature(None, printed.split()[-1], "sha256")


def test_a_module_without_a_signature_has_none() -> None:
    assert module.read_livepatch(example(), file="").signature is None


def test_a_signature_changes_nothing_else(key: Path, module_file: Path) -> None:
    unsigned = module.read_livepatch(module_file.read_bytes(), file="")
    sign(module_file, key)

    signed = module.read_livepatch(module_file.read_bytes(), file="")

    assert (signed.states, signed.objects, signed.vermagic) == (unsigned.states, unsigned.objects, unsigned.vermagic)
    assert signed.digest != unsigned.digest


def appended(content: bytes, *, kind: int = 2, size: int | None = None) -> bytes:
    size = len(content) if size is None else size
    return content + bytes([0, 0, kind, 0, 0, 0, 0, 0]) + size.to_bytes(4, "big") + MARKER


BROKEN = {
    "another kind": (appended(b"", kind=1), "is not of the one kind that the kernel takes, PKCS#7"),
    "too long for the file": (appended(b"", size=1 << 20), "claims to have 1048576 bytes"),
    "empty": (appended(b""), "is truncated"),
    "one byte": (appended(b"\x30"), "is truncated"),
    "half an element": (appended(b"\x30\x05\x06"), "is truncated"),
    "more than one element": (appended(b"\x30\x00\x30\x00"), "has 2 bytes too many"),
    "an element of another kind": (appended(b"\x31\x00"), "has an element 0x31 where 0x30 belongs"),
    "nothing inside": (appended(b"\x30\x00"), "has an element of 0 parts, and 2 belong there"),
    "indefinite length": (appended(b"\x30\x80\x00\x00"), "has an element without an end"),
    "length of lengths": (appended(b"\x30\x85\x00\x00\x00\x00\x01\x00"), "has an element without an end"),
    "long form of a short length": (appended(b"\x30\x81\x01\x00"), "has a length that is not as short as can be"),
    "long tag": (appended(b"\x3f\x81\x01\x00"), "has an element of an unknown kind"),
    "object identifier without an end": (appended(b"\x30\x05\x06\x01\x80\x30\x00"), "has a broken object identifier"),
    "object identifier of nothing": (appended(b"\x30\x04\x06\x00\x30\x00"), "has a broken object identifier"),
    "no signed data": (appended(b"\x30\x05\x06\x01\x2a\x30\x00"), "is no signed data, but a 1.2"),
}


@pytest.mark.parametrize(("end", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_signature_that_cannot_be_read_is_an_error(end: bytes, message: str) -> None:
    with pytest.raises(ModuleFormatError) as caught:
        module.read_livepatch(example() + end, file="bad.ko")

    assert str(caught.value) == f"bad.ko: its signature {message}"


def test_nothing_but_the_marker_is_no_module() -> None:
    with pytest.raises(ModuleFormatError):
        module.read_livepatch(MARKER, file="bad.ko")
