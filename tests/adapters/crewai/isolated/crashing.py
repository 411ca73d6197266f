"""Workers of CrewAI that are killed at each step of a turn with tools: ``crashing.py FOLDER WORKERS``.

A turn is a flow: its agent remembers two facts with tools, its crew's memory gets a record, and each method persists the state.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

from crewai import Agent
from crewai import Memory as CrewMemory
from crewai.flow.flow import Flow, listen, start
from crewai.flow.persistence import persist
from crewai.llms.base_llm import BaseLLM

from botwire import Memory
from botwire.adapters.crewai import BotWireFlowPersistence, BotWireStorage, memory_tools
from tests.adapters.isolated.crashes import Strike, kill_workers, note, store_at

WRITES = 6
"""The writes of a turn: two of the tools, one of the crew's memory, and the states after three methods."""


class ToolUser(BaseLLM):
    """A model that remembers two facts of a worker with tools, and then answers."""

    worker: str = ""
    asked: int = 0

    def call(self, *_: Any, **__: Any) -> str:
        self.asked += 1
        if self.asked > 2:
            return "Thought: done\nFinal Answer: Done."
        fact = f'{{"key": "{self.worker}/{self.asked}", "value": "known"}}'
        return f"Thought: keep it\nAction: remember\nAction Input: {fact}"

    def supports_function_calling(self) -> bool:
        return False


def vector(text: str) -> list[float]:
    return [float(zlib.crc32(f"{text}{number}".encode()) % 100) for number in range(8)]


def memory_over(storage: BotWireStorage) -> CrewMemory:
    return CrewMemory(storage=storage, embedder=lambda texts: list(map(vector, texts)), llm=ToolUser(model="scripted"))


def flow_of(store: Any, worker: str, acknowledged: Path) -> Flow:
    tools = memory_tools("facts", store=store)
    for tool in tools:
        if tool.name == "remember":
            remember = tool._run

            def noted(_remember: Any = remember, **arguments: Any) -> Any:
                answer = _remember(**arguments)
                note(acknowledged, f"fact {arguments['key']}")
                return answer

            tool._run = noted

    @persist(BotWireFlowPersistence("flows", store=store))
    class Turn(Flow):
        @start()
        def ask(self) -> str:
            self.state["question"] = worker
            return worker

        @listen(ask)
        def use_tools(self, _: str) -> str:
            note(acknowledged, f"state {self.flow_id} question")
            model = ToolUser(model="scripted", worker=worker)
            agent = Agent(role="helper", goal="help", backstory="kind", llm=model, tools=tools)
            self.state["answer"] = agent.kickoff("Remember two facts.").raw
            return worker

        @listen(use_tools)
        def keep(self, _: str) -> str:
            note(acknowledged, f"state {self.flow_id} answer")
            self.remember(worker, scope=f"/{worker}", categories=["turns"], importance=0.5)
            note(acknowledged, f"record {worker}")
            self.state["kept"] = True
            return worker

    return Turn(memory=memory_over(BotWireStorage("records", store=store)))


def turn(address: str, worker: str, acknowledged: Path, strike: Strike | None = None) -> None:
    store = store_at(address, strike)
    flow = flow_of(store, worker, acknowledged)
    note(acknowledged, f"flow {worker} {flow.flow_id}")
    flow.kickoff()
    note(acknowledged, f"state {flow.flow_id} kept")
    assert strike is not None or store.writes == WRITES


def verify(address: str, acknowledged: Path) -> None:
    """Everything acknowledged is there, records are whole, and each flow goes on from its last state."""
    store = store_at(address)
    facts, storage = Memory("facts", store=store), BotWireStorage("records", store=store)
    persistence = BotWireFlowPersistence("flows", store=store)
    flows = {}
    lines = acknowledged.read_text().splitlines() if acknowledged.exists() else []
    for kind, name, *more in map(str.split, lines):
        if kind == "flow":
            flows[name] = more[0]
        elif kind == "fact":
            assert facts.get(name) == "known"
        elif kind == "record":
            assert [record.content for record, _ in storage.search(vector(name), limit=1, min_score=1.0)] == [name]
        else:
            assert more[0] in persistence.load_state(name)
    records, stored = storage.list_records(), Memory("records", store=store)
    assert len(records) == storage.count() == len(storage.search(vector("any"), limit=100))
    assert {len(stored.list_keys(f"crewai:{part}:")) for part in ("record", "vector", "place")} == {len(records)}
    assert all(storage.get_record(record.id).content == record.content for record in records)
    for worker, id_ in flows.items():
        flow = flow_of(store, worker, acknowledged)
        assert flow.kickoff(inputs={"id": id_}) == worker
        assert persistence.load_state(id_) == {"id": id_, "question": worker, "answer": "Done.", "kept": True}
        assert {record.content for record in storage.list_records(f"/{worker}")} == {worker}


if __name__ == "__main__":
    kill_workers(Path(sys.argv[1]), turn, verify, WRITES, int(sys.argv[2]))
