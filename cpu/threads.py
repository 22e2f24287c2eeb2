"""Independent pieces of CPU work side by side: a thread for each core, and one core for each operation within.

An operation on a map that fits into a core's cache is over before other cores have joined in, and where another program
has a core, every such meeting waits for it. Whole pieces of work meet once, at their end.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import torch

_pools = {}  # number of threads -> pool
os.register_at_fork(after_in_child=_pools.clear)  # threads do not survive a fork


def each(work, items):
    """Return [work(item) for item in items], made by as many threads as torch would give to one operation.

    Whether gradients are recorded is the caller's choice in every thread. The first exception is raised here.
    """
    items = list(items)
    threads = min(torch.get_num_threads(), len(items))
    if threads < 2:
        return [work(item) for item in items]
    recording, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def in_thread(item):
        with torch.inference_mode(inference), torch.set_grad_enabled(recording):
            return work(item)

    return list(_pool(threads).map(in_thread, items))


def _pool(threads):
    if threads not in _pools:
        own, all_started = torch.get_num_threads(), threading.Barrier(threads + 1)

        def start():
            torch.get_num_threads()  # a thread's first question makes it take over what others have set
            torch.set_num_threads(1)
            all_started.wait()

        _pools[threads] = ThreadPoolExecutor(threads, "side-by-side", start)
        for _ in range(threads):
            _pools[threads].submit(int)  # a thread is started when there is work and none is idle
        all_started.wait()
        torch.set_num_threads(own)  # for threads that others start later: they begin with what was set last
    return _pools[threads]
