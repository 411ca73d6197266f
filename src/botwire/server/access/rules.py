"""Who may do what where: the rules alone, without HTTP and without storage.

A request has a scope (read, write, admin) and a place. A caller has nothing, or a token: one that was minted and lists what it
may do where, or one of its own making, which counts in the namespaces that were claimed with it.
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
"""admin: read, write, and mint and revoke tokens."""
Mode: TypeAlias = Literal["open", "required"]
"""open: a namespace that nobody has claimed is everybody's. required: nothing without a token."""

SCOPES: tuple[Scope, ...] = ("read", "write", "admin")
EVERYWHERE = "*"
"""The pattern of operators: admin here is admin of the whole service."""
MAX_PATTERNS = 100
LEAST_OWN_CHARS = 16
"""The length of a token of somebody's own making. Only its hash is kept, so it must not be one that can be guessed."""
_MINTED = "bw_"
"""What every minted token begins with, so that no token of somebody's own is taken for one, and scanners know it."""


# Rules of the routes


class Rule(NamedTuple):
    """What a route asks for.

    ``where``: the namespace in its path; everywhere, which is for operators; the namespaces of tokens that the request is
    about, which the route itself judges; nowhere in particular, for whoever has a token that is good, or none; what is counted,
    for whoever may read everywhere, and for all on an open server; or nowhere, for whoever asks.
    """

    scope: Scope
    where: Literal["namespace", "everywhere", "tokens", "caller", "counts", "nowhere"] = "namespace"


_READ, _WRITE = Rule("read"), Rule("write")
_OPERATOR, _ADMIN, _PUBLIC = Rule("admin", "everywhere"), Rule("admin", "tokens"), Rule("read", "nowhere")
_CALLER = Rule("read", "caller")
_COUNTS = Rule("read", "counts")

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
    ("GET", "/search/{namespace}"): _READ,
    ("POST", "/search/{namespace}"): _READ,
    ("GET", "/texts/{namespace}"): _READ,
    ("GET", "/usage/{namespace}"): _READ,
    ("GET", "/usage/{namespace}/history"): _READ,
    ("GET", "/watch/{namespace}"): _READ,
    ("GET", "/namespaces"): _OPERATOR,
    ("GET", "/audit"): _OPERATOR,
    ("GET", "/plans"): _OPERATOR,
    ("PUT", "/plans/{namespace}"): _OPERATOR,
    ("GET", "/tokens"): _ADMIN,
    ("POST", "/tokens"): _ADMIN,
    ("DELETE", "/tokens/{token}"): _ADMIN,
    ("GET", "/whoami"): _CALLER,
    ("GET", "/"): _PUBLIC,
    ("GET", "/console/{file}"): _PUBLIC,
    ("GET", "/metrics"): _COUNTS,
    ("GET", "/health"): _PUBLIC,
    ("GET", "/docs"): _PUBLIC,
    ("GET", "/openapi.json"): _PUBLIC,
}
"""The rule for each method and route. A request for a route without a row is refused."""


def rule_of(method: str, path: str) -> Rule:
    """Return the rule of a route, or raise `Forbidden` when it has none."""
    rule = TABLE.get(("GET" if method == "HEAD" else method, path))
    if rule is None:
        raise Forbidden("nobody may do this: the route has no rule of access")
    return rule


# Tokens


class Token(msgspec.Struct, frozen=True):
    """A token that was minted, or a claim. Of the secret only its SHA-256 is kept; times are in microseconds.

    ``namespaces``: patterns, see `covers`; of a claim the one namespace. ``by``: who minted it: the id of a token, or ``cli``
    for the command line.
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

    def live(self, now: int) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def allows(self, scope: Scope, namespace: str) -> bool:
        """Whether it may do this in a namespace."""
        return (scope in self.can or "admin" in self.can) and (
            namespace in self.namespaces if self.claim else any(covers(item, namespace) for item in self.namespaces)
        )

    def administers(self, pattern: str) -> bool:
        """Whether it may mint and revoke tokens for a pattern."""
        if "admin" not in self.can:
            return False
        if self.claim:
            return pattern in self.namespaces and not pattern.endswith("*")
        return any(covers(own, pattern) for own in self.namespaces)


def covers(pattern: str, other: str) -> bool:
    """Whether a pattern stands for a namespace, or for all that another pattern stands for.

    A pattern is the name of a namespace, or the beginning of names and a ``*`` behind it: ``support-*`` stands for
    ``support-`` and all that begins so, ``*`` for all. No other character means anything but itself.
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
        f"{pattern!r:.140} is not a pattern: write the name of a namespace, or the beginning of names and one * at the end"
    )


def check_grant(
    name: object, namespaces: Sequence[object], can: Sequence[object]
) -> tuple[str, tuple[str, ...], tuple[Scope, ...]]:
    """Return the name, the patterns and the scopes of a token to be, checked."""
    if not 0 < len(namespaces) <= MAX_PATTERNS:
        raise InvalidArgument(f"a token is for 1 to {MAX_PATTERNS} namespaces or patterns, not {len(namespaces)}")
    wrong = [scope for scope in can if scope not in SCOPES]
    if wrong or not can:
        raise InvalidArgument(f"a token can read, write or admin, not {', '.join(map(repr, wrong)) or 'nothing'}")
    scopes = tuple(scope for scope in SCOPES if scope in can)
    return "" if name == "" else check_name(name, "token name"), tuple(map(check_pattern, namespaces)), scopes


def new_secret() -> tuple[str, str]:
    """Return a new id and the token that carries it: 256 random bits, more than anybody can guess."""
    identity = secrets.token_hex(6)
    return identity, f"{_MINTED}{identity}_{secrets.token_urlsafe(32)}"


def hash_of(secret: str) -> str:
    """Return what is kept of a token. It is too long to be guessed, so that one round of SHA-256 is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


# Callers


class Caller(NamedTuple):
    """Who asks: with no token (``secret`` is empty), with a minted one, or with one of its own making.

    ``token``: the minted token, once it was looked up; None: there is none, or it is not live.
    """

    secret: str
    token: Token | None = None

    @property
    def minted_id(self) -> str:
        """The id in the token of a caller that has a minted one; empty for any other."""
        if not self.secret.startswith(_MINTED):
            return ""
        return self.secret[len(_MINTED) :].partition("_")[0] or "?"


def caller_of(credentials: Sequence[bytes]) -> Caller:
    """Return who sends these ``Authorization`` header fields (RFC 6750, section 2.1)."""
    if not credentials:
        return Caller("")
    scheme, _, secret = credentials[0].decode("latin-1").partition(" ")
    secret = secret.strip(" ")
    if (
        len(credentials) > 1
        or scheme.lower() != "bearer"
        or not secret
        or not all("!" <= char <= "~" for char in secret)
    ):
        raise Unauthorized(NOT_ACCEPTED, "invalid_token")
    return Caller(secret)


def proven(secret: str, token: Token | None, now: int) -> Token | None:
    """Return the token if the secret is its own and it is live. It takes as long when there is none."""
    known = token or _NOBODY
    same = hmac.compare_digest(hash_of(secret), known.hash)
    return token if same and known.live(now) else None


def judge(caller: Caller, scope: Scope, namespace: str, claim: Token | None, *, mode: Mode, now: int) -> None:
    """Return if the caller may do this, or raise why not: the same, whatever there is in the namespace.

    Args:
        caller: who.
        scope: what.
        namespace: where.
        claim: the claim on the namespace; None: nobody has claimed it.
        mode: of the server.
        now: in microseconds.

    Raises:
        Unauthorized: without a token that is known here.
        Forbidden: the token is good, but not for this.
    """
    if caller.minted_id:
        if caller.token is None:
            raise Unauthorized(NOT_ACCEPTED, "invalid_token")
        if not caller.token.allows(scope, namespace):
            raise Forbidden(NOT_ALLOWED, scope)
        return
    if caller.secret and proven(caller.secret, claim, now):
        return
    if mode == "open" and claim is None and scope != "admin":
        return
    if caller.secret:
        raise Unauthorized(NOT_ACCEPTED, "invalid_token")
    raise Unauthorized(NEEDED)


_NOBODY = Token("", "", hash_of(secrets.token_urlsafe(32)), (), (), 0)

NEEDED = (
    "this needs a token: pass token=…, or set BOTWIRE_TOKEN beside BOTWIRE_URL. The operator of the server makes one with "
    "botwire token create"
)
NOT_ACCEPTED = (
    "the token is not accepted here: it is unknown, revoked or expired, or somebody else's token has claimed the namespace. "
    "Ask the operator of the server for another"
)
NOT_ALLOWED = "the token is good, but not for this: ask whoever made it for one that can do it here"


class Unauthorized(AuthError):
    """There is no token, or none that is known here; nothing was done."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        # https://datatracker.ietf.org/doc/html/rfc6750#section-3: no reason for who sent no token
        self.challenge = 'Bearer realm="botwire"' + (f', error="{reason}"' if reason else "")


class Forbidden(AuthError):
    """The token is known, but may not do this here; nothing was done."""

    status = 403

    def __init__(self, message: str, scope: str = "") -> None:
        super().__init__(message)
        self.challenge = 'Bearer realm="botwire", error="insufficient_scope"' + (f', scope="{scope}"' if scope else "")
