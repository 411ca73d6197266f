"""Classes of an application, for checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from pydantic import BaseModel


class Size(Enum):
    SMALL = 1
    LARGE = 2


@dataclass
class Order:
    what: str
    size: Size = Size.SMALL
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: tuple[int, ...] = ()


class Customer(BaseModel):
    name: str
    tags: set[str] = set()


class Sealed:
    """Can be taken apart, and not be made again."""

    def __init__(self) -> None:
        self.name = "x"

    def __setstate__(self, state: object) -> None:
        raise TypeError("it is sealed")


class Shop:
    """Has a constructor that must not be called by loading a checkpoint."""

    opened: list[str] = []

    def __init__(self, name: str) -> None:
        self.opened.append(name)
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shop) and vars(self) == vars(other)

    __hash__ = None
