"""The configuration that AutoGen's components share, and how it hides secrets."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

from ...errors import InvalidArgument
from ...memory import Memory, Options


class PlaceConfig(BaseModel):
    """Where a component keeps things.

    The secrets are there when a config is loaded in the process that dumped it; printed or written as text they are asterisks.
    """

    namespace: str
    url: str | None = None
    timeout: float | None = None
    token: SecretStr | None = None
    encryption_key: list[SecretStr | SecretBytes] | None = None


def place_of(memory: Memory, url: str | None, options: Options) -> dict[str, Any]:
    """Return the fields of a component's config that say where its memory is, without secrets in the clear."""
    keys = options.get("encryption_key")
    return {
        "namespace": memory.namespace,
        "url": None if url is None else memory.address,
        "timeout": options.get("timeout"),
        "token": options.get("token"),
        "encryption_key": [keys] if isinstance(keys, str | bytes) else keys,
    }


def arguments_of(config: PlaceConfig) -> dict[str, Any]:
    """Return the arguments that reopen the memory of a config."""
    place = {name: getattr(config, name) for name in PlaceConfig.model_fields}
    if config.token is not None:
        place["token"] = _revealed(config.token)
    if config.encryption_key is not None:
        place["encryption_key"] = [_revealed(key) for key in config.encryption_key]
    return {name: value for name, value in place.items() if value is not None}


def _revealed(secret: Any) -> Any:
    value = secret.get_secret_value()
    if value in {"*" * 10, b"*" * 10}:
        raise InvalidArgument(
            "this config was text, which hides tokens and encryption keys: put them in again before you load it"
        )
    return value
