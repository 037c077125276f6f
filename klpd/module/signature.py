# SPDX-License-Identifier: GPL-2.0-or-later
"""The signature at the end of a module, and what it claims: nothing here is verified.

Its content is a CMS SignedData (RFC 5652) with no certificate in it, since the kernel has those.  What is shown is
what modinfo(8) shows.
"""

from __future__ import annotations

import struct
from typing import Final

from klpd.errors import ModuleFormatError
from klpd.model import Signature
from klpd.module.der import CONSTRUCTED, CONTEXT_0, INTEGER, SEQUENCE, SET, Element

LARGEST_SIGNATURE: Final = 64 << 10
"""In bytes; one by a 4096 bit RSA key has some 700."""

# include/linux/module_signature.h: MODULE_SIG_STRING, and struct module_signature: zeros but for id_type and sig_len
_MARKER: Final = b"~Module signature appended~\n"
_TRAILER: Final = struct.Struct(">8sI")
_PKEY_ID_PKCS7: Final = bytes([0, 0, 2, 0, 0, 0, 0, 0])

_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
_COMMON_NAME: Final = "2.5.4.3"
_BMP_STRING: Final = 0x1E
_DIGESTS: Final = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.8": "sha3-256",
    "2.16.840.1.101.3.4.2.9": "sha3-384",
    "2.16.840.1.101.3.4.2.10": "sha3-512",
    "1.2.156.10197.1.401": "sm3",
}


def read_signature(data: bytes) -> Signature | None:
    """What the signature of a module claims; None if there is none.  Of several signers the first is shown.

    Raises ModuleFormatError where it cannot be read.  The kernel refuses to load such a module, whether or not it
    demands signatures (kernel/module/signing.c, module_sig_check).
    """
    if not data.endswith(_MARKER):
        return None
    end = len(data) - len(_MARKER) - _TRAILER.size
    if end < 0:
        raise ModuleFormatError("its signature is truncated")
    kind, size = _TRAILER.unpack_from(data, end)
    if kind != _PKEY_ID_PKCS7:
        raise ModuleFormatError("its signature is not of the one kind that the kernel takes, PKCS#7")
    if size > min(end, LARGEST_SIGNATURE):
        raise ModuleFormatError(f"its signature claims to have {size} bytes")
    return _read_signed_data(Element.parse(data[end - size : end]))


def _read_signed_data(content_info: Element) -> Signature:
    kind, content = _members(content_info.expect(SEQUENCE), 2)
    if kind.oid != _SIGNED_DATA:
        raise ModuleFormatError(f"its signature is no signed data, but a {kind.oid}")
    (signed_data,) = _members(content.expect(CONTEXT_0 | CONSTRUCTED), 1)
    *_, signers = _members(signed_data.expect(SEQUENCE), 4)
    signer, *_ = _members(signers.expect(SET), 1)
    _version, key, digest, *_ = _members(signer.expect(SEQUENCE), 5)
    name, key_id = _read_key(key)
    algorithm, *_ = _members(digest.expect(SEQUENCE), 1)
    return Signature(name, _readable(key_id), _DIGESTS.get(algorithm.oid, algorithm.oid))


def _read_key(key: Element) -> tuple[str | None, bytes]:
    """Of a SignerIdentifier: the signer's name, if it is told, and the serial number or the key id."""
    if key.tag == CONTEXT_0:
        return None, key.content
    issuer, serial = _members(key.expect(SEQUENCE), 2)
    return _common_name(issuer.expect(SEQUENCE)), serial.expect(INTEGER).content


def _common_name(name: Element) -> str | None:
    for part in name.children():
        for attribute in part.expect(SET).children():
            kind, value = _members(attribute.expect(SEQUENCE), 2)
            if kind.oid == _COMMON_NAME:
                encoding = "utf-16-be" if value.tag == _BMP_STRING else "utf-8"
                return value.content.decode(encoding, "backslashreplace")
    return None


def _members(element: Element, least: int) -> list[Element]:
    members = list(element.children())
    if len(members) < least:
        raise ModuleFormatError(f"its signature has an element of {len(members)} parts, and {least} belong there")
    return members


def _readable(key_id: bytes) -> str:
    return key_id.hex(":").upper()
