"""What real networks have between a client and its server: proxies, authorities of one's own, IPv6."""

from __future__ import annotations

import base64

import pytest

from botwire import InvalidArgument, Memory, Unavailable
from botwire.stores.http.messages import ConnectionFailed, Request
from botwire.stores.http.origin import Proxy as ProxyAddress
from botwire.stores.http.origin import proxy_for
from tests.unit.stores.http.peers import OK, Peer, Proxy

GET = Request("GET", "/x")
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=["", "user:p%40ss@"], ids=["no login", "login"])
def proxy(request, listening, monkeypatch):
    """A proxy for every address, with and without a user and a password."""
    proxy = listening(Proxy())
    proxy.login = b"Basic " + base64.b64encode(b"user:p@ss") if request.param else b""
    monkeypatch.setenv("ALL_PROXY", proxy.url.replace("//", f"//{request.param}"))
    return proxy


def test_http_through_a_proxy(send, listening, proxy):
    peer = listening(Peer(OK, OK))
    responses = send(peer.url, GET, GET)
    assert [response.body for response in responses] == [b"ok", b"ok"]
    (head,) = proxy.requests
    assert head.startswith(b"GET http://localhost:%d/base/x HTTP/1.1\r\n" % peer.port)
    assert (b"Proxy-Authorization: " + proxy.login in head) == bool(proxy.login) or not proxy.login
    assert (b"Proxy-Authorization" in head) == bool(proxy.login)


def test_https_through_a_proxy(send, listening, proxy, authority):
    """A tunnel, in which the proxy sees neither the path nor the fields."""
    peer = listening(Peer(OK, OK, tls=authority.server))
    responses = send(peer.url, GET, GET, ca=authority.file)
    assert [response.body for response in responses] == [b"ok", b"ok"]
    (head,) = proxy.requests
    assert head.startswith(b"CONNECT localhost:%d HTTP/1.1\r\n" % peer.port)
    assert b"A: b" not in head
    assert (b"Proxy-Authorization: " + proxy.login in head) if proxy.login else (b"Proxy-Authorization" not in head)
    assert all(b"Proxy-Authorization" not in request for request in peer.requests)


def test_a_memory_and_its_watch_through_a_proxy(proxy, server):
    with Memory("proxied", server.url) as memory:
        with memory.watch(wait=5) as watch:
            memory.set("k", 1)
            assert next(iter(watch)).value == 1
    assert len(proxy.requests) >= 2


def test_no_proxy(send, listening, proxy, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "example.org, localhost")
    send(listening(Peer(OK)).url, GET)
    assert not proxy.requests


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(b"407 Proxy Authentication Required", True), (b"403 Forbidden", True), (b"502 Bad Gateway", False)],
)
def test_a_proxy_that_refuses_a_tunnel(send, listening, monkeypatch, authority, status, is_final):
    proxy = listening(Proxy(refusal=b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n"))
    monkeypatch.setenv("https_proxy", proxy.url)
    with pytest.raises(ConnectionFailed, match=f"the proxy answered {status.decode()}") as raised:
        send("https://localhost:1", GET, ca=authority.file)
    assert (raised.value.is_final, raised.value.was_sent) == (is_final, False)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nsurplus", b"", b"x" * 20_000])
def test_a_proxy_that_is_none(send, listening, monkeypatch, authority, answer):
    proxy = listening(Proxy(refusal=answer or b"\r\n"))
    monkeypatch.setenv("https_proxy", proxy.url)
    with pytest.raises(ConnectionFailed, match="the proxy"):
        send("https://localhost:1", GET, ca=authority.file)


def test_a_proxy_that_wants_a_login_for_http(listening, monkeypatch):
    proxy = listening(Proxy(refusal=b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"))
    monkeypatch.setenv("http_proxy", proxy.url)
    with pytest.raises(Unavailable, match="the proxy asks for a login"):
        Memory("n", "http://localhost:1").get("k")


def test_an_unreachable_proxy_is_named(send, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://user:secret@127.0.0.1:9")
    with pytest.raises(ConnectionFailed, match=r"cannot connect to the proxy 127\.0\.0\.1:9") as raised:
        send("http://localhost:1", GET)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"http_proxy": "http://p:1"}, None),
        ({"https_proxy": "http://p:1"}, ("p", 1)),
        ({"HTTPS_PROXY": "p:1"}, ("p", 1)),
        ({"HTTPS_PROXY": "http://p"}, ("p", 80)),
        ({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:1"}, ("low", 1)),
        ({"all_proxy": "http://p:1"}, ("p", 1)),
        ({"ALL_PROXY": "http://[::1]:3128/"}, ("::1", 3128)),
        ({"HTTPS_PROXY": " "}, None),
    ],
)
def test_which_variable_counts(monkeypatch, environment, proxy):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_for("https", "host.example", 443)
    assert found == (proxy and ProxyAddress(*proxy, None))


def test_a_cgi_program_does_not_let_its_client_choose_a_proxy(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://evil:1")
    assert proxy_for("http", "host.example", 80) is not None
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    assert proxy_for("http", "host.example", 80) is None


@pytest.mark.parametrize(
    ("excluded", "host", "port", "is_direct"),
    [
        ("", "host.example", 443, False),
        ("*", "host.example", 443, True),
        ("other, host.example", "host.example", 443, True),
        ("HOST.Example", "host.example", 443, True),
        ("example", "host.example", 443, True),
        (".example", "host.example", 443, True),
        ("*.example", "host.example", 443, True),
        ("st.example", "host.example", 443, False),
        ("host.example:8443", "host.example", 443, False),
        ("host.example:443", "host.example", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("127.0.0.1", "127.0.0.1", 443, True),
        ("127.0.0.1:443", "127.0.0.1", 443, True),
        ("127.0.0.1:444", "127.0.0.1", 443, False),
        ("::1", "::1", 443, True),
        ("[::1]", "::1", 443, True),
        ("[::1]:443", "::1", 443, True),
        ("fd00::/8", "fd00::1", 443, True),
        ("localhost", "127.0.0.1", 443, False),
    ],
)
def test_which_hosts_are_reached_directly(monkeypatch, excluded, host, port, is_direct):
    monkeypatch.setenv("https_proxy", "http://p:1")
    monkeypatch.setenv("NO_PROXY", excluded)
    assert (proxy_for("https", host, port) is None) == is_direct


@pytest.mark.parametrize(
    "value", ["socks5://user:secret@p:1", "https://p:1", "http://", "http://user:secret@p:x", "http://:1"]
)
def test_a_proxy_that_is_not_supported_is_named_and_its_password_is_not(monkeypatch, value):
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(InvalidArgument, match="HTTPS_PROXY") as raised:
        Memory("n", "https://host.example")
    assert "secret" not in str(raised.value)


def test_authorities_of_the_environment(send, listening, authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    (response,) = send(listening(Peer(OK, tls=authority.server)).url, GET)
    assert response.body == b"ok"


def test_the_authorities_of_an_argument_are_the_only_ones(send, listening, authority, monkeypatch, tmp_path):
    other = type(authority)(tmp_path / "other")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with pytest.raises(ConnectionFailed, match="(?i)certificate.verify.failed"):
        send(listening(Peer(OK, tls=authority.server)).url, GET, ca=str(other.file))


def test_a_wrong_certificate_is_not_tried_again(listening, authority):
    """It would be as wrong after a pause."""
    peer = listening(Peer(*[OK] * 9, tls=authority.server))
    with pytest.raises(Unavailable, match="(?i)certificate.verify.failed"):
        Memory("n", peer.url, timeout=30).get("k")
    assert peer.connections == 1


@pytest.mark.parametrize("content", [None, b"", b"not a certificate"])
def test_authorities_that_are_none(tmp_path, monkeypatch, send, content):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidArgument, match=r"ca names .*ca\.pem"):
        send("https://localhost:1", GET, ca=file)
    if content is None:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        with pytest.raises(InvalidArgument, match="SSL_CERT_FILE names"):
            send("https://localhost:1", GET)


@pytest.mark.parametrize("is_secure", [False, True])
def test_ipv6(send, listening, authority, is_secure):
    tls = authority.server if is_secure else None
    peer = listening(Peer(OK, tls=tls, host="::1"))
    scheme = "https" if is_secure else "http"
    send(f"{scheme}://[::1]:{peer.port}", GET, ca=authority.file)
    assert b"Host: [::1]:%d" % peer.port in peer.requests[0]


def test_ipv6_through_a_proxy(send, listening, authority, proxy):
    peer = listening(Peer(OK, tls=authority.server, host="::1"))
    send(f"https://[::1]:{peer.port}", GET, ca=authority.file)
    assert proxy.requests[0].startswith(b"CONNECT [::1]:%d HTTP/1.1\r\n" % peer.port)
