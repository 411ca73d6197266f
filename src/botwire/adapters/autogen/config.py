"""The part of the configuration that AutoGen's components share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

from ...errors import InvalidArgument
from ...memory import Memory, Options


class PlaceConfig(BaseModel):
    """The namespace and address of a component. Its secrets are asterisks when it is printed or written as text."""

    namespace: str
    url: str | None = None
    timeout: float | None = None
    token: SecretStr | None = None
    encryption_key: list[SecretStr | SecretBytes] | None = None


def place_of(memory: Memory, url: str | None, options: Options) -> dict[str, Any]:
    """Return the fields of a `PlaceConfig`. The address is without its password."""
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
            "this config was written as text, which hides tokens and encryption keys: put them in again before you load it"
        )
    return value
