"""The contract of a store as a test class, for the stores here and in other packages.

::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, tmp_path):
            store = MyStore(tmp_path)
            yield store
            store.close()

Needs pytest and hypothesis.
"""

from __future__ import annotations

from .conversations import ConversationContract
from .entries import EntryContract
from .messages import MessageContract
from .model import ModelContract
from .races import RaceContract
from .sessions import SessionContract


class StoreContract(EntryContract, MessageContract, ConversationContract, SessionContract, RaceContract, ModelContract):
    """Provide a fixture ``store`` that yields an empty store; every test must pass. Each base class has one subject."""
