"""What the tests of the server share."""

from __future__ import annotations

import pytest

from tests.postgres import emptied


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def db(request, tmp_path_factory):
    """Return the address of a database that the tests of a file share, once of each kind."""
    if request.param == "postgres":
        address = request.getfixturevalue("postgres_database")
        emptied(address)
        return address
    return f"sqlite:///{tmp_path_factory.mktemp('server') / 'a.db'}"
