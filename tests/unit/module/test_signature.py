# SPDX-License-Identifier: GPL-2.0-or-later
"""What a module's signature claims, in signatures made by the kernel's own sign-file, and in broken ones."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from klpd import module
from klpd.errors import ModuleFormatError
from klpd.module.signature import LARGEST_SIGNATURE, read_signature
from tests.livepatches import signing
from tests.livepatches.signing import make_key
from tests.unit.module.compilers import example

if TYPE_CHECKING:
    from pathlib import Path

    from klpd.model import Signature

MARKER = b"~Module signature appended~\n"
NAME = "klpd's test key, 签"


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("key") / "key.pem", NAME)


@pytest.fixture
def module_file(tmp_path: Path) -> Path:
    path = tmp_path / "example.ko"
    path.write_bytes(example())
    return path


def signed(path: Path, key: Path, digest: str = "sha256", *options: str) -> Signature:
    signing.sign(path, key, digest, *options)
    signature = module.read_livepatch(path.read_bytes(), file="").signature
    assert signature is not None
    return signature


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_modinfo_says_the_same(digest: str, key: Path, module_file: Path) -> None:
    found = signed(module_file, key, digest)

    said = [run("modinfo", "-F", field, module_file).strip() for field in ("signer", "sig_key", "sig_hashalgo")]
    assert [found.signer, found.key_id, found.hash_algorithm] == said
    assert (found.signer, found.hash_algorithm) == (NAME, digest)


@pytest.mark.parametrize("serial", ["0x9f01", "0x0102", "0xff"])
def test_a_serial_number_is_shown_as_modinfo_shows_it(serial: str, tmp_path: Path, module_file: Path) -> None:
    found = signed(module_file, make_key(tmp_path / "key.pem", NAME, "-days", "2", "-set_serial", serial))
    assert found.key_id == run("modinfo", "-F", "sig_key", module_file).strip()


def test_a_signer_may_be_known_by_a_key_id_only(key: Path, module_file: Path) -> None:
    found = signed(module_file, key, "sha256", "-k")

    printed = run("openssl", "x509", "-in", key, "-noout", "-ext", "subjectKeyIdentifier")
    assert (found.signer, found.key_id, found.hash_algorithm) == (None, printed.split()[-1], "sha256")


def test_a_module_without_a_signature_has_none() -> None:
    assert module.read_livepatch(example(), file="").signature is None


def test_a_signature_changes_nothing_else(key: Path, module_file: Path) -> None:
    unsigned = module.read_livepatch(module_file.read_bytes(), file="")
    signing.sign(module_file, key)

    after = module.read_livepatch(module_file.read_bytes(), file="")

    assert (after.states, after.objects, after.vermagic) == (unsigned.states, unsigned.objects, unsigned.vermagic)
    assert after.digest != unsigned.digest


def appended(content: bytes, *, kind: int = 2, size: int | None = None) -> bytes:
    size = len(content) if size is None else size
    return content + bytes([0, 0, kind, 0, 0, 0, 0, 0]) + size.to_bytes(4, "big") + MARKER


UNREADABLE = "is no CMS signed data that can be read"
BROKEN = {
    "another kind": (appended(b"", kind=1), "is not of the one kind that the kernel takes, PKCS#7"),
    "too long for the file": (appended(b"", size=1 << 20), "claims to have 1048576 bytes"),
    "empty": (appended(b""), UNREADABLE),
    "one byte": (appended(b"\x30"), UNREADABLE),
    "half an element": (appended(b"\x30\x05\x06"), UNREADABLE),
    "more than one element": (appended(b"\x30\x00\x30\x00"), UNREADABLE),
    "an element of another kind": (appended(b"\x31\x00"), UNREADABLE),
    "nothing inside": (appended(b"\x30\x00"), UNREADABLE),
    "indefinite length": (appended(b"\x30\x80\x00\x00"), UNREADABLE),
    "no signed data": (
        appended(bytes.fromhex("300f 06092a864886f70d010701 a0020400")),
        "is CMS, but no signed data",
    ),
    "signed data of nothing": (appended(bytes.fromhex("300f 06092a864886f70d010702 a0023000")), UNREADABLE),
    "deep": (appended(b"\x30\x80" * 5000), UNREADABLE),
}


@pytest.mark.parametrize(("end", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_signature_that_cannot_be_read_is_an_error(end: bytes, message: str) -> None:
    with pytest.raises(ModuleFormatError) as caught:
        module.read_livepatch(example() + end, file="bad.ko")

    assert str(caught.value) == f"bad.ko: its signature {message}"


def test_the_worst_object_identifier_takes_no_second() -> None:
    element = b"\x06\x82" + (LARGEST_SIGNATURE - 64).to_bytes(2, "big") + b"\xff" * (LARGEST_SIGNATURE - 65) + b"\x01"
    worst = b"\x30\x82" + (len(element) + 4).to_bytes(2, "big") + element + b"\xa0\x02\x04\x00"
    begin = time.process_time()
    with pytest.raises(ModuleFormatError):
        read_signature(appended(worst))
    assert time.process_time() - begin < 1


def test_nothing_but_the_marker_is_no_module() -> None:
    with pytest.raises(ModuleFormatError):
        module.read_livepatch(MARKER, file="bad.ko")
