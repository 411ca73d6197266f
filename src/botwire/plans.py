"""Plans: named limits of the writes per day and the bytes of a namespace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import msgspec

from .errors import InvalidArgument
from .limits import MAX_TTL_SECONDS

DAY = 86_400_000_000
"""A UTC day in microseconds."""
MAX_IDLE_DAYS = MAX_TTL_SECONDS // 86_400
"""A hundred years, as for a time to live."""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits; None is no limit. Reads and deletes are never limited.

    ``writes_per_day``: values and messages stored in a UTC day. Deletes, and the first redaction of a message, do not count.
    ``max_bytes``: the size of the namespace, counted as in `Usage`.
    ``session_idle_days``: a session expires this many days after its last activity; part of a day is allowed.
    """

    writes_per_day: int | None = None
    max_bytes: int | None = None
    session_idle_days: float | None = None


BUILT_IN: Mapping[str, Plan] = {"free": Plan(writes_per_day=1_000, max_bytes=50_000_000), "unlimited": Plan()}


@dataclass(frozen=True)
class Plans:
    """The plans of a store, and the default plan of its namespaces."""

    default: str = "unlimited"
    named: Mapping[str, Plan] = field(default_factory=lambda: BUILT_IN)

    def __post_init__(self) -> None:
        self.check(self.default)

    @cached_property
    def current(self) -> Plans:
        """These plans, as one version of them. Plans that can be replaced have another one after that."""
        return self

    def check(self, name: str) -> str:
        """Return the name of a plan, or raise `InvalidArgument` with the names of all plans."""
        if name not in self.named:
            raise InvalidArgument(f"there is no plan {name!r}; there are: {', '.join(sorted(self.named))}")
        return name

    def of(self, name: str | None) -> tuple[str, Plan]:
        """Return the name and the plan for the name stored with a namespace: the default plan if it is None or unknown."""
        plans = self.current
        if name is None or name not in plans.named:
            name = plans.default
        return name, plans.named[name]


def load_plans(path: str | Path, default: str = "unlimited") -> Plans:
    """Return the built-in plans and those of a TOML file, which has a table for each.

    ::

        [team]
        writes_per_day = 100_000      # without this line: no limit
        max_bytes = 1_000_000_000
        session_idle_days = 30        # sessions expire after a month without activity

    Raises:
        InvalidArgument: the file cannot be read, is not TOML, or has a table that is not a plan.
    """
    import tomllib

    try:
        with Path(path).open("rb") as file:
            tables = tomllib.load(file)
        named = msgspec.convert(tables, dict[str, Plan])
    except OSError as error:
        raise InvalidArgument(f"the plans cannot be read: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InvalidArgument(f"{path} is not a file of plans: {error}") from error
    for name, plan in named.items():
        if (plan.writes_per_day or 0) < 0 or (plan.max_bytes or 0) < 0:
            raise InvalidArgument(f"{path}: plan {name!r} has a limit below 0")
        if plan.session_idle_days is not None and not 0 < plan.session_idle_days <= MAX_IDLE_DAYS:
            raise InvalidArgument(
                f"{path}: plan {name!r} keeps idle sessions for {plan.session_idle_days} days: use more than 0, at most {MAX_IDLE_DAYS:,}"
            )
    return Plans(default, {**BUILT_IN, **named})
