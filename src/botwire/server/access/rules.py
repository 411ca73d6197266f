"""Access rules as pure functions, without HTTP and storage.

A caller has no token, an issued token, which lists what it may do in which namespaces, or a token that the caller generated.
A self-generated token is valid in the namespaces that were claimed with it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from ...errors import AuthError, InvalidArgument
from ...limits import MAX_NAMESPACE_CHARS, check_name, check_namespace

Scope: TypeAlias = Literal["read", "write", "admin"]
"""admin: read, write, and issue and revoke tokens."""
Mode: TypeAlias = Literal["open", "required"]
"""open: every caller may use a namespace until one claims it. required: every request needs a token."""

SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
EVERYWHERE = "*"
"""The pattern of operators: who administers it administers the whole service."""
MAX_PATTERNS = 100
MIN_CLAIM_CHARS = 16
"""The length of a self-generated token. Only its hash is stored, so it must be too long to guess."""
_ISSUED = "bw_"
"""The prefix of issued tokens. It distinguishes them from self-generated ones, and secret scanners recognize it."""


# Rules of the routes


class Rule(NamedTuple):
    """What a route requires.

    ``where``: the namespace in its path; everywhere: operators; tokens: any token, because the route itself checks the
    namespaces; caller: no token or a valid one; counts: a token that may read everywhere, and on an open server nothing;
    nowhere: nothing.
    """

    scope: Scope
    where: Literal["namespace", "everywhere", "tokens", "caller", "counts", "nowhere"] = "namespace"


_READ, _WRITE = Rule("read"), Rule("write")
_OPERATOR, _ADMIN, _PUBLIC = Rule("admin", "everywhere"), Rule("admin", "tokens"), Rule("read", "nowhere")

TABLE: Mapping[tuple[str, str], Rule] = {
    ("GET", "/memory/{namespace}"): _READ,
    ("POST", "/memory/{namespace}"): _WRITE,
    ("GET", "/memory/{namespace}/{name:path}"): _READ,
    ("PUT", "/memory/{namespace}/{name:path}"): _WRITE,
    ("DELETE", "/memory/{namespace}/{name:path}"): _WRITE,
    ("GET", "/sessions/{namespace}"): _READ,
    ("GET", "/sessions/{namespace}/{name:path}"): _READ,
    ("POST", "/sessions/{namespace}/{name:path}"): _WRITE,
    ("DELETE", "/sessions/{namespace}/{session:path}"): _WRITE,
    ("GET", "/problems/{namespace}"): _READ,
    ("POST", "/problems/{namespace}"): _WRITE,
    ("GET", "/retention/{namespace}"): _READ,
    ("GET", "/search/{namespace}"): _READ,
    ("POST", "/search/{namespace}"): _READ,
    ("GET", "/texts/{namespace}"): _READ,
    ("GET", "/usage/{namespace}"): _READ,
    ("GET", "/usage/{namespace}/history"): _READ,
    ("GET", "/watch/{namespace}"): _READ,
    ("DELETE", "/namespaces/{namespace}"): _WRITE,
    ("GET", "/namespaces"): _OPERATOR,
    ("GET", "/audit"): _OPERATOR,
    ("GET", "/plans"): _OPERATOR,
    ("PUT", "/plans/{namespace}"): _OPERATOR,
    ("GET", "/tokens"): _ADMIN,
    ("POST", "/tokens"): _ADMIN,
    ("DELETE", "/tokens/{token}"): _ADMIN,
    ("GET", "/whoami"): Rule("read", "caller"),
    ("GET", "/"): _PUBLIC,
    ("GET", "/console/{file}"): _PUBLIC,
    ("GET", "/metrics"): Rule("read", "counts"),
    ("GET", "/health"): _PUBLIC,
    ("GET", "/docs"): _PUBLIC,
    ("GET", "/openapi.json"): _PUBLIC,
}
"""The rule for each method and route. A request for a route without a row is refused."""


def rule_of(method: str, path: str) -> Rule:
    """Return the rule of a route, or raise `Forbidden` if it has none."""
    rule = TABLE.get(("GET" if method == "HEAD" else method, path))
    if rule is None:
        raise Forbidden("no token allows this request: the route has no access rule")
    return rule


# Tokens


class Token(msgspec.Struct, frozen=True):
    """An issued token, or a claim. Only the SHA-256 of its secret is stored. Times are in microseconds.

    ``namespaces``: patterns, see `covers`; of a claim, its one namespace. ``by``: the id of the token that issued it, or ``cli``
    for the command line. ``root``: the id of the claim, or of an operator's token for some namespaces, that it descends from. Their
    descendants are counted together, see `tokens.MAX_ISSUED`. Empty: it is not counted.
    """

    id: str
    name: str
    hash: str
    namespaces: tuple[str, ...]
    can: tuple[Scope, ...]
    created: int
    expires: int | None = None
    revoked: int | None = None
    by: str = ""
    claim: bool = False
    root: str = ""

    def live(self, now: int) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def allows(self, scope: Scope, namespace: str) -> bool:
        """Whether it may do this in a namespace."""
        return (scope in self.can or "admin" in self.can) and (
            namespace in self.namespaces if self.claim else any(covers(item, namespace) for item in self.namespaces)
        )

    def administers(self, pattern: str) -> bool:
        """Whether it may issue and revoke tokens for a pattern. A claim is for its namespace only, never for a pattern."""
        return self.allows("admin", pattern) and not (self.claim and pattern.endswith("*"))


def covers(pattern: str, other: str) -> bool:
    """Whether a pattern matches a namespace, or everything that another pattern matches.

    A pattern is the name of a namespace, or a prefix and ``*``: ``support-*`` matches ``support-`` and every name with this
    prefix; ``*`` matches all. No other character is special.
    """
    if pattern.endswith("*"):
        return other.startswith(pattern[:-1])
    return pattern == other


def check_pattern(pattern: object) -> str:
    """Return a pattern, or raise `InvalidArgument`."""
    if isinstance(pattern, str) and "*" not in pattern[:-1] and len(pattern) <= MAX_NAMESPACE_CHARS:
        if pattern != EVERYWHERE:
            check_namespace(pattern)
        return pattern
    raise InvalidArgument(
        f"{pattern!r:.140} is not a pattern: write the name of a namespace, or a prefix of names and one * at the end"
    )


def check_grant(
    name: object, namespaces: Sequence[object], can: Sequence[object]
) -> tuple[str, tuple[str, ...], tuple[Scope, ...]]:
    """Return the checked name, patterns and scopes of a new token."""
    if not 0 < len(namespaces) <= MAX_PATTERNS:
        raise InvalidArgument(f"a token is for 1 to {MAX_PATTERNS} namespaces or patterns, not {len(namespaces)}")
    wrong = [scope for scope in can if scope not in SCOPES]
    if wrong or not can:
        raise InvalidArgument(f"a token can read, write or admin, not {', '.join(map(repr, wrong)) or 'nothing'}")
    scopes = tuple(scope for scope in SCOPES if scope in can)
    return "" if name == "" else check_name(name, "token name"), tuple(map(check_pattern, namespaces)), scopes


def new_secret() -> tuple[str, str]:
    """Return a new id and a token that contains it and 256 random bits."""
    identity = secrets.token_hex(6)
    return identity, f"{_ISSUED}{identity}_{secrets.token_urlsafe(32)}"


def hash_of(secret: str) -> str:
    """Return the stored form of a token. A token is too long to guess, so one round of SHA-256 is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


# Callers


class Caller(NamedTuple):
    """The caller of a request: without a token (``secret`` is empty), with an issued or with a self-generated one.

    ``token``: the issued token, once it was read; None: there is none, or it is revoked or expired.
    """

    secret: str
    token: Token | None = None

    @property
    def issued_id(self) -> str:
        """The id in an issued token; empty for any other caller."""
        if not self.secret.startswith(_ISSUED):
            return ""
        return self.secret[len(_ISSUED) :].partition("_")[0] or "?"


def parse_credentials(credentials: Sequence[bytes]) -> Caller:
    """Return the caller who sends these ``Authorization`` header fields (RFC 6750, section 2.1)."""
    if not credentials:
        return Caller("")
    scheme, _, secret = credentials[0].decode("latin-1").partition(" ")
    secret = secret.strip(" ")
    if len(credentials) > 1 or scheme.lower() != "bearer" or not secret or not all("!" <= c <= "~" for c in secret):
        raise Unauthorized(NOT_ACCEPTED, "invalid_token")
    return Caller(secret)


def proven(secret: str, token: Token | None, now: int) -> Token | None:
    """Return the token if it has this secret and is live. Without a token it takes the same time."""
    known = token or _NO_TOKEN
    same = hmac.compare_digest(hash_of(secret), known.hash)
    return token if same and known.live(now) else None


def authorize(caller: Caller, scope: Scope, namespace: str, claim: Token | None, *, mode: Mode, now: int) -> None:
    """Return if the caller, whose issued token has been read, may do this; else raise the same error whatever the namespace holds.

    Raises:
        Unauthorized: the caller has no token that is valid here.
        Forbidden: the token lacks the permission.
    """
    if caller.issued_id:
        if caller.token is None:
            raise Unauthorized(NOT_ACCEPTED, "invalid_token")
        if not caller.token.allows(scope, namespace):
            raise forbidden(caller.token, scope, namespace)
        return
    if caller.secret and proven(caller.secret, claim, now):
        return
    if mode == "open" and claim is None and scope != "admin":
        return
    raise Unauthorized(NOT_ACCEPTED, "invalid_token") if caller.secret else Unauthorized(NEEDED)


def authorize_route(caller: Caller, rule: Rule) -> None:
    """Return if the caller may use a route that is not about one namespace, else raise as `authorize` does."""
    if caller.issued_id and caller.token is None:
        raise Unauthorized(NOT_ACCEPTED, "invalid_token")
    if rule.where == "caller":
        return
    if not caller.secret:
        raise Unauthorized(NEEDED)
    if rule.where == "tokens":
        return
    if caller.token is None:  # a self-generated token is valid in claimed namespaces only
        raise Unauthorized(NOT_ACCEPTED, "invalid_token")
    if not caller.token.allows(rule.scope, EVERYWHERE):
        raise forbidden(caller.token, rule.scope, EVERYWHERE)


_NO_TOKEN = Token("", "", hash_of(secrets.token_urlsafe(32)), (), (), 0)

NEEDED = (
    "this needs a token: pass token=…, or set BOTWIRE_TOKEN beside BOTWIRE_URL. The operator of the server creates one with "
    "botwire token create"
)
NOT_ACCEPTED = (
    "the token is not accepted here: it is unknown, revoked or expired, or another token has claimed the namespace. Ask the "
    "operator of the server for a new one"
)


class Unauthorized(AuthError):
    """There is no token, or none that is valid here; nothing was done."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        # https://datatracker.ietf.org/doc/html/rfc6750#section-3: no reason for a caller without a token
        self.challenge = 'Bearer realm="botwire"' + (f', error="{reason}"' if reason else "")


class Forbidden(AuthError):
    """The token is valid, but lacks the permission; nothing was done."""

    status = 403

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.challenge = 'Bearer realm="botwire", error="insufficient_scope"' + (f', scope="{scope}"' if scope else "")


_ACTIONS: Mapping[Scope, str] = {"read": "Reading", "write": "Writing to", "admin": "Administering"}
_MAX_NAMED = 5
"""Patterns of a token that an error names."""


def forbidden(token: Token | None, scope: Scope, namespace: str) -> Forbidden:
    """Return the error that says what a token may do, and which permission it lacks. None: a self-generated token."""
    if token is None:
        granted = "A self-generated token is valid only in namespaces that were claimed with it."
    else:
        patterns = [*map(repr, token.namespaces[:_MAX_NAMED]), *["…"][: len(token.namespaces) > _MAX_NAMED]]
        granted = f"This token may {' and '.join(token.can)} {', '.join(patterns)}."
    wanted = ascii(namespace[:MAX_NAMESPACE_CHARS]) if namespace else "a namespace"
    return Forbidden(f"{granted} {_ACTIONS[scope]} {wanted} needs the {scope} permission.", scope)
