"""Interrupts (Ctrl-C, the notebook's stop button) that wait until an update, or a save, is done."""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Interrupts(list[int]):
    """A signal handler that only notes what came."""

    def __call__(self, number: int, _frame: object) -> None:
        """Called by Python with the signal's number."""
        self.append(number)


@contextlib.contextmanager
def defer_interrupts() -> Iterator[Interrupts]:
    """Hold an interrupt (Ctrl-C, the notebook's stop button) back until the block is done, and note it in the list given.
    A block within such a block notes in the outer one's list."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread receives interrupts
        yield Interrupts()
        return
    before = signal.getsignal(signal.SIGINT)
    interrupts = before if isinstance(before, Interrupts) else Interrupts()
    signal.signal(signal.SIGINT, interrupts)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
