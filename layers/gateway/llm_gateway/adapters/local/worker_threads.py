"""Work beside the event loop: a few threads, turns that are fair, and waiting that has an end.

Python runs one thread at a time, so threads make nothing faster. They let the loop have its turn every few
milliseconds while work goes on. More of them would only make it wait for more others.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from llm_gateway.deadline import Deadline
from llm_gateway.errors import Overloaded
from llm_gateway.models.errors import ProviderTimeout
from llm_gateway.workers import NotQuick

THREADS = 2
MOST_WAITING = 64
_RETRY_AFTER_S = 1.0

T = TypeVar("T")
_Turn = asyncio.Future[None]


class WorkerThreads:
    """Does work in threads, in one event loop; see Workers.

    Owners take turns, and one owner has at most all threads but one. So an owner of heavy work only waits
    for its own.

    Args:
        threads: How many work at once, 2 or more.
        most_waiting: Pieces of work that may wait for a thread.
    """

    def __init__(self, threads: int = THREADS, most_waiting: int = MOST_WAITING) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="gateway-work")
        self._threads = threads
        self._most_waiting = most_waiting
        self._running: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Turn]] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for a thread."""
        return sum(map(len, self._waiting.values()))

    async def run(
        self,
        work: Callable[[], T],
        deadline: Deadline,
        *,
        owner: str = "",
        first: Callable[[], T] | None = None,
        paid: bool = False,
    ) -> T:
        """See Workers.run."""
        if first is not None:
            try:
                return first()
            except NotQuick:
                pass
        try:
            async with asyncio.timeout(deadline.remaining_s()):
                await self._turn(owner, paid=paid)
                return await self._started(work, owner)
        except TimeoutError as error:
            raise _late(deadline) from error

    def close(self) -> None:
        """Let the threads end once their work is done; what waits is dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _turn(self, owner: str, *, paid: bool) -> None:
        """Wait until a thread is free for this owner, and take it."""
        if self._free_for(owner):
            self._running[owner] += 1
            return
        if self.waiting >= self._most_waiting and not paid:
            raise Overloaded(
                "The gateway has as much heavy work waiting as it takes; come back in a moment.",
                retry_after_s=_RETRY_AFTER_S,
            )
        turn: _Turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        try:
            await turn
        except BaseException:
            self._withdraw(owner, turn)
            raise

    def _withdraw(self, owner: str, turn: _Turn) -> None:
        """Give up a place in the queue, or the thread that was given at the same moment."""
        queue = self._waiting.get(owner)
        if queue is not None and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[owner]
        elif turn.done() and not turn.cancelled():
            self._give_back(owner)

    def _started(self, work: Callable[[], T], owner: str) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()

        def ended(_: Future[T]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._give_back, owner)

        try:
            running = self._executor.submit(work)
        except RuntimeError:
            self._give_back(owner)
            raise
        running.add_done_callback(ended)  # of the thread's own end: a caller that is gone frees no thread
        return asyncio.wrap_future(running)

    def _give_back(self, owner: str) -> None:
        self._running[owner] -= 1
        if not self._running[owner]:
            del self._running[owner]
        for other in list(self._waiting):
            if self._free_for(other):
                self._give(other)

    def _give(self, owner: str) -> None:
        """Let the owner's oldest piece of work begin; the owner's next one comes after all other owners."""
        queue = self._waiting.pop(owner)
        while queue and queue[0].done():  # cancelled a moment ago, and not yet withdrawn
            queue.popleft()
        if not queue:
            return
        turn = queue.popleft()
        if queue:
            self._waiting[owner] = queue
        self._running[owner] += 1
        turn.set_result(None)

    def _free_for(self, owner: str) -> bool:
        return self._running.total() < self._threads and self._running[owner] < self._threads - 1


def _late(deadline: Deadline) -> ProviderTimeout:
    elapsed = round(deadline.elapsed_s(), 3)
    error = ProviderTimeout(
        f"The call's time was up after {elapsed:.1f} s, while the gateway worked on it; send less, retry, or "
        "allow more with 'timeout_s'.",
        details={"elapsed_s": elapsed, "attempts": 0},
    )
    error.attempts = 0
    return error
