"""Certificates for tests of TLS."""

from __future__ import annotations

import datetime as dt
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa


def write_certificate(folder: Path, kind: str = "ec") -> tuple[Path, Path]:
    """Write a new self-signed certificate for 127.0.0.1 and its key, and return both files.

    Args:
        folder: the folder for ``cert.pem`` and ``key.pem``.
        kind: the kind of key: ec or rsa.
    """
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65_537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "botwire")])
    begun = dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(minutes=1)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begun)
    built = built.not_valid_after(begun + dt.timedelta(days=1)).add_extension(alternative, critical=False)
    built = as_authority(identified(built, key, key)).sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "key.pem").write_bytes(text)
    return folder / "cert.pem", folder / "key.pem"


# Python 3.13 verifies certificates strictly: they need key identifiers, and an authority's certificate needs its key usage.


def identified(builder, key, signer):
    """Return the builder of a certificate with the identifiers of its key and of the key that signs it."""
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return builder.add_extension(own, critical=False).add_extension(authority, critical=False)


def as_authority(builder):
    """Return the builder of a certificate that may sign others."""
    uses = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    usage = x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **uses)
    constraints = x509.BasicConstraints(ca=True, path_length=None)
    return builder.add_extension(constraints, critical=True).add_extension(usage, critical=True)
