"""SIGHUP: a server reads its plans, its certificate and its log level again, in place."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import threading
import time
import urllib.request

import pytest

from botwire import Memory, QuotaExceeded
from tests.certificates import write_certificate
from tests.servers import Server


def reload(server, workers=1, event="reloaded"):
    """Send SIGHUP and wait until every process has logged an event for it."""
    before = len(logged(server, event))
    os.kill(server.process.pid, signal.SIGHUP)
    deadline = time.monotonic() + 30
    while len(logged(server, event)) < before + workers:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)
    return logged(server, event)[before:]


def logged(server, event):
    return [found for found in server.events() if found["event"] == event]


def wait_for_workers(server, workers):
    deadline = time.monotonic() + 30
    while len(logged(server, "Application startup complete.")) < workers:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.02)
    time.sleep(0.2)


def processes(server):
    return {pid for event in server.events() for pid in re.findall(r"server process \[(\d+)\]", event["event"])}


@pytest.mark.parametrize("workers", [1, 2])
def test_new_plans_apply_to_the_next_write(tmp_path, workers):
    plans = tmp_path / "plans.toml"
    plans.write_text("[small]\nwrites_per_day = 1000000\n")
    options = ("--plans", str(plans), "--plan", "small", "--workers", str(workers))
    with Server(tmp_path / "a.db", *options) as server:
        wait_for_workers(server, workers)
        running = processes(server)
        stop, done, errors = threading.Event(), [0] * 4, []

        def write(number):
            with Memory(f"n{number}", server.url, timeout=30) as memory:
                while not stop.is_set():
                    try:
                        done[number] = memory.increment("k")
                    except Exception as error:
                        errors.append(error)
                        return

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        with Memory("n0", server.url) as memory, memory.watch() as watch:
            reload(server, workers)
            before, deadline = list(done), time.monotonic() + 30
            while min(now - then for now, then in zip(done, before, strict=False)) < 20 and not errors:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert next(watch).version > 0
            plans.write_text("[small]\nwrites_per_day = 10\n")
            reload(server, workers)
        deadline = time.monotonic() + 20
        while len(errors) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        stop.set()
        for thread in threads:
            thread.join(20)
        assert [type(error) for error in errors] == [QuotaExceeded] * 4, errors  # by the new plan, and by nothing else
        assert processes(server) == running  # none was replaced
        for number in range(4):
            with Memory(f"n{number}", server.url) as memory:
                assert memory["k"] == done[number]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_open_stream_survives(tmp_path, workers):
    with Server(tmp_path / "a.db", "--workers", str(workers)) as server:
        wait_for_workers(server, workers)
        with socket.create_connection(("127.0.0.1", server.port)) as stream:
            stream.settimeout(10)
            stream.sendall(b"GET /watch/n HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"200 OK" in stream.recv(65_536)
            reload(server, workers)
            with Memory("n", server.url) as memory:
                memory.set("after-the-reload", 1)
            seen = b""
            while b"after-the-reload" not in seen:
                part = stream.recv(65_536)
                assert part, "the server closed the stream"
                seen += part


@pytest.mark.parametrize("workers", [1, 2])
def test_a_new_certificate_for_new_connections(tmp_path, workers):
    cert, key = write_certificate(tmp_path, "rsa")
    options = ("--tls-cert", str(cert), "--tls-key", str(key), "--workers", str(workers))

    def connect(server, name=None):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        return context.wrap_socket(raw, server_hostname=name)

    def shown(server, name=None):
        with connect(server, name) as connection:
            return connection.getpeercert(binary_form=True)

    def health(connection):
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        return connection.recv(65_536)

    with Server(tmp_path / "a.db", *options) as server:
        wait_for_workers(server, workers)
        first = ssl.PEM_cert_to_DER_cert(cert.read_text())
        assert shown(server) == first
        with connect(server) as kept:
            assert b"200 OK" in health(kept)
            write_certificate(tmp_path, "ec")
            second = ssl.PEM_cert_to_DER_cert(cert.read_text())
            reload(server, workers)
            for _ in range(8):  # whichever process accepts
                assert shown(server) == second != first
                assert shown(server, "localhost") == second
            assert b"200 OK" in health(kept)
            whole = key.read_bytes()
            key.write_bytes(b"no key")
            (event,) = reload(server, event="not reloaded")
            assert str(key) in event["reason"]
            assert shown(server) == second
            key.write_bytes(whole)
            cert.rename(tmp_path / "elsewhere.pem")
            (event,) = reload(server, event="not reloaded")
            assert f"{cert} does not exist" in event["reason"]
            assert {shown(server) for _ in range(8)} == {second}
            assert b"200 OK" in health(kept)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("text", [b"no toml", b"\xff\xfe", b"[small]\nwrites_per_day = -1\n", b"[small]\nwrites = 1\n"])
def test_wrong_plans_change_nothing(tmp_path, text, workers):
    plans = tmp_path / "plans.toml"
    plans.write_text("[small]\nwrites_per_day = 2\n")
    options = ("--plans", str(plans), "--plan", "small", "--workers", str(workers))
    with Server(tmp_path / "a.db", *options) as server:
        wait_for_workers(server, workers)
        plans.write_bytes(text)
        (event,) = reload(server, event="not reloaded")
        assert str(plans) in event["reason"]
        with Memory("n", server.url) as memory:
            memory.set("a", 1), memory.set("b", 1)
            with pytest.raises(QuotaExceeded):
                memory.set("c", 1)
        assert not logged(server, "reloaded")


def test_the_configuration_is_read_again(tmp_path, monkeypatch):
    config, plans = tmp_path / "botwire.toml", tmp_path / "plans.toml"
    plans.write_text("[none]\nwrites_per_day = 0\n")
    config.write_text("[serve]\nmax-connections = 100\n")
    monkeypatch.setenv("BOTWIRE_CONFIG", str(config))
    with Server(tmp_path / "a.db", "--workers", "2") as server:
        wait_for_workers(server, 2)
        with Memory("n", server.url) as memory:
            memory.set("k", 1)
            config.write_text(
                f'[serve]\nplans = "{plans}"\nplan = "none"\nlog-level = "warning"\nmax-connections = 7\nauth = "required"\n'
            )
            (event,) = reload(server, event="restart needed")
            assert event["options"] == ["--auth", "--max-connections"]
            deadline = time.monotonic() + 20
            while True:
                try:
                    memory.set("k", 1)
                except QuotaExceeded:
                    break
                assert time.monotonic() < deadline
        with urllib.request.urlopen(f"{server.url}/whoami", timeout=10) as answer:
            assert json.load(answer)["mode"] == "open"  # until it restarts
        config.write_text("[serve]\nauth = 'perhaps'\n")
        (event,) = reload(server, event="not reloaded")
        assert "perhaps" in event["reason"]


def test_a_new_worker_has_the_new_settings(tmp_path):
    plans = tmp_path / "plans.toml"
    plans.write_text("[small]\nwrites_per_day = 1000\n")
    options = ("--plans", str(plans), "--plan", "small", "--workers", "2")
    with Server(tmp_path / "a.db", *options) as server:
        wait_for_workers(server, 2)
        plans.write_text("[small]\nwrites_per_day = 0\n")
        reload(server, 2)
        for pid in processes(server):
            os.kill(int(pid), signal.SIGKILL)
        wait_for_workers(server, 4)
        for _ in range(8):
            with Memory("n", server.url) as memory, pytest.raises(QuotaExceeded):
                memory.set("k", 1)
