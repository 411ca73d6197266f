"""Keys, and what is done with them: AES-256-GCM of the `cryptography` package (NIST SP 800-38D).

A sealed value is one byte for this format, one that says what was sealed (JSON or bytes), eight that name the key, a nonce
of twelve drawn at random, and the ciphertext with its tag of sixteen. All of the head, and the place where the value is
stored, are authenticated with it, so that it opens nowhere else.

Random nonces allow 2^32 values for a key (SP 800-38D, section 8.3). Rotate before that.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
from collections.abc import Sequence
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
"""What a key as text begins with, so that scanners for leaked secrets can know it."""
_FORMAT, _JSON, _BYTES = 1, 0, 1
_ID_BYTES, _NONCE_BYTES, _TAG_BYTES = 8, 12, 16
_HEAD = 2 + _ID_BYTES + _NONCE_BYTES


def generate_key() -> str:
    """Return a new key for ``encryption_key``, from the operating system's random numbers. Who loses it loses the values."""
    return _PREFIX + base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode().rstrip("=")


class Cipher:
    """Seals with the first of its keys and opens with any.

    Args:
        keys: one key or several: text as `generate_key` makes it, or 32 bytes.

    Raises:
        InvalidArgument: something is not a key.
    """

    def __init__(self, keys: Key | Sequence[Key]) -> None:
        listed = [keys] if isinstance(keys, str | bytes) else list(keys)
        if not listed:
            raise InvalidArgument("encryption_key is a key or a list of at least one: make one with generate_key()")
        secrets = [_secret(key) for key in listed]
        self._ciphers = {_id(secret): AESGCM(secret) for secret in secrets}
        self._first = _id(secrets[0])

    def seal(self, stored: Stored, place: bytes) -> bytes:
        """Return a stored form sealed for a place."""
        kind = _BYTES if isinstance(stored, bytes) else _JSON
        plain = stored if isinstance(stored, bytes) else stored.encode()
        head = bytes((_FORMAT, kind)) + self._first + os.urandom(_NONCE_BYTES)
        return head + self._ciphers[self._first].encrypt(head[-_NONCE_BYTES:], plain, head + place)

    def open(self, sealed: bytes, place: bytes) -> Stored:
        """Return the stored form that was sealed for this place, or raise `DecryptionError`."""
        if not self.is_sealed(sealed):
            raise DecryptionError("the value is not encrypted, or was cut off: this memory takes only what has its key")
        head, body = sealed[:_HEAD], sealed[_HEAD:]
        cipher = self._ciphers.get(head[2 : 2 + _ID_BYTES])
        if cipher is None:
            raise DecryptionError(
                "the value is encrypted with another key: add that one to encryption_key, behind the first"
            )
        try:
            plain = cipher.decrypt(head[-_NONCE_BYTES:], body, head + place)
        except InvalidTag as error:
            raise DecryptionError(
                "the value was changed, or belongs to another place: whoever keeps it is not to be trusted, or it is damaged"
            ) from error
        return plain if head[1] == _BYTES else plain.decode()

    def is_sealed(self, stored: Stored) -> bool:
        """Whether something looks sealed, by whichever key."""
        return (
            isinstance(stored, bytes)
            and len(stored) >= _HEAD + _TAG_BYTES
            and stored[0] == _FORMAT
            and stored[1] in {_JSON, _BYTES}
        )

    def is_current(self, stored: Stored) -> bool:
        """Whether something is sealed with the first key."""
        return self.is_sealed(stored) and stored[2 : 2 + _ID_BYTES] == self._first


def _secret(key: Key) -> bytes:
    secret = b""
    if isinstance(key, bytes):
        secret = key
    elif isinstance(key, str) and key.startswith(_PREFIX):
        text = key.removeprefix(_PREFIX)
        with contextlib.suppress(binascii.Error, ValueError):
            secret = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if len(secret) != _KEY_BYTES:
        raise InvalidArgument(f"an encryption key is {_KEY_BYTES} bytes, or text that generate_key() made")
    return secret


def _id(secret: bytes) -> bytes:
    """Return a name for a key that tells nothing about it (a keyed hash, RFC 2104)."""
    return hmac.digest(secret, b"botwire key id", hashlib.sha256)[:_ID_BYTES]
