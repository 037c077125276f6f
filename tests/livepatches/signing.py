# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys with certificates, and modules signed with them by the kernel's own sign-file."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.livepatches.headers import find_headers

if TYPE_CHECKING:
    from pathlib import Path

RSA = ("-newkey", "rsa:2048")
ECDSA = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")


def make_key(path: Path, name: str, *options: str, kind: tuple[str, ...] = RSA) -> Path:
    """A new key and its certificate, for the common name `name`, in one PEM file.  `options` are openssl-req(1)'s."""
    subject = ("-utf8", "-subj", f"/O=klpd/CN={name}", *(options or ("-days", "2")))
    _run("openssl", "req", "-x509", *kind, "-nodes", *subject, "-keyout", path, "-out", path)
    return path


def sign(module: Path, key: Path, digest: str = "sha256", *options: str) -> None:
    """Append a signature to a module."""
    _run(find_headers().folder / "scripts/sign-file", *options, digest, key, key, module)


def certificate(key: Path, form: str = "PEM") -> bytes:
    """The certificate alone, PEM or DER."""
    return _run("openssl", "x509", "-in", key, "-outform", form)


def _run(*command: str | Path) -> bytes:
    return subprocess.run(command, check=True, capture_output=True).stdout
