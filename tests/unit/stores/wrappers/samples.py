"""One of each operation and query."""

from __future__ import annotations

from botwire.operations import (
    Append,
    Clear,
    Delete,
    Expire,
    Forget,
    Increment,
    NewMessage,
    Pop,
    Put,
    Require,
    SetVectors,
)
from botwire.queries import (
    CountEntries,
    CountMessages,
    GetEntries,
    GetEntry,
    GetProgress,
    GetUsage,
    ListChanges,
    ListEntries,
    ListKeys,
    ListMessages,
    ListNamespaces,
    ListSessions,
    ListTexts,
    Search,
)

OPERATIONS = {
    Put: Put("k", "1"),
    Delete: Delete("k"),
    Require: Require("k", 0),
    Increment: Increment("k", 2),
    Append: Append("s", (NewMessage("i", "1"),)),
    Clear: Clear("k"),
    Forget: Forget("s"),
    Pop: Pop("s"),
    Expire: Expire(),
    SetVectors: SetVectors("m", ()),
}
QUERIES = {
    GetEntry: GetEntry("k"),
    GetEntries: GetEntries(("k",)),
    ListKeys: ListKeys(),
    ListEntries: ListEntries(),
    CountEntries: CountEntries(),
    ListMessages: ListMessages("s"),
    CountMessages: CountMessages("s"),
    ListSessions: ListSessions(),
    Search: Search(text="1"),
    ListTexts: ListTexts("m"),
    ListChanges: ListChanges(0),
    GetProgress: GetProgress(),
    ListNamespaces: ListNamespaces(),
    GetUsage: GetUsage(),
}
