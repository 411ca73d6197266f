"""The real command, `botwire mcp`: killed, with many clients, and beside those who may not use it."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import socket
import subprocess
import uuid
from contextlib import ExitStack
from pathlib import Path

import pytest
from mcp import Client

from botwire import InvalidArgument, Memory
from botwire.adapters.mcp import create_server, serve_http
from tests.adapters.mcp.isolated.running import COMMAND, call, refused, served


async def test_it_remembers_after_being_killed(address: str) -> None:
    namespace = f"test-{uuid.uuid4()}"
    options = ("--url", address, "--namespace", namespace)
    with served(*options) as (url, process), ExitStack() as later:
        async with Client(url) as here:
            await call(here, "remember", key="name", value="Ada")
            process.kill()
            process.wait(30)
            # The same client goes on with a new process at the same place.
            later.enter_context(served(*options, port=int(re.search(r":(\d+)/", url)[1])))
            assert (await call(here, "recall", key="name"))["value"] == "Ada"


def test_a_server_of_stdio_that_is_killed(tmp_path: Path) -> None:
    """Speaking the protocol by hand: what was answered is on disk."""
    command = [*COMMAND, "--url", f"sqlite:///{tmp_path}/memory.db"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "by hand", "version": "1"}}
    with process:
        for number, method, params in [
            (1, "initialize", info),
            (None, "notifications/initialized", {}),
            (2, "tools/call", {"name": "remember", "arguments": {"key": "name", "value": "Ada"}}),
        ]:
            identity = {} if number is None else {"id": number}
            process.stdin.write(json.dumps({"jsonrpc": "2.0", "method": method, "params": params, **identity}) + "\n")
            process.stdin.flush()
            if number is not None:
                answer = json.loads(process.stdout.readline())
                assert answer["id"] == number
        assert answer["result"]["structuredContent"]["key"] == "name"
        process.kill()
    assert Memory("mcp", f"sqlite:///{tmp_path}/memory.db").get("name") == "Ada"


def test_other_interfaces_are_refused(tmp_path: Path) -> None:
    command = [*COMMAND, "--transport", "http", "--host", "0.0.0.0", "--url", f"sqlite:///{tmp_path}/memory.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(r"botwire: 0\.0\.0\.0 can be reached from other machines, .*--open.*\n", done.stderr)
    with pytest.raises(InvalidArgument, match="--open"):
        serve_http(create_server(url="sqlite:///:memory:"), host="192.0.2.1", port=0)


async def test_16_clients_on_one_server_lose_nothing_and_nothing_is_logged(tmp_path: Path) -> None:
    """Half of them speak the protocol as it was until 2025, and half as it is since."""
    address = f"sqlite:///{tmp_path}/memory.db"
    with served("--url", address, "--json") as (url, process):

        async def work(number: int) -> None:
            async with Client(url, mode="auto" if number % 2 else "legacy") as here:
                for count in range(5):
                    await call(here, "remember", key=f"sEcReT/{number}/{count}", value=[number, count, "sEcReT"])
                await refused(here, "remember", key="sEcReT" * 100, value="sEcReT")
                await refused(here, "remember", key="sEcReT", value="sEcReT", ttl="sEcReT")

        await asyncio.gather(*map(work, range(16)))
        refuses_other_sites(url)
        process.terminate()
        assert "sEcReT" not in process.stderr.read()
    wanted = {f"sEcReT/{number}/{count}": [number, count, "sEcReT"] for number in range(16) for count in range(5)}
    assert dict(Memory("mcp", address).items()) == wanted


def refuses_other_sites(url: str) -> None:
    """DNS rebinding: a browser names the host and the page that it was told."""
    port = int(re.search(r":(\d+)/", url)[1])
    for header, value, status in [
        ("Host", "evil.test", 421),
        ("Origin", "http://evil.test", 403),
        ("Origin", f"http://localhost:{port + 1}", 403),
        ("Origin", f"http://localhost:{port}", 200),
    ]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        headers = {"Content-Type": "application/json", "Accept": "application/json", header: value}
        connection.request("POST", "/mcp", b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}', headers)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Cross-Origin-Resource-Policy"]) == (status, "same-origin")
        connection.close()


def test_the_limits_of_a_connection_hold(tmp_path: Path) -> None:
    """They are those of `botwire serve`, which `tests/server/test_protocol.py` tests in full."""
    chunked = (
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with served("--url", f"sqlite:///{tmp_path}/memory.db") as (url, _):
        port = int(re.search(r":(\d+)/", url)[1])
        for sent, status in [
            (chunked + b"2\r\n{}\r\n0\r\n" + b"a:b\r\n" * 1_000_000, b"431"),
            (chunked + b"1;" + b"e" * 5_000_000, b"431"),
            (b"GET /mcp?q=%FF HTTP/1.1\r\nHost: localhost\r\n\r\n", b"422"),
            (b"GET /mcp HTTP/1.1\r\n\r\n", b"400"),
        ]:
            answer = b""
            with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.sendall(sent)
                while part := connection.recv(65536):  # until the server closes it
                    answer += part
            assert not answer or answer.split()[1] == status
