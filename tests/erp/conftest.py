"""Hypothesis as everywhere else: no deadlines, and a long profile."""

from tests import helpers

__all__ = ["helpers"]
