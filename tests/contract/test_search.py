"""The contract of search, for each of our stores that can be searched."""

from __future__ import annotations

from botwire.testing.search import SearchContract
from botwire.testing.vectors import VectorContract
from tests.contract.stores import InAFile, InMemory, InPostgres, OverHttp


class TestSqliteFile(InAFile, SearchContract):
    pass


class TestSqliteMemory(InMemory, SearchContract):
    examples = 10


class TestHttp(OverHttp, SearchContract):
    examples = 3
    steps = 20


class TestPostgres(InPostgres, SearchContract):
    examples = 5
    steps = 30


class TestVectorsInAFile(InAFile, VectorContract):
    pass


class TestVectorsInMemory(InMemory, VectorContract):
    examples = 3


class TestVectorsOverHttp(OverHttp, VectorContract):
    examples = 3
    steps = 15


class TestVectorsInPostgres(InPostgres, VectorContract):
    examples = 3
