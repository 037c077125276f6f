# SPDX-License-Identifier: GPL-2.0-or-later
"""The certificates that a policy trusts, read from the files and directories that it names."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from klpd.errors import PolicyError
from klpd.policy.convert import Misfit, absolute_path
from klpd.policy.ownership import ROOT, reach
from klpd.policy.show import quoted, shown
from klpd.policy.source import open_source, read_open
from klpd.policy.trust import Certificate

MOST_FILES: Final = 256
"""In one directory."""
MOST_CERTIFICATES: Final = 256
"""In one file."""
SUFFIXES: Final = (".pem", ".crt", ".cer", ".der", ".x509")
"""What the names of certificates in a directory end in; other files are passed over."""

_ARMOR: Final = b"-----BEGIN"
_TRUSTED: Final = "TRUSTED CERTIFICATE"


def certificate_files(value: object, owner: int | None = ROOT) -> tuple[Certificate, ...]:
    """The certificates at an absolute path: of a file, PEM (also several) or DER, or of the files in a directory.

    `owner`: whose they have to be, as for klpd.policy.ownership.reach.
    """
    path = Path(absolute_path(value))
    _check_libraries()
    try:
        reach(path, owner)
        files = _files_in(path) if stat.S_ISDIR(path.stat().st_mode) else (path,)
    except PolicyError as error:
        raise Misfit(f"{error.file}: {error.message}") from None
    except OSError as error:
        raise Misfit(f"{shown(path)} cannot be read: {error.strerror}") from None
    found: list[Certificate] = []
    wrong: list[Misfit] = []
    for file in files:
        try:
            reach(file, owner)
            found += _read(file)
        except PolicyError as error:
            wrong.append(Misfit(f"{error.file}: {error.message}"))
        except Misfit as misfit:
            wrong.append(misfit)
    if wrong:
        raise Misfit(wrong[0].message, others=tuple(wrong[1:]))
    return tuple(found)


def _check_libraries() -> None:
    try:
        import cryptography.x509  # noqa: F401  the judge is not to wait for it
    except ImportError:
        raise Misfit("verifying signatures takes python3-cryptography, which is not installed") from None


def _files_in(folder: Path) -> tuple[Path, ...]:
    files = sorted(each for each in folder.iterdir() if each.suffix in SUFFIXES and not each.name.startswith("."))
    if len(files) > MOST_FILES:
        raise Misfit(f"{shown(folder)} has {len(files)} certificates; {MOST_FILES} are taken")
    return tuple(files)


def _read(file: Path) -> tuple[Certificate, ...]:
    name = shown(file)
    try:
        fd = open_source(file)
    except OSError as error:
        raise Misfit(f"{name} cannot be read: {error.strerror}") from None
    try:
        data = read_open(fd, name)
    except PolicyError as error:
        raise Misfit(f"{name}: {error.message}") from None
    finally:
        os.close(fd)
    from klpd.module.signature import PARSER_ERRORS

    try:
        encoded = _unarmored(data, name) if _ARMOR in data else (data,)
        certificates = tuple(_parse(each, name) for each in encoded)
    except Misfit:
        raise
    except PARSER_ERRORS:
        raise Misfit(f"{name} is no certificate, PEM or DER") from None
    if len(certificates) > MOST_CERTIFICATES:
        raise Misfit(f"{name} has {len(certificates)} certificates; {MOST_CERTIFICATES} are taken")
    return certificates


def _unarmored(data: bytes, file: str) -> tuple[bytes, ...]:
    from asn1crypto import pem

    blocks = [(kind, der) for kind, _headers, der in pem.unarmor(data, multiple=True)]
    found = tuple(der for kind, der in blocks if kind == "CERTIFICATE")
    kinds = sorted({kind for kind, _der in blocks})
    if _TRUSTED in kinds:
        raise Misfit(
            f"{file} has a {_TRUSTED}, to which openssl adds what it trusts it with; make a plain one of it: "
            f"openssl x509 -in {file} -out FILE"
        )
    if not found:
        has = f"; what it has is {quoted(' and '.join(kinds))}" if kinds else ""
        raise Misfit(f"there is no certificate in {file}{has}")
    return found


def _parse(encoded: bytes, file: str) -> Certificate:
    from asn1crypto import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.x509 import InvalidVersion, load_der_x509_certificate

    from klpd.module.signature import common_name, readable, serial_number

    try:
        key = load_der_x509_certificate(encoded).public_key()
    except UnsupportedAlgorithm:
        key = None
    except InvalidVersion:
        raise Misfit(f"the certificate in {file} is of a version that X.509 does not have") from None
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise Misfit(f"the key in {file} is neither RSA nor ECDSA; klpd verifies no others")
    certificate = x509.Certificate.load(encoded, strict=True)
    key_id = certificate.key_identifier
    return Certificate(
        file=file,
        name=common_name(certificate.subject) or certificate.subject.human_friendly,
        issuer=certificate.issuer.dump().hex(),
        serial=serial_number(certificate["tbs_certificate"]["serial_number"].contents),
        key_id=None if key_id is None else readable(key_id),
        valid_until=certificate.not_valid_after.date().isoformat(),
        encoded=encoded,
    )
