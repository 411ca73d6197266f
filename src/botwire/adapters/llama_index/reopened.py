"""What is copied, pickled or made from a dict opens its memory again."""

from __future__ import annotations

from typing import Any, Self, cast

from llama_index.core.bridge.pydantic import BaseModel, Field

from ...errors import InvalidArgument
from ...memory import Options


class Reopened(BaseModel):
    """The fields of a store or a memory, from which a copy or a workflow opens it again."""

    namespace: str = Field(description="The namespace of the messages")
    url: str | None = Field(
        default=None, repr=False, description="The address, without secrets; None: the default address"
    )
    encrypted: bool = Field(
        default=False, repr=False, description="Whether it needs its encryption key to be opened again"
    )
    ttl: float | None = Field(
        default=None, repr=False, description="Seconds after which a key expires if no message is added; None: never"
    )

    def __deepcopy__(self, memo: object = None) -> Self:
        """A copy of a memory has the same messages."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # LlamaIndex leaves out of a stored workflow what it cannot pickle, and would continue without the store.
        return _reopen, (type(self), self.model_dump())


def is_encrypted(options: Options) -> bool:
    """Return whether there is an encryption key, or raise if there was one. Removes the options that `to_dict` added."""
    given = cast("dict[str, Any]", options)
    given.pop("class_name", None)
    if given.pop("encrypted", False) and not given.get("encryption_key"):
        raise InvalidArgument("these messages are encrypted: create the store with its encryption_key=")
    return bool(given.get("encryption_key"))


def _reopen(cls: type[Any], fields: dict[str, Any]) -> Any:
    return cls(**fields)
