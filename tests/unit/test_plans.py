"""Plans that a server replaces while its store uses them."""

from __future__ import annotations

import pytest

from botwire.errors import InvalidArgument
from botwire.plans import Plan, Plans, load_plans
from botwire.server.serve import ReplaceablePlans
from botwire.stores.engine.tables import NamespaceState
from botwire.stores.engine.transaction import Transaction

NEW = Plans("new", {"new": Plan(max_bytes=1)})


class ReplacedOnLookup(dict):
    """Plans by name. A lookup replaces all plans, as another thread may do at that moment."""

    replace = None

    def __contains__(self, name):
        if self.replace is not None:
            self.replace(NEW)
        return super().__contains__(name)


def replaced_on_lookup():
    named = ReplacedOnLookup(old=Plan())
    plans = ReplaceablePlans(Plans("old", named))
    named.replace = plans.replace
    return plans


def test_a_plan_is_of_one_version_while_plans_are_replaced():
    plans = replaced_on_lookup()
    assert plans.of("unknown") == ("old", Plan())
    assert plans.of("unknown") == ("new", NEW.named["new"])


def test_a_transaction_uses_one_version_of_the_plans():
    transaction = Transaction(None, replaced_on_lookup(), 0)
    state = NamespaceState("n", "unknown", 0, 0, 0, 0, None)
    assert transaction._plan_of(state) == ("old", Plan())
    assert transaction._plan_of(state) == ("old", Plan())


def test_days_for_which_idle_sessions_are_kept(tmp_path):
    file = tmp_path / "plans.toml"
    file.write_text("[week]\nsession_idle_days = 7\n[hour]\nsession_idle_days = 0.042\nmax_bytes = 5\n[none]\n")
    named = load_plans(file).named
    assert (named["week"], named["none"]) == (Plan(session_idle_days=7.0), Plan())
    assert named["hour"] == Plan(max_bytes=5, session_idle_days=0.042)
    for wrong in ("0", "-1", "nan", "inf", "36601"):
        file.write_text(f"[week]\nsession_idle_days = {wrong}\n")
        with pytest.raises(
            InvalidArgument, match=f"plan 'week' keeps idle sessions for {wrong}.* days: use more than 0"
        ):
            load_plans(file)
    file.write_text('[week]\nsession_idle_days = "7"\n')
    with pytest.raises(InvalidArgument, match="session_idle_days"):
        load_plans(file)
