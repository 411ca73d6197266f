"""Operations → encrypted ones, and answers → decrypted ones.

Each value is encrypted for its place: an entry for its key, a message for its session and id, a summary and the title and data of a
session for that session. So no value can be decrypted in the place of another one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from ...conversations.redaction import REDACTED
from ...errors import DecryptionError, InvalidValue
from ...limits import MAX_VALUE_BYTES
from ...operations import Append, Copies, Edit, Fork, NewMessage, Operation, Put, Replace, SetAbout, Summarize
from ...records import Change, Changes, Context, Entry, Message, Session
from ...values import encode_json
from .cipher import Cipher
from .preparation import EditOf

T = TypeVar("T")


class Encryption:
    """Encrypts the operations of a write. Under an idempotency key, the same ones are encrypted in the same way again."""

    def __init__(self, cipher: Cipher, namespace: str, idempotency_key: str | None) -> None:
        self._cipher = cipher
        self._namespace = namespace
        self._idempotency_key = idempotency_key

    def operation(self, op: Operation) -> Operation | None:
        """Return an operation with its values encrypted; None: it has none that can be encrypted."""
        changed: Operation | None = None
        match op:
            case Put():
                place = _place("entry", self._namespace, op.key)
                changed = replace(op, stored=_checked(self._cipher.encrypt(op.stored, place, self._idempotency_key)))
            case Append() | Replace():
                changed = replace(op, messages=self._messages(op.session, op.messages))
            case EditOf():
                stored = self._text(op.stored, "message", op.session, op.if_id or "")
                changed = Edit(op.session, op.seq, stored, op.if_version, op.redacted, op.if_id)
            case Summarize(stored="[]"):  # it deletes the summary or is refused, so the store must see it
                changed = op
            case Summarize():
                changed = replace(op, stored=self._text(op.stored, "summary", op.session))
            case SetAbout():
                changed = replace(op, stored=self._about(op.session, op.stored))
            case Fork(copies=Copies() as copies):
                changed = replace(op, copies=self._copies(op.target, copies))
        return changed

    def _messages(self, session: str, messages: Sequence[NewMessage]) -> tuple[NewMessage, ...]:
        return tuple(
            replace(message, stored=self._text(message.stored, "message", session, message.id)) for message in messages
        )

    def _copies(self, target: str, copies: Copies) -> Copies:
        summary = None if copies.summary is None else self._text(copies.summary, "summary", target)
        return Copies(self._messages(target, copies.messages), summary, self._about(target, copies.about))

    def _about(self, session: str, stored: str) -> str:
        return self._text(stored, "about", session) if stored else stored

    def _text(self, stored: str, kind: str, *names: str) -> str:
        """Encrypt JSON text. The result is JSON text too: a string."""
        encrypted = self._cipher.encrypt(stored, _place(kind, self._namespace, *names), self._idempotency_key)
        return _checked(f'"{base64.b64encode(encrypted).decode()}"')


_REDACTED = encode_json(REDACTED)
"""What a client without the key makes of an encrypted message that it redacts. It says nothing, so it needs no key."""


class Decryption:
    """Decrypts the answers to queries, and the results of operations."""

    def __init__(self, cipher: Cipher, namespace: str) -> None:
        self._cipher = cipher
        self._namespace = namespace

    def answer(self, asked: Any, answer: Any) -> Any:
        """Return an answer with its values decrypted, or raise `DecryptionError`."""
        decrypted = answer
        match answer:
            case Entry():
                decrypted = self.entry(answer)
            case Message():
                decrypted = self._message(asked.session, answer)
            case Session():
                decrypted = self._session(answer)
            case Context():
                decrypted = self._context(asked.session, answer)
            case Changes():
                decrypted = self.changes(answer)
            case [Entry() | Message() | Session(), *_]:
                decrypted = [self.answer(asked, item) for item in answer]
        return decrypted

    def entry(self, entry: Entry) -> Entry:
        """Return an entry with its value decrypted."""
        encrypted = entry.stored if isinstance(entry.stored, bytes) else b""
        try:
            stored = self._cipher.decrypt(encrypted, _place("entry", self._namespace, entry.key))
        except DecryptionError as error:
            raise DecryptionError(f"key {entry.key!r}: {error.message}", key=entry.key) from error
        return replace(entry, stored=stored)

    def changes(self, changes: Changes) -> Changes:
        """Return changes with their values decrypted."""
        return Changes([self._change(change) for change in changes.changes], changes.version)

    def _change(self, change: Change) -> Change:
        if change.entry is not None:
            return replace(change, entry=self.entry(change.entry))
        if change.message is None or change.session is None:
            return change
        return replace(change, message=self._message(change.session, change.message))

    def _message(self, session: str, message: Message) -> Message:
        if message.redacted is not None and message.stored == _REDACTED:
            return message
        stored = self._text(
            message.stored, f"message {message.seq} of the session", "message", session, message.id, seq=message.seq
        )
        return replace(message, stored=stored)

    def _session(self, session: Session) -> Session:
        about, preview = session.about, session.preview
        if about.stored:
            what = f"title and data of session {session.name!r}"
            about = replace(about, stored=self._text(about.stored, what, "about", session.name))
        if preview is not None:
            preview = self._message(session.name, preview)
        return replace(session, about=about, preview=preview)

    def _context(self, session: str, context: Context) -> Context:
        summary = context.summary
        if summary is not None:
            summary = self._text(summary, "the summary of the session", "summary", session)
        head = [self._message(session, message) for message in context.head]
        messages = [self._message(session, message) for message in context.messages]
        return replace(context, summary=summary, head=head, messages=messages)

    def _text(self, text: str, what: str, kind: str, *names: str, **details: int) -> str:
        """Decrypt JSON text that `Encryption._text` has encrypted."""
        try:
            encrypted = base64.b64decode(msgspec.json.decode(text, type=str), validate=True)
        except (msgspec.MsgspecError, binascii.Error, ValueError):
            encrypted = b""
        try:
            stored = self._cipher.decrypt(encrypted, _place(kind, self._namespace, *names))
        except DecryptionError as error:
            raise DecryptionError(f"{what}: {error.message}", **details) from error
        if isinstance(stored, bytes):
            raise DecryptionError(f"{what}: the value is bytes, not JSON", **details)
        return stored


def _place(*names: str) -> bytes:
    """Return the place of a value as bytes that differ between places."""
    return msgspec.json.encode(names)


def _checked(encrypted: T) -> T:
    if len(encrypted) > MAX_VALUE_BYTES:  # type: ignore[arg-type]
        raise InvalidValue(
            f"a value may have {MAX_VALUE_BYTES:,} bytes when stored, this one has {len(encrypted):,} when encrypted"  # type: ignore[arg-type]
        )
    return encrypted
