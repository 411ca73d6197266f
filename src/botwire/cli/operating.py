"""Commands of operators: plans, tokens, namespaces, the audit log, indexes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from ..limits import check_namespace
from ..plans import Plans
from ..stores import open_to_serve
from ..stores.address import default_token
from ..timestamps import moment
from .base import (
    AdminAddress,
    Database,
    Json,
    Name,
    PlanFile,
    address_of,
    app,
    is_server,
    line_of,
    plans_of,
    say,
    say_each,
    seconds_of,
)

if TYPE_CHECKING:
    from ..server.operator import Administration

plan = typer.Typer(help="Assign plans to namespaces.", no_args_is_help=True)
app.add_typer(plan, name="plan")
index = typer.Typer(help="Enable or disable search.", no_args_is_help=True)
app.add_typer(index, name="index")
token = typer.Typer(help="Create, list and revoke tokens.", no_args_is_help=True)
app.add_typer(token, name="token")


@plan.command("set")
def plan_set(
    namespace: Name,
    plan: Annotated[str, Argument(help="The plan: free, unlimited, or one from your plans file.")],
    db: Database = None,
    plans: PlanFile = None,
    as_json: Json = False,
) -> None:
    """Assign a plan to a namespace, also while a server runs."""
    from ..server.operator import OnStore

    with closing(open_to_serve(address_of(db), plans_of(plans, "unlimited"))) as store:
        store.set_plan(check_namespace(namespace), plan)
    with closing(OnStore(address_of(db))) as administration:
        administration.record("plan.set", namespace=namespace, plan=plan)
    say(f"{namespace} has the plan {plan}", {"namespace": namespace, "plan": plan}, as_json=as_json)


@token.command("create")
def token_create(
    namespace: Annotated[list[str], Option(help="A namespace, or a prefix such as 'support-*'. Repeat for several.")],
    can: Annotated[str, Option(help="Permissions: read, write, admin; comma-separated.")] = "read,write",
    expires: Annotated[str, Option(help="Lifetime, such as 30s, 10m, 12h or 90d; or never.")] = "never",
    name: Annotated[str, Option(help="A name that the list shows.")] = "",
    db: AdminAddress = None,
    as_json: Json = False,
) -> None:
    """Create a token and print it. It is shown only once, because only its hash is stored.

    --namespace '*' --can admin creates an operator's token.
    """
    with _administration(db) as administration:
        lifetime = seconds_of(expires, "--expires")
        made = administration.create(namespaces=namespace, can=can.split(","), name=name, expires_in=lifetime)
    say(made["secret"], made, as_json=as_json)


@token.command("list")
def token_list(db: AdminAddress = None) -> None:
    """List tokens and claims as JSON, one per line, without their secrets."""
    with _administration(db) as administration:
        for item in administration.tokens():
            times = {when: moment(item[when]) for when in ("created", "expires", "revoked") if item[when] is not None}
            typer.echo(line_of(item | {when: str(time) for when, time in times.items()}))


@token.command("revoke")
def token_revoke(
    identity: Annotated[str, Argument(help="The id of the token, from botwire token list.", metavar="ID")],
    db: AdminAddress = None,
    as_json: Json = False,
) -> None:
    """Revoke a token or claim and all tokens issued with it, also while servers run."""
    with _administration(db) as administration:
        revoked = administration.revoke(identity)
    text = f"revoked: {', '.join(revoked)}" if revoked else "already revoked"
    say(text, {"revoked": revoked}, as_json=as_json)


@app.command()
def namespaces(db: AdminAddress = None, as_json: Json = False) -> None:
    """List the namespaces."""
    with _administration(db) as administration:
        say_each(administration.namespaces(), str, lambda name: {"namespace": name}, as_json=as_json)


@app.command()
def audit(db: AdminAddress = None, as_json: Json = False) -> None:  # noqa: ARG001 - the output is always JSON
    """Print the audit log as JSON, one action per line: tokens, claims, plans."""
    with _administration(db) as administration:
        for act in administration.audit():
            typer.echo(line_of(act))


@index.command("on")
def index_on(namespace: Name, db: Database = None, as_json: Json = False) -> None:
    """Enable search in a namespace and index its data. Run it again to resume an interrupted indexing."""
    with closing(open_to_serve(address_of(db), Plans())) as store:
        store.set_index(check_namespace(namespace), on=True)
        store.index(namespace, timeout=math.inf)
    say(f"{namespace} is indexed", {"namespace": namespace, "index": True}, as_json=as_json)


@index.command("off")
def index_off(namespace: Name, db: Database = None, as_json: Json = False) -> None:
    """Disable search in a namespace and delete its index."""
    with closing(open_to_serve(address_of(db), Plans())) as store:
        store.set_index(check_namespace(namespace), on=False)
    say(f"{namespace} is not indexed", {"namespace": namespace, "index": False}, as_json=as_json)


@contextmanager
def _administration(db: str | None) -> Iterator[Administration]:
    from ..server.operator import OnStore, Remote

    remote = db is not None and is_server(db)
    with closing(Remote(str(db), default_token()) if remote else OnStore(address_of(db))) as administration:
        yield administration
