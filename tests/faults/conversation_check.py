"""Whether sessions are what the notes of their writers allow: see `tests.faults.conversation_writer`."""

from __future__ import annotations

import collections
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from botwire import Memory, Message
from botwire.conversations.health import CANCELLED
from tests.faults.conversation_writer import BRIEF, COUNT_OF_POP, NAMESPACE, POPPED, ROOMS, TTL, digest, name_of

WORD = re.compile(r"w\d{12}x")
SEARCHES = 40
"""Words that are searched."""


class Tried:
    """A call of a writer: what it noted before, and after. `outcome` is None if nothing was noted after it."""

    def __init__(self, slot: str, note: dict[str, Any]) -> None:
        self.slot, self.begun, self.ended, self.outcome = slot, note["t"], float("inf"), None
        self.op, self.session, self.life = note["op"], note["s"], note["life"]
        self.fields = note

    def end(self, note: dict[str, Any]) -> None:
        self.ended, self.outcome = note["t"], note["kind"]
        self.fields = {**self.fields, **{name: note[name] for name in note if name not in {"t", "kind"}}}

    def __getitem__(self, name: str) -> Any:
        return self.fields.get(name)

    @property
    def is_done(self) -> bool:
        return self.outcome == "ok"

    @property
    def may_be_done(self) -> bool:
        """Whether it was applied, or may have been."""
        return self.outcome in {"ok", "error", None}


def read_notes(folder: Path) -> list[Tried]:
    """Return all calls of all writers."""
    tried = []
    for path in sorted(folder.glob("*.log")):
        current = None
        for line in path.read_bytes().splitlines():
            note = json.loads(line)
            if note["kind"] == "try":
                current = Tried(path.stem, note)
                tried.append(current)
            else:
                assert (current["life"], current["i"]) == (note["life"], note["i"])
                current.end(note)
    return tried


class Check:
    """Compares the notes with a database, when all writers have ended and `TTL` has passed. `faults` are lines of text."""

    def __init__(self, address: str, notes: Iterable[Tried]) -> None:
        self.notes = list(notes)
        self.faults: list[str] = []
        self.counts: collections.Counter[str] = collections.Counter()
        with Memory(NAMESPACE, address, timeout=60) as memory:
            self.memory = memory
            for session in (*ROOMS, POPPED, *BRIEF):
                self._check_session(session)
            self._check_forks()

    def fault(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        self.faults.append(f"{kind}: {text}")

    def _of(self, session: str, *ops: str) -> Iterator[Tried]:
        return (item for item in self.notes if item.session == session and item.op in ops)

    def _check_session(self, session: str) -> None:
        history = self.memory.history(session)
        messages = history.messages()
        appends = Appends(self._of(session, "append", "compact"))
        names = [name_of(message) for message in messages]
        if [message.seq for message in messages] != list(range(1, len(messages) + 1)):
            self.fault("damaged", f"the seqs of {session} are {[message.seq for message in messages]}")
        for name, many in collections.Counter(names).items():
            if many > 1:
                self.fault("damaged", f"{session} has {name} {many} times")
        self._check_names(session, messages, appends)
        if session in BRIEF:
            self._check_brief(session, set(names), appends)
            return
        self._check_lost(session, set(names), appends)
        self._check_order(session, names, appends)
        for message in messages:
            if name_of(message) in appends.data:
                self._check_data(session, message, appends)
        self._check_about(session)
        self._check_summary(session)
        self._check_words(session, messages)

    def _check_names(self, session: str, messages: list[Message], appends: Appends) -> None:
        """Nothing is there that no one wrote, and no part of an append."""
        names = {name_of(message) for message in messages}
        for message in messages:
            is_inserted = isinstance(message.data, dict) and message.data.get("role") == "tool"
            if is_inserted and message.data["content"] != CANCELLED and message.redacted is None:
                self.fault("damaged", f"{session} has {message.data}")
            if name_of(message) not in appends.data and not is_inserted:
                self.fault("damaged", f"{session} has {message!r}, which no one wrote")
        for item in appends.tried:
            there = names.intersection(item["names"])
            if there and not item.may_be_done and not any(appends.times[name] > 1 for name in there):
                self.fault("damaged", f"{session} has {item['names']} of a refused {item.op}")

    def _check_lost(self, session: str, names: set[str], appends: Appends) -> None:
        """What was acknowledged is there, unless someone deleted it; and what was deleted is not."""
        removals = list(self._of(session, "pop", "pop_any", "compact"))
        gone = {name for item in removals if item.is_done for name in item["gone"]}
        perhaps = {name for item in removals if item.may_be_done for name in item["gone"] or ()}
        budget = sum(COUNT_OF_POP for item in removals if item.op == "pop_any" and item.outcome != "ok")
        applied = [item for item in appends.tried if item.is_done or names.intersection(item["names"])]
        for item in applied:
            for name in item["names"]:
                if name in names | perhaps:
                    continue
                if budget:
                    budget -= 1
                    continue
                self.fault("lost", f"{session} has no {name}, which was appended")
        for name in gone & names:
            if appends.times[name] == 1:
                self.fault("damaged", f"{session} has {name}, which was deleted")
        self.counts["deleted by a note"] += len(gone)
        self.counts["kept"] += len(names)

    def _check_order(self, session: str, names: list[str], appends: Appends) -> None:
        """What one process appended is in the order in which it did."""
        last: dict[tuple[str, int], int] = {}
        for name in names:
            item = appends.first.get(name)
            if item is None or appends.times[name] > 1 or item.op == "compact":
                continue
            writer = item.slot, item.life
            if item["i"] < last.get(writer, 0):
                self.fault("damaged", f"{session} has {name} after a later message of its writer")
            last[writer] = item["i"]

    def _check_brief(self, session: str, names: set[str], appends: Appends) -> None:
        """A session that ended has nothing from before its end, and everything from after."""
        ends = [item for item in self._of(session, "expire", "forget") if item.may_be_done]
        for item in appends.tried:
            (name,) = item["names"]
            after_all = all(item.begun > end.ended + (TTL if end.op == "expire" else 0) for end in ends)
            before_one = any(item.ended < end.begun for end in ends if end.is_done and end["exists"] is not False)
            if item.is_done and after_all and name not in names:
                self.fault("lost", f"{session} has no {name}")
            if item.outcome is not None and before_one and name in names:
                self.fault("damaged", f"{session} has {name} from before its end")

    def _check_data(self, session: str, message: Message, appends: Appends) -> None:
        """The newest acknowledged edit is in place, or one that may have come after it."""
        name = name_of(message)
        if appends.times[name] > 1:
            return
        edits = [item for item in self._of(session, "edit") if item["name"] == name]
        redactions = list(self._of(session, "redact"))
        done = [item for item in edits if item.is_done]
        mine = [item for item in redactions if item.is_done and item["name"] == name]
        for version, many in collections.Counter(item["version"] for item in done).items():
            if many > 1:
                self.fault("lost", f"{many} edits of {name} at version {version}")
        last = max([*done, *mine], key=lambda item: item["to"], default=None)
        newest = message.created if last is None else last["to"]
        self.counts["edits compared"] += last is not None
        if message.version < newest:
            self.fault("lost", f"{name} has version {message.version}, and was edited to {newest}")
        elif message.version > newest:
            data = [item["data"] for item in edits if item.outcome != "ok" and item.may_be_done]
            reasons = [
                item["reason"] for item in redactions if not (item.is_done and item["name"]) and item.may_be_done
            ]
            if message.data not in data and message.redacted not in reasons:
                self.fault("damaged", f"{message!r} was edited by no one")
        elif last is None:
            if message.data != appends.data[name] or message.redacted is not None:
                self.fault("damaged", f"{message!r} was never edited")
        elif last.op == "edit" and (message.data != last["data"] or message.redacted is not None):
            self.fault("damaged", f"{message!r} was edited to {last['data']}")
        elif last.op == "redact" and message.redacted != last["reason"]:
            self.fault("damaged", f"{message!r} was redacted for {last['reason']}")
        if message.redacted is not None and WORD.search(json.dumps((message.data or {}).get("content"))):
            self.fault("damaged", f"{message!r} is redacted")

    def _check_about(self, session: str) -> None:
        """No one's number in the data that all share is lost."""
        data = self.memory.history(session).about().data
        for slot, items in itertools.groupby(sorted(self._of(session, "about"), key=_slot), key=_slot):
            tried = list(items)
            least = max((item["count"] for item in tried if item.is_done), default=0)
            allowed = {item["count"] for item in tried if item.may_be_done} | {0}
            found = data.get(slot, 0)
            if found < least or found not in allowed:
                self.fault("lost", f"the number of {slot} in {session} is {found}, and it set {least}")

    def _check_summary(self, session: str) -> None:
        """The summary is one that someone wrote, and is older than no redaction of what it covers."""
        context = self.memory.history(session).context_messages(start="any")
        summaries = [item for item in self._of(session, "summarize") if item.may_be_done]
        if not context.summarized:
            return
        found = [item for item in summaries if [{"role": "system", "content": item["word"]}] == context.summary]
        if len(found) != 1 or found[0]["upto"] != context.summarized:
            self.fault("damaged", f"{session} has the summary {context.summary} up to {context.summarized}")
            return
        for item in self._of(session, "redact"):
            if item.is_done and item["seq"] <= context.summarized and item.begun > found[0].ended:
                self.fault("damaged", f"{session} has a summary of what was redacted later")

    def _check_words(self, session: str, messages: list[Message]) -> None:
        """A search finds edited messages by their new words only."""
        edited = [item for item in messages if item.edited is not None and item.redacted is None][-SEARCHES:]
        for message in edited:
            data = message.data
            if [hit.message.seq for hit in self._search(session, data["content"])] != [message.seq]:
                self.fault("damaged", f"{session}: a search for {data['content']} does not find {message!r}")
        current = {word for message in messages for word in WORD.findall(message.stored)}
        replaced = [item["before"] for item in self._of(session, "edit") if item.is_done]
        old = [data["content"] for data in replaced if isinstance(data, dict) and data.get("content")]
        for word in [word for word in old if WORD.fullmatch(word) and word not in current][-SEARCHES:]:
            self.counts["old words searched"] += 1
            if self._search(session, word):
                self.fault("damaged", f"{session}: a search for {word} finds {self._search(session, word)!r}")
        self.counts["new words searched"] += len(edited)

    def _search(self, session: str, word: str) -> list[Any]:
        return self.memory.search(word, session=session, kinds=["messages"], neighbours=0)

    def _check_forks(self) -> None:
        for item in self.notes:
            if item.op != "fork":
                continue
            messages = self.memory.history(item["target"]).messages()
            if not messages and item.is_done:
                self.fault("lost", f"there is no {item['target']}")
            if messages and not item.may_be_done:
                self.fault("damaged", f"there is a {item['target']}, which was refused")
            if not messages:
                continue
            self.counts["forks compared"] += bool(item["exact"])
            if [message.seq for message in messages] != list(range(1, item["upto"] + 1)):
                self.fault("damaged", f"{item['target']} has {len(messages)} of {item['upto']} messages")
            elif item["exact"] and digest(messages) != item["digest"]:
                self.fault("damaged", f"{item['target']} is not what {item.session} was")
            origin = self.memory.history(item["target"]).info().origin
            if origin != (item.session, item["upto"]):
                self.fault("damaged", f"{item['target']} has the origin {origin}")


class Appends:
    """What was appended to a session, or written by a compaction, by name."""

    def __init__(self, tried: Iterable[Tried]) -> None:
        self.tried = list(tried)
        self.data: dict[str, Any] = {}
        self.times: collections.Counter[str] = collections.Counter()
        self.first: dict[str, Tried] = {}
        for item in self.tried:
            self.data |= dict(zip(item["names"], item["data"], strict=True))
            self.times.update(item["names"])
            for name in item["names"]:
                self.first.setdefault(name, item)


def _slot(item: Tried) -> str:
    return item.slot
