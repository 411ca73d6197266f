"""What code that uses LangGraph's own savers and stores calls."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import empty_checkpoint

from botwire import InvalidArgument, StoreError
from botwire.adapters.langgraph import BotWireSaver, BotWireStore

CONFIG: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}


def test_a_saver_from_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for conn_string in (":memory:", "a.sqlite", str(tmp_path / "b 50%.db"), f"sqlite:///{tmp_path}/c.db"):
        with BotWireSaver.from_conn_string(conn_string) as saver:
            saver.setup()
            saver.put(CONFIG, empty_checkpoint(), {}, {})
        with pytest.raises(StoreError, match="closed"):
            saver.get_tuple(CONFIG)
        with BotWireSaver.from_conn_string(conn_string, namespace="other") as saver:
            assert saver.get_tuple(CONFIG) is None
        with BotWireSaver.from_conn_string(conn_string) as saver:
            assert (saver.get_tuple(CONFIG) is None) == (conn_string == ":memory:")
    assert {"a.sqlite", "b 50%.db", "c.db"} <= {path.name for path in tmp_path.iterdir()}


async def test_a_saver_and_a_store_from_an_address(address: str) -> None:
    async with BotWireSaver.from_conn_string(address) as saver, BotWireStore.from_conn_string(address) as store:
        await saver.setup()
        await saver.asetup()
        await saver.aput(CONFIG, empty_checkpoint(), {}, {})
        assert await saver.aget_tuple(CONFIG) is not None
        assert await saver.aget_tuple(CONFIG) == saver.get_tuple(CONFIG)  # allowed, although a loop runs
        await store.setup()
        await store.asetup()
        await store.aput(("a",), "k", {"n": 1})
        assert (await store.aget(("a",), "k")).value == {"n": 1}


@pytest.mark.parametrize(
    "conn_string", ["", "host=localhost dbname=x", "file:a.db?mode=memory", None, Path("a.db"), "mysql://host/a"]
)
def test_what_is_no_connection_string(conn_string: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for cls in (BotWireSaver, BotWireStore):
        with pytest.raises(InvalidArgument, match="postgresql://user@host/database"):
            cls.from_conn_string(conn_string)
    assert list(tmp_path.iterdir()) == []


async def test_a_store_sweeps_by_itself() -> None:
    before = threading.active_count()
    with BotWireStore.from_conn_string(":memory:", ttl={"default_ttl": 1, "sweep_interval_minutes": 1}) as store:
        store.setup()
        future = store.start_ttl_sweeper(sweep_interval_minutes=5)
        assert future.done()
        assert future.result(1) is None
        assert (await store.start_ttl_sweeper()).done()
        assert store.sweep_ttl() == await store.asweep_ttl() == 0
        assert store.stop_ttl_sweeper(timeout=1) is await store.astop_ttl_sweeper() is True
        store.put(("a",), "k", {"n": 1}, ttl=0.0001)
    assert threading.active_count() == before
