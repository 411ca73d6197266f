"""Commands of operators: plans, tokens, namespaces, the audit log, indexes."""

from __future__ import annotations

import math
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from ..limits import check_namespace
from ..plans import Plans
from ..stores import open_to_serve
from ..stores.address import default_token
from ..timestamps import moment
from .base import Database, Json, Place, PlanFile, address_of, app, line_of, plans_of, say, seconds_of

if TYPE_CHECKING:
    from ..server.operator import Administration

plan = typer.Typer(help="Put namespaces on plans.", no_args_is_help=True)
app.add_typer(plan, name="plan")
index = typer.Typer(help="Let namespaces be searched or not.", no_args_is_help=True)
app.add_typer(index, name="index")
token = typer.Typer(help="Make, list and revoke tokens.", no_args_is_help=True)
app.add_typer(token, name="token")


@plan.command("set")
def plan_set(
    namespace: Annotated[str, typer.Argument(help="The namespace.")],
    plan: Annotated[str, typer.Argument(help="The plan: free, unlimited, or one of your plans file.")],
    db: Database = None,
    plans: PlanFile = None,
    as_json: Json = False,
) -> None:
    """Put a namespace on a plan, from now on, also while a server runs."""
    from ..server.operator import OnStore

    store = open_to_serve(address_of(db), plans_of(plans, "unlimited"))
    try:
        store.set_plan(check_namespace(namespace), plan)
    finally:
        store.close()
    with closing(OnStore(address_of(db))) as administration:
        administration.record("plan.set", namespace=namespace, plan=plan)
    say(f"{namespace} is on the plan {plan}", {"namespace": namespace, "plan": plan}, as_json=as_json)


@token.command("create")
def token_create(
    namespace: Annotated[
        list[str], typer.Option(help="A namespace, or the beginning of names and a *; 'support-*'. Again for several.")
    ],
    can: Annotated[str, typer.Option(help="What it may do: read, write, admin, with commas between.")] = "read,write",
    expires: Annotated[
        str, typer.Option(help="In how long it expires: a number and s, m, h or d, such as 90d; or never.")
    ] = "never",
    name: Annotated[str, typer.Option(help="What it is for, to know it again in the list.")] = "",
    db: Place = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it. It is shown this once: only its hash is kept.

    With --namespace '*' --can admin it is an operator's.
    """
    with closing(_administration(db)) as administration:
        made = administration.create(
            namespaces=namespace, can=can.split(","), name=name, expires_in=seconds_of(expires)
        )
    say(made["secret"], made, as_json=as_json)


@token.command("list")
def token_list(db: Place = None) -> None:
    """List tokens and claims as JSON, one a line, without their secrets."""
    with closing(_administration(db)) as administration:
        for item in administration.tokens():
            times = {
                when: str(moment(item[when])) for when in ("created", "expires", "revoked") if item[when] is not None
            }
            typer.echo(line_of({**item, **times}))


@token.command("revoke")
def token_revoke(
    identity: Annotated[str, typer.Argument(help="The id of the token, as list shows it.", metavar="ID")],
    db: Place = None,
    as_json: Json = False,
) -> None:
    """Revoke a token or a claim and all tokens that it minted, also while servers run."""
    with closing(_administration(db)) as administration:
        gone = administration.revoke(identity)
    text = f"revoked: {', '.join(gone)}" if gone else "it was revoked already"
    say(text, {"revoked": gone}, as_json=as_json)


@app.command()
def namespaces(db: Place = None, as_json: Json = False) -> None:
    """List the namespaces."""
    with closing(_administration(db)) as administration:
        for name in administration.namespaces():
            say(name, {"namespace": name}, as_json=as_json)


@app.command()
def audit(db: Place = None, as_json: Json = False) -> None:  # noqa: ARG001 - it is JSON anyway
    """Show what administrators did, as JSON, one act a line: tokens, claims, plans."""
    with closing(_administration(db)) as administration:
        for act in administration.audit():
            typer.echo(line_of(act))


@index.command("on")
def index_on(
    namespace: Annotated[str, typer.Argument(help="The namespace.")],
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Let a namespace be searched, and index what it holds. That can be stopped, and goes on where it was."""
    with closing(open_to_serve(address_of(db), Plans())) as store:
        store.set_index(check_namespace(namespace), on=True)
        store.index(namespace, timeout=math.inf)
    say(f"{namespace} is indexed", {"namespace": namespace, "index": True}, as_json=as_json)


@index.command("off")
def index_off(
    namespace: Annotated[str, typer.Argument(help="The namespace.")],
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Index nothing of a namespace from now on, and remove its index. Its search is refused."""
    with closing(open_to_serve(address_of(db), Plans())) as store:
        store.set_index(check_namespace(namespace), on=False)
    say(f"{namespace} is not indexed", {"namespace": namespace, "index": False}, as_json=as_json)


def _administration(db: str | None) -> Administration:
    from ..server.operator import OnStore, Remote

    if db is not None and db.partition(":")[0] in {"http", "https"}:
        return Remote(db, default_token())
    return OnStore(address_of(db))
