"""Random histories and budgets, and a check of contexts that shares no code with `botwire.conversations`.

`python -m tests.unit.conversations.histories 100000` checks so many histories of each format, and prints what it found.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from random import Random

import msgspec

from botwire.conversations.context import Picked, Picker
from botwire.conversations.tokens import estimate_tokens
from botwire.errors import InvalidArgument
from botwire.records import Message

from .formats import FORMATS, Item

TEXTS = [
    "Hi",
    "What is the weather in Rome?",
    "It is sunny.",
    "naïve café",
    "a\nb",
    "x" * 90,
    "一二三四五",
    "ok then",
    '"quoted"',
]
encode = msgspec.json.Encoder().encode


def history(random: Random, name: str, *, turns: int = 4, faults: float = 0.3) -> list[Item]:
    """Return a random conversation. Some have faults: missing, repeated, moved and orphaned messages."""
    format_ = FORMATS[name]()
    chance, choice = random.random, random.choice
    items = format_.system(choice(TEXTS)) if chance() < 0.3 else []
    for _ in range(random.randrange(turns + 1)):
        if chance() < 0.9:
            items += format_.user(choice(TEXTS))
        while chance() < 0.45:
            # Some providers use the same id in every turn.
            count = random.randrange(1, 4)
            ids = [f"call{number}" if chance() < 0.2 else format_.new_id() for number in range(count)]
            ids = list(dict.fromkeys(ids))
            items += format_.calls(ids, choice(TEXTS) if chance() < 0.5 else "")
            if chance() < 0.1:
                items += format_.user(choice(TEXTS))
            if chance() < 0.5:
                items += format_.results(ids, choice(TEXTS))
            else:
                random.shuffle(ids)
                items += [item for id_ in ids for item in format_.results([id_], choice(TEXTS))]
        if chance() < 0.9:
            items += format_.assistant(choice(TEXTS))
    if items and chance() < faults:
        for _ in range(random.randrange(1, 4)):
            damage(random, items)
    return items


def damage(random: Random, items: list[Item]) -> None:
    """Remove, repeat or move a message."""
    if not items:
        return
    at, to = random.randrange(len(items)), random.randrange(len(items))
    kind = random.randrange(3)
    if kind == 0:
        del items[at]
    elif kind == 1:
        items.insert(to, items[at])
    else:
        items.insert(to, items.pop(at))


def messages(items: list[Item]) -> list[Message]:
    return [Message(seq, f"m{seq}", encode(item.data).decode(), 0) for seq, item in enumerate(items, 1)]


class Case(msgspec.Struct):
    """A history, what is asked for, and the tokens of each message."""

    items: list[Item]
    messages: list[Message]
    tokens: list[int]
    max_tokens: int | None = None
    start: str = "user"
    system: int = 0  # messages from the start that are sent in any case
    upto: int = 0
    knows_end: bool = True  # whether the picker gets `upto`
    summary: list[dict] = []
    base: int = 0
    by_default: bool = False  # whether the default estimate counts
    page: int = 3


def tokens_of(data: object) -> int:
    """Count tokens in another way than the default, so that each history has many different sizes."""
    return len(str(data)) % 17


def case(random: Random, name: str) -> Case:
    items = history(random, name)
    by_default = random.random() < 0.5
    count = estimate_tokens if by_default else tokens_of
    made = Case(items, messages(items), [count(item.data) for item in items], by_default=by_default)
    made.page = random.choice([1, 3, 8, 100])
    made.start = "any" if random.random() < 0.2 else "user"
    if items and items[0].role == "system" and random.random() < 0.5:
        made.system = 1
    if len(items) > made.system and random.random() < 0.3:
        made.upto = random.randrange(made.system, len(items) + 1)
        if made.upto > made.system:
            made.summary = [{"role": random.choice(["user", "system", "assistant"]), "content": "summary"}]
        else:
            made.upto = 0
    made.knows_end = random.random() < 0.7
    made.base = sum(made.tokens[: made.system]) + sum(map(count, made.summary))
    if random.random() < 0.95:
        made.max_tokens = random.randrange(1, made.base + sum(made.tokens) + 20)
    return made


def pick(made: Case, page: int | None = None) -> tuple[Picked, int]:
    """Return what a `Picker` picks, and the messages that were read for it."""
    page = page or made.page
    picker = Picker(
        made.max_tokens,
        None if made.by_default else tokens_of,
        system=made.messages[: made.system],
        summary=made.summary,
        start=made.start,
        upto=made.upto if made.knows_end else 0,
    )
    end, read = len(made.messages), 0
    while not picker.is_full and end > made.system:
        begin = max(end - page, made.upto if end > made.upto else 0, made.system)
        picker.add(made.messages[begin:end], summarized=end <= made.upto)
        read, end = read + end - begin, begin
    return picker.finish(), read


def expected(made: Case) -> tuple[int | None, int]:
    """Return the index of the first message of the context, None if nothing fits, and the tokens of the smallest context."""
    items, low = made.items, made.system
    count = len(items)
    if count == low or (made.summary and made.upto == count):
        return (count if made.max_tokens is None or made.base <= made.max_tokens else None), made.base
    broken = pairs_at(items, low)
    roles = {"user", None}
    if made.start == "any":
        roles = {"user", None, "assistant", "system", "tool"}
    elif made.summary and made.summary[-1]["role"] == "user":
        roles = {"user", None, "assistant"}
    sizes, total = [0] * count, made.base
    for index in range(count - 1, low - 1, -1):
        total += made.tokens[index]
        sizes[index] = total
    free = [index for index in range(low, count) if not broken[index]]
    levels = [
        [index for index in free if items[index].role in roles and not items[index].results],
        [index for index in free if not items[index].results],
        free,
    ]
    level = next(found for found in levels if found)
    recent = [index for index in level if index >= made.upto]
    starts = recent or [max(level)]
    least = sizes[max(starts)]
    fitting = [index for index in starts if made.max_tokens is None or sizes[index] <= made.max_tokens]
    return (min(fitting) if fitting else None), least


def pairs_at(items: list[Item], low: int) -> list[bool]:
    """Return for each index whether a context that begins there separates what belongs together."""
    broken = [False] * len(items)
    for at in range(low, len(items)):
        if at > low and items[at - 1].joins_next and items[at].role != "user":
            broken[at] = True
        for id_ in items[at].results:
            call = next((index for index in range(at, low - 1, -1) if id_ in items[index].calls), None)
            if call is not None:
                broken[call + 1 : at + 1] = [True] * (at - call)
    return broken


def check(made: Case, found: Counter) -> None:
    """Check the context of a case against the rules, and count what is wrong."""
    first, least = expected(made)
    try:
        picked, _ = pick(made)
    except InvalidArgument as error:
        found["refused"] += 1
        found["wrong refusals"] += first is not None or error.details["minimum"] != least
        return
    found["contexts"] += 1
    count = len(picked.messages)
    begin = len(made.items) - count
    found["not newest"] += picked.messages != made.messages[begin:] or (first is not None and begin != first)
    tokens = made.base + sum(made.tokens[begin:])
    found["overruns"] += tokens != picked.tokens or (made.max_tokens is not None and tokens > made.max_tokens)
    found["wrong contexts"] += first is None
    if count:
        found["broken pairs"] += pairs_at(made.items, made.system)[begin]
        found["wrong starts"] += bool(made.items[begin].results) and any(
            not item.results for item in made.items[made.system :]
        )


WRONG = "overruns", "broken pairs", "not newest", "wrong starts", "wrong contexts", "wrong refusals"


def run(name: str, count: int) -> Counter:
    """Check random histories of a format; returns what was found."""
    random, found = Random(name), Counter()
    for _ in range(count):
        check(case(random, name), found)
    return found


def main() -> None:
    count, begun = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, time.monotonic()
    print(f"{count:,} histories and budgets of each format", flush=True)
    print(f"{'format':18}{'contexts':>10}{'refused':>10}" + "".join(f"{name:>16}" for name in WRONG))
    wrong = 0
    for name in FORMATS:
        found = run(name, count)
        wrong += sum(found[kind] for kind in WRONG)
        columns = f"{found['contexts']:>10,}{found['refused']:>10,}" + "".join(f"{found[kind]:>16,}" for kind in WRONG)
        print(f"{name:18}{columns}", flush=True)
    print(f"{wrong} faults, {time.monotonic() - begun:.0f} s")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
