"""``make recall`` measures how many of the expected answers are among the first results, on conversations of LoCoMo.

LoCoMo: "Evaluating Very Long-Term Conversational Memory of LLM Agents", ACL 2024, https://github.com/snap-research/locomo.
Every turn is a message, and every question is asked unchanged. recall@k is the share of a question's evidence among the first k
hits, averaged over the questions. Conversations used in development and those reserved for the final check are shown separately.
``make recall ARGS="26 30"`` uses only these conversations.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import apsw
from rich.console import Console
from rich.table import Table

from botwire import Memory
from botwire.search.minilm import MiniLM
from botwire.search.terms import STOP_WORDS, words_of

LOCOMO = Path("../shared/locomo")
CACHE = Path(".cache/recall/memories")
DEVELOPMENT, RESERVED = ("26", "30", "41"), ("42", "43")
KS = (1, 5, 10, 50)
BARS = {"words": 0.66, "words and meaning": 0.75}

Ask = Callable[[str], list[str]]
"""Returns the ids of turns for a question, best first."""


class Turn(NamedTuple):
    session: str
    id: str
    speaker: str
    text: str


class Conversation(NamedTuple):
    name: str
    turns: list[Turn]
    questions: list[tuple[str, list[str]]]


def main(*names: str) -> None:
    """Use the conversations with these names, or all."""
    if not LOCOMO.is_dir():
        sys.exit(
            f"The folder {LOCOMO.resolve()} does not exist. make recall needs the LoCoMo conversations there, one JSON file each."
        )
    found = {path.stem: _load(path) for path in sorted(LOCOMO.glob("*.json")) if not names or path.stem in names}
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"recall@k on LoCoMo, conversations {', '.join(found)}")
    for title in ("", "on", *(f"@{k}" for k in KS), "goal @10", ""):
        table.add_column(title, justify="right" if title.startswith("@") else "left")
    embedder = MiniLM()
    for name, ask_of in _searches(embedder).items():
        with console.status(f"asking: {name}"):
            results = {key: _recall(ask_of(conversation), conversation) for key, conversation in found.items()}
        for title, chosen in (("development", DEVELOPMENT), ("reserved", RESERVED), ("all", tuple(found))):
            rows = [row for key in chosen for row in results.get(key, [])]
            if rows:
                means = [sum(row[k] for row in rows) / len(rows) for k in KS]
                bar = BARS.get(name) if title == "all" and len(found) == len(DEVELOPMENT + RESERVED) else None
                verdict = "" if bar is None else "met" if means[KS.index(10)] >= bar else "MISSED"
                shown = [f"{mean:.3f}" for mean in means]
                table.add_row(name if title == "all" else "", title, *shown, f"≥ {bar}" if bar else "", verdict)
        table.add_section()
    console.print(table)


def _load(path: Path) -> Conversation:
    document = json.loads(path.read_text("utf-8"))
    sessions = [name for name, value in document.items() if name.startswith("session_") and isinstance(value, list)]
    turns = [
        Turn(name, turn["dia_id"], turn["speaker"], turn["text"])
        for name in sorted(sessions, key=lambda name: int(name.split("_")[1]))
        for turn in document[name]
    ]
    asked = [item for item in document["qa"] if item["category"] != 5 and item.get("evidence")]
    return Conversation(path.stem, turns, [(item["question"], item["evidence"]) for item in asked])


def _recall(ask: Ask, conversation: Conversation) -> list[dict[int, float]]:
    rows = []
    for question, evidence in conversation.questions:
        hits = ask(question)
        rows.append({k: sum(item in hits[:k] for item in evidence) / len(evidence) for k in KS})
    return rows


def _searches(embedder: MiniLM) -> dict[str, Callable[[Conversation], Ask]]:
    return {
        "FTS5 unicode61": lambda conversation: _plain(conversation, "unicode61"),
        "FTS5 porter unicode61": lambda conversation: _plain(conversation, "porter unicode61"),
        "words": lambda conversation: _ours(conversation, embedder, ["words"]),
        "meaning": lambda conversation: _ours(conversation, embedder, ["meaning"]),
        "words and meaning": lambda conversation: _ours(conversation, embedder, ["words", "meaning"]),
    }


def _plain(conversation: Conversation, tokenizer: str) -> Ask:
    """Search with FTS5's defaults: the words without stop words, joined by OR, ranked by its bm25."""
    connection = apsw.Connection(":memory:")
    connection.execute(f"CREATE VIRTUAL TABLE turns USING fts5(text, tokenize = '{tokenizer}')")
    rows = ((f"{turn.speaker}: {turn.text}",) for turn in conversation.turns)
    connection.executemany("INSERT INTO turns (text) VALUES (?)", rows)

    def ask(question: str) -> list[str]:
        words = [word for word in dict.fromkeys(words_of(question)) if word not in STOP_WORDS]
        match = " OR ".join(f'"{word}"' for word in words)
        found = connection.execute("SELECT rowid FROM turns WHERE turns MATCH ? ORDER BY rank LIMIT ?", (match, KS[-1]))
        return [conversation.turns[row - 1].id for (row,) in found] if words else []

    return ask


def _ours(conversation: Conversation, embedder: MiniLM, by: Iterable[str]) -> Ask:
    CACHE.mkdir(parents=True, exist_ok=True)
    memory = Memory("locomo", f"sqlite:///{CACHE}/{conversation.name}.db", embedder=embedder)
    for turn in conversation.turns:
        memory.history(turn.session).append(
            [{"role": "user", "name": turn.speaker, "content": turn.text}], ids=[turn.id]
        )
    if "meaning" in by:
        memory.embed()

    def ask(question: str) -> list[str]:
        return [hit.message.id for hit in memory.search(question, limit=KS[-1], by=by) if hit.message]

    return ask


if __name__ == "__main__":
    main(*sys.argv[1:])
