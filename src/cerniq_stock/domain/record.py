"""Frozen data that is cheap to make."""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make a dataclass that the type checker keeps frozen.

    Python's own freezing costs five times the making (2.2 µs instead of 0.4 for ten fields), and
    every reservation makes four of these.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
