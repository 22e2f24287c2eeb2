"""Work on many items in threads, in order, with only a few of them alive at a time."""

import collections
import itertools
import os
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
