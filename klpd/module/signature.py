# SPDX-License-Identifier: GPL-2.0-or-later
"""The signature at the end of a module: what it claims, and what it takes to verify that.

Its content is a CMS SignedData (RFC 5652) with no certificate in it, since the kernel has those.  What is shown is
what modinfo(8) shows.  Nothing is verified here; klpd.policy.trust does that.
"""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Final

from klpd.errors import ModuleFormatError
from klpd.model import Signature, SignatureProof

if TYPE_CHECKING:
    from asn1crypto.core import Field

LARGEST_SIGNATURE: Final = 16 << 10
"""In bytes; one by a 4096 bit RSA key has some 700.  asn1crypto takes seconds for an object identifier of 64 KiB."""

# include/linux/module_signature.h: MODULE_SIG_STRING, and struct module_signature: zeros but for id_type and sig_len
_MARKER: Final = b"~Module signature appended~\n"
_TRAILER: Final = struct.Struct(">8sI")
_PKEY_ID_PKCS7: Final = bytes([0, 0, 2, 0, 0, 0, 0, 0])

_DIGESTS: Final = {"sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512"}
"""Those that a signature can be trusted with, as the kernel and hashlib (with "_") call them."""
_SM3: Final = "1.2.156.10197.1.401"
PARSER_ERRORS: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""What asn1crypto raises for bytes that are not what they should be."""


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
    try:
        return _read_signed_data(data[end - size : end], memoryview(data)[: end - size])
    except PARSER_ERRORS as error:
        raise ModuleFormatError("its signature is no CMS signed data that can be read") from error


def _read_signed_data(encoded: bytes, content: memoryview) -> Signature:
    from asn1crypto import cms

    content_info = cms.ContentInfo.load(encoded, strict=True)
    if content_info["content_type"].native != "signed_data":
        raise ModuleFormatError("its signature is CMS, but no signed data")
    signed_data = content_info["content"]
    signers = signed_data["signer_infos"]
    signer = signers[0]
    algorithm = _digest_name(signer["digest_algorithm"]["algorithm"])
    identifier = signer["sid"].chosen
    named = signer["sid"].name == "issuer_and_serial_number"
    issuer = identifier["issuer"] if named else None
    key_id = serial_number(identifier["serial_number"].contents) if named else readable(identifier.contents)
    return Signature(
        signer=None if issuer is None else common_name(issuer),
        key_id=key_id,
        hash_algorithm=algorithm,
        proof=SignatureProof(
            issuer=None if issuer is None else issuer.dump().hex(),
            digest=hashlib.new(algorithm.replace("-", "_"), content).hexdigest() if algorithm in _DIGESTS else None,
            value=signer["signature"].contents.hex(),
            flaw=_flaw(signed_data, signer, len(signers)),
        ),
    )


def _flaw(signed_data: Field, signer: Field, signers: int) -> str | None:
    """What the kernel refuses in a module's signature, or klpd does not look into (pkcs7_verify, pkcs7_verify.c)."""
    if signers > 1:
        return "it has several signers"
    if signer["signed_attrs"].dump():
        return "it has signed attributes, which the kernel does not take in a module's signature"
    if signed_data["encap_content_info"]["content_type"].native != "data":
        return "what it signs is not called data"
    if signed_data["encap_content_info"]["content"].dump():
        return "it has content of its own"
    return None


def _digest_name(algorithm: Field) -> str:
    if algorithm.dotted == _SM3:
        return "sm3"
    return str(algorithm.native).replace("_", "-")


def common_name(name: Field) -> str | None:
    """The first common name in the name of whoever signs."""
    for part in name.chosen:
        for attribute in part:
            if attribute["type"].native == "common_name":
                value = attribute["value"].chosen
                encoding = "utf-16-be" if value.tag == 30 else "utf-8"  # a BMPString
                return str(value.contents.decode(encoding, "backslashreplace"))
    return None


def serial_number(contents: bytes) -> str:
    """A serial number as modinfo(8) shows it: DER has a zero before one that would else be negative."""
    return readable(contents.lstrip(b"\0") or b"\0")


def readable(key_id: bytes) -> str:
    """A key id as modinfo(8) shows it."""
    return key_id.hex(":").upper()
