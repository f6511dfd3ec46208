"""Settings under which a computation gives the same bits every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def plain_float32() -> Iterator[None]:
    """Compute float32 without TF32 and with repeatable algorithms; restore the settings after."""
    import torch

    matmul = torch.backends.cuda.matmul
    allowed = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True,
                                        allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = allowed


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch and BLAS compute in one thread, because more threads sum in another order.

    The number of threads is restored afterwards.
    """
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)
