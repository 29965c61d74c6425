"""Many small decompositions at once: a thread for each core, and one core for each decomposition.

LAPACK on matrices of some hundred rows gains nothing from several threads, and often loses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar, overload

import torch

T = TypeVar("T")
R = TypeVar("R")


class once(Generic[R]):
    """A property that is computed when first read, and kept. Unlike `functools.cached_property` before Python 3.12 it
    takes no lock, which would make threads that work on different objects wait for each other."""

    def __init__(self, compute: Callable[[Any], R]):
        self.compute, self.__doc__ = compute, compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> once[R]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> R: ...
    def __get__(self, instance: Any, owner: type) -> once[R] | R:
        if instance is None:
            return self
        value = instance.__dict__[self.name] = self.compute(instance)
        return value


# Smaller decompositions take less time than handing them to a thread.
WORTH_A_THREAD = 96


def in_parallel(function: Callable[[T], R], items: Iterable[T], size: int) -> list[R]:
    """`function` of each item, in order; `size`: rows of the matrices it decomposes. The first error is raised."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if threads == 1 or size < WORTH_A_THREAD:
            return [function(item) for item in items]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(function, items))
    finally:
        torch.set_num_threads(threads)
