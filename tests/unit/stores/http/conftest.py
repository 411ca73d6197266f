"""Both transports, behind one function that blocks."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from botwire.bridge import blocking
from botwire.deadline import Deadline
from botwire.stores.http.connection import LoopConnection, ThreadConnection
from botwire.stores.http.messages import Request
from botwire.stores.http.origin import Origin
from botwire.stores.http.transport import Transport
from tests.unit.stores.http.peers import Authority, Peer

send_now = blocking(Transport.send)


@pytest.fixture(params=["blocking", "asyncio", "uvloop"])
def send(request):
    """Send requests to an address, one after the other, and return the responses."""

    def send(url, *requests, timeout=5.0, ca=None):
        origin = Origin(url, {"A": "b"}, ca)
        if request.param == "blocking":
            transport = Transport(origin)
            try:
                return [send_now(transport, item, ThreadConnection, Deadline.after(timeout)) for item in requests]
            finally:
                transport.close()

        async def run():
            transport = Transport(origin)
            try:
                return [await transport.send(item, LoopConnection, Deadline.after(timeout)) for item in requests]
            finally:
                transport.close()

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(run())

    return send


@pytest.fixture
def listening():
    """Close servers and proxies at the end of the test."""
    opened = []

    def keep(listener):
        opened.append(listener)
        return listener

    yield keep
    for listener in opened:
        listener.close()


@pytest.fixture
def exchange(send, listening):
    """Send requests to a peer's answers and return the responses."""

    def exchange(*answers, count=None, tls=None, ca=None, timeout=5.0, requests=None):
        peer = listening(Peer(*answers, tls=tls))
        todo = requests or [Request("GET", "/x")] * (count or len(answers))
        return peer, send(peer.url, *todo, timeout=timeout, ca=ca)

    return exchange


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))
