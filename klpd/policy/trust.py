# SPDX-License-Identifier: GPL-2.0-or-later
"""Verifying signatures with the certificates that a policy trusts, as the kernel does with those of its keyrings.

It takes the key of a certificate that the signature names, and does not mind until when the certificate is valid
(crypto/asymmetric_keys/pkcs7_trust.c, public_key.c).  There are no chains here: trusted are these keys, and none that
they may have signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from klpd.judge.rules import without_certificates
from klpd.model import Standing, Trust
from klpd.policy.show import shortened

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from klpd.judge.rules import Verifier
    from klpd.model import Signature

_REMEMBERED: Final = 256
_LONGEST: Final = 80


@dataclass(frozen=True, slots=True)
class Certificate:
    """A trusted certificate: `encoded` is its DER, `file` where it stands.

    It is told by `issuer` (DER in hex) and `serial`, or by `key_id`, both in the form of Signature.key_id.
    `valid_until` is for people.
    """

    file: str
    name: str
    issuer: str
    serial: str
    key_id: str | None
    valid_until: str
    encoded: bytes


@dataclass(frozen=True, slots=True)
class Certificates:
    """A Verifier with these certificates."""

    certificates: tuple[Certificate, ...]

    def __call__(self, signature: Signature | None, /) -> Trust:
        if signature is None:
            return without_certificates(signature)
        return _verify(self.certificates, signature)


def trusting(certificates: tuple[tuple[Certificate, ...], ...]) -> Verifier:
    """The Verifier for the certificates of each path that a policy names; without a path there is none to trust.

    A path where no certificate is yet leaves all signatures untrusted.
    """
    return Certificates(tuple(each for some in certificates for each in some)) if certificates else without_certificates


@lru_cache(_REMEMBERED)  # the judge asks of the same few again and again
def _verify(certificates: tuple[Certificate, ...], signature: Signature) -> Trust:
    proof = signature.proof
    if proof is None:
        return _untrusted("nothing is known of its signature that could be verified")
    if proof.flaw is not None:
        return _untrusted(f"its signature is of no use: {proof.flaw}")
    if proof.digest is None:
        return _untrusted(f"its signature relies on {_short(signature.hash_algorithm)}, which is not to be relied on")
    named = [each for each in certificates if _names(signature, each)]
    for certificate in named:
        if _is_by(certificate, signature.hash_algorithm or "", bytes.fromhex(proof.digest), bytes.fromhex(proof.value)):
            return Trust(
                Standing.TRUSTED, certificate.name, f"{certificate.file} (valid until {certificate.valid_until})"
            )
    if named:
        return _untrusted(
            f"its signature does not fit it, or the key in {named[0].file}: it was changed after it was signed, or "
            "signed with another key"
        )
    return _untrusted(
        f"none of the trusted certificates is the one that its signature names, {_short(signature.key_id)}"
    )


def _short(claimed: str | None) -> str:
    """What a signature says, which may be of any length."""
    return shortened(claimed or "nothing", _LONGEST)


def _untrusted(why: str) -> Trust:
    return Trust(Standing.UNTRUSTED, detail=why)


def _names(signature: Signature, certificate: Certificate) -> bool:
    issuer = None if signature.proof is None else signature.proof.issuer
    if issuer is None:
        return certificate.key_id is not None and signature.key_id == certificate.key_id
    return (issuer, signature.key_id) == (certificate.issuer, certificate.serial)


def _is_by(certificate: Certificate, algorithm: str, digest: bytes, value: bytes) -> bool:
    """Whether `value` is the signature of `digest` with the certificate's key: RSA (PKCS#1 v1.5) or ECDSA."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.x509 import load_der_x509_certificate

    key = load_der_x509_certificate(certificate.encoded).public_key()
    prehashed = Prehashed(_hash(algorithm))
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(value, digest, padding.PKCS1v15(), prehashed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(value, digest, ec.ECDSA(prehashed))
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _hash(algorithm: str) -> HashAlgorithm:
    from cryptography.hazmat.primitives import hashes

    known: dict[str, HashAlgorithm] = {
        "sha256": hashes.SHA256(),
        "sha384": hashes.SHA384(),
        "sha512": hashes.SHA512(),
        "sha3-256": hashes.SHA3_256(),
        "sha3-384": hashes.SHA3_384(),
        "sha3-512": hashes.SHA3_512(),
    }
    return known[algorithm]
