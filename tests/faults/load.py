"""The writes of the disk tests, and the data that must exist after a number of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import apsw

from botwire.operations import Append, Delete, Increment, NewMessage, Operation, Put
from botwire.queries import ListEntries, ListMessages
from botwire.stores.sqlite.store import SqliteStore

SESSION = "shared"


@dataclass
class Writer:
    """Makes writes of four kinds in turn. Each write is one list of operations. Writers share a session but no keys."""

    name: str
    acknowledged: int = 0
    error: Exception | None = None
    entries: dict = field(default_factory=dict)
    messages: list = field(default_factory=list)

    def operations(self) -> list[Operation]:
        """Return the next write."""
        number, key = self.acknowledged, f"{self.name}/{self.acknowledged}"
        match number % 4:
            case 0:
                return [Put(key, f'"{"v" * (number * 37 % 3000)}"'), Increment(f"{self.name}/count")]
            case 1:
                return [self._append()]
            case 2:
                return [*(Put(f"{key}/{part}", str(number)) for part in "abc"), self._append()]
            case _:
                return [Delete(f"{self.name}/{number - 3}"), Increment(f"{self.name}/count")]

    def _append(self) -> Append:
        return Append(SESSION, (NewMessage(self._message(), f'"{"m" * (self.acknowledged * 31 % 2000)}"'),))

    def _message(self) -> str:
        return f"{self.name}-{self.acknowledged}"

    def advance(self) -> None:
        """Record the next write as acknowledged."""
        number, key = self.acknowledged, f"{self.name}/{self.acknowledged}"
        count = f"{self.name}/count"
        match number % 4:
            case 0:
                self.entries |= {key: "v" * (number * 37 % 3000), count: self.entries.get(count, 0) + 1}
            case 1:
                self.messages.append(self._message())
            case 2:
                self.entries |= {f"{key}/{part}": number for part in "abc"}
                self.messages.append(self._message())
            case _:
                del self.entries[f"{self.name}/{number - 3}"]
                self.entries[count] += 1
        self.acknowledged += 1

    def state(self) -> tuple[dict, list]:
        return dict(self.entries), list(self.messages)


def check(store: SqliteStore, namespace: str, writers: list[Writer], *, in_doubt: bool = False) -> None:
    """Check that exactly the acknowledged writes of each writer exist. With `in_doubt`, one more complete write may exist."""
    entries = {entry.key: entry.value for entry in store.read(namespace, ListEntries())}
    messages = store.read(namespace, ListMessages(SESSION))
    assert [message.seq for message in messages] == list(range(1, len(messages) + 1))
    for writer in writers:
        prefix = f"{writer.name}/"
        found = (
            {key: value for key, value in entries.items() if key.startswith(prefix)},
            [message.id for message in messages if message.id.startswith(f"{writer.name}-")],
        )
        allowed = [writer.state()]
        if in_doubt:
            writer.advance()
            allowed.append(writer.state())
        assert found in allowed, f"writer {writer.name} had {writer.acknowledged - in_doubt} writes acknowledged"


def check_file(path) -> None:
    """Check that the file is not damaged, and that the bytes in each namespace state equal the bytes in the tables."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    for namespace, counted in connection.execute("SELECT id, bytes FROM namespaces").fetchall():
        (stored,) = connection.execute(
            "SELECT (SELECT total(octet_length(key) + octet_length(value)) FROM entries WHERE namespace = ?1) + "
            "(SELECT total(octet_length(messages.id) + octet_length(data)) FROM messages JOIN sessions ON sessions.id = session"
            " WHERE namespace = ?1)",
            (namespace,),
        ).fetchone()
        assert counted == stored
    connection.close()
