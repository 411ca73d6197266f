"""Encryption keys, and encryption with AES-256-GCM of the `cryptography` package (NIST SP 800-38D).

An encrypted value is one byte for this format, one for the kind of value (JSON or bytes), eight that identify the key, a
nonce of twelve, and the ciphertext with its tag of sixteen. All bytes in front of the ciphertext are authenticated, together
with the place of the value (its namespace and key, say). So a value cannot be decrypted in another place.

Nonces are random. Under an idempotency key they are a keyed hash of that key, the place and the value: a repeat has the same
bytes, and another value has another nonce (the idea of RFC 5297). Either way they allow 2^32 values for each key (SP 800-38D,
section 8.3). Rotate a key before that.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ...errors import DecryptionError, InvalidArgument
from ...values import Stored

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ModuleNotFoundError as error:
    if error.name is None or not error.name.startswith("cryptography"):
        raise
    missing = "encryption_key needs the cryptography package: pip install 'botwire[encryption]'"
    raise ImportError(missing, name=error.name) from None

Key: TypeAlias = str | bytes

_KEY_BYTES = 32
_PREFIX = "bwk_"
"""The start of each key as text, by which scanners for leaked secrets can recognize it."""
_FORMAT, _JSON, _BYTES = 1, 0, 1
_ID_BYTES, _NONCE_BYTES, _TAG_BYTES = 8, 12, 16
_HEAD = 2 + _ID_BYTES + _NONCE_BYTES


def generate_key() -> str:
    """Return a new key for ``encryption_key``, from the operating system's random numbers. Without it, the values are lost."""
    return _PREFIX + base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode().rstrip("=")


class Cipher:
    """Encrypts with the first of its keys, and decrypts with any. A key is text from `generate_key`, or 32 bytes."""

    def __init__(self, keys: Key | Sequence[Key]) -> None:
        listed = [keys] if isinstance(keys, str | bytes) else list(keys) if isinstance(keys, Iterable) else []
        if not listed:
            raise InvalidArgument("encryption_key is a key or a list of at least one: make one with generate_key()")
        secrets = [_secret(key) for key in listed]
        self._ciphers = {_id(secret): AESGCM(secret) for secret in secrets}
        self._first = _id(secrets[0])
        self._nonces = hmac.digest(secrets[0], b"botwire nonces", hashlib.sha256)

    def encrypt(self, stored: Stored, place: bytes, idempotency_key: str | None = None) -> bytes:
        """Encrypt a stored form for a place. Under an idempotency key, the same one is encrypted in the same way again."""
        kind, plain = (_BYTES, stored) if isinstance(stored, bytes) else (_JSON, stored.encode())
        head = bytes((_FORMAT, kind)) + self._first
        if idempotency_key is None:
            head += os.urandom(_NONCE_BYTES)
        else:
            parts = (
                idempotency_key.encode(),
                head,
                place,
                plain,
            )  # each hashed, so that no two lists are joined to the same
            text = b"".join(hashlib.sha256(part).digest() for part in parts)
            head += hmac.digest(self._nonces, text, hashlib.sha256)[:_NONCE_BYTES]
        return head + self._ciphers[self._first].encrypt(head[-_NONCE_BYTES:], plain, head + place)

    def decrypt(self, encrypted: bytes, place: bytes) -> Stored:
        """Return the stored form that was encrypted for this place, or raise `DecryptionError`."""
        if not self.is_encrypted(encrypted):
            raise DecryptionError(
                "the value is not encrypted, or was cut off: a memory with a key reads only encrypted values"
            )
        head, body = encrypted[:_HEAD], encrypted[_HEAD:]
        cipher = self._ciphers.get(head[2 : 2 + _ID_BYTES])
        if cipher is None:
            raise DecryptionError(
                "the value is encrypted with another key: add that one to encryption_key, after the first"
            )
        try:
            plain = cipher.decrypt(head[-_NONCE_BYTES:], body, head + place)
        except InvalidTag as error:
            raise DecryptionError(
                "the value was changed, or belongs to another place: the database is damaged, or someone has changed it"
            ) from error
        return plain if head[1] == _BYTES else plain.decode()

    def is_encrypted(self, stored: Stored) -> bool:
        """Whether something has the form of an encrypted value, with any key."""
        return (
            isinstance(stored, bytes)
            and len(stored) >= _HEAD + _TAG_BYTES
            and stored[0] == _FORMAT
            and stored[1] in {_JSON, _BYTES}
        )

    def is_current(self, stored: Stored) -> bool:
        """Whether something is encrypted with the first key."""
        return self.is_encrypted(stored) and stored[2 : 2 + _ID_BYTES] == self._first


def _secret(key: Key) -> bytes:
    secret = key if isinstance(key, bytes) else b""
    if isinstance(key, str) and key.startswith(_PREFIX):
        text = key.removeprefix(_PREFIX)
        with contextlib.suppress(binascii.Error, ValueError):
            secret = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if len(secret) != _KEY_BYTES:
        raise InvalidArgument(f"an encryption key is {_KEY_BYTES} bytes, or text that generate_key() made")
    return secret


def _id(secret: bytes) -> bytes:
    """Return the identity of a key, which reveals nothing about it (a keyed hash, RFC 2104)."""
    return hmac.digest(secret, b"botwire key id", hashlib.sha256)[:_ID_BYTES]
