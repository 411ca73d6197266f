from __future__ import annotations

import pytest

from tests.servers import Server


@pytest.fixture(scope="module")
def two_servers(postgres_database):
    with Server(postgres_database) as one, Server(postgres_database) as other:
        yield one.url, other.url
