"""Work on many items in threads, in order, with only a few of them alive at a time."""

import collections
import contextlib
import itertools
import os
import queue
import threading
from concurrent.futures import ThreadPoolExecutor


def available_cores():
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(most=12):
    """Return how many processes should load data: one for each core, shared with the run's others here, 1 to `most`."""
    return max(1, min(most, available_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def map_in_order(function, items, workers=None):
    """Yield function(item) for every item, in order, computed in threads a few items ahead of the consumer.

    Args:
        function: called in one of the threads; what it raises is raised here when its turn comes.
        items: any iterable; read by the calling thread as the work goes on.
        workers: number of threads; by default one per core, eight at most.
    """
    workers = max(1, workers or min(8, available_cores()))
    waiting = collections.deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            while len(waiting) > 2 * workers or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def batched(items, size):
    """Yield lists of up to `size` consecutive items."""
    items = iter(items)
    while batch := list(itertools.islice(items, size)):
        yield batch


_END = object()  # what follows the last item of a queue between threads
POLL = 0.1  # seconds between two looks at whether to stop waiting


def ahead(items, count=4, stopped=lambda: False):
    """Yield from `items`, read in a thread of its own up to `count` items ahead; what it raises is raised here.

    Args:
        items: an iterable; a generator is closed at the end.
        stopped: function that says whether to stop waiting for the next item.
    """
    waiting, over = queue.Queue(count), threading.Event()

    def put(entry):
        while not over.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(entry, timeout=POLL)
                return

    def read():
        error = None
        try:
            for item in items:
                put((item, None))
                if over.is_set():
                    break
        except BaseException as problem:
            error = problem
        if hasattr(items, "close"):
            items.close()
        put((_END, error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while not stopped():
            try:
                item, error = waiting.get(timeout=POLL)
            except queue.Empty:
                continue
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        over.set()
        thread.join(timeout=10 * POLL)  # a source that hangs, as a camera may, is left behind


class Consumer:
    """A thread that runs consume(iterator of what `give` is given), at most `count` items behind; for a `with` block.

    Leaving the block waits until all that was given is used, whatever the reason. What `consume` raises is raised by
    the next `give`, or at the end.
    """

    def __init__(self, consume, count=4):
        self._waiting, self._consume, self._error = queue.Queue(count), consume, None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def give(self, item):
        """Hand over one item; wait while too many are waiting."""
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._waiting.put(item, timeout=POLL)
                break
        if self._error is not None:
            raise self._error

    def __exit__(self, kind, *_):
        while self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._waiting.put(_END, timeout=POLL)
                break
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _run(self):
        try:
            self._consume(iter(self._waiting.get, _END))
        except BaseException as error:
            self._error = error
