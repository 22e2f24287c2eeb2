"""Time, memory and waits of a device: CUDA's events and counters, or a CPU's clock and the process's memory."""

import resource
import statistics
import time
import warnings

import torch

COPIES = 12  # of the buffer whose copying tells the bandwidth


class Meter:
    """Measures one device.

    Args:
        device: torch.device, of type cuda or cpu.
    """

    def __init__(self, device):
        self.device, self.on_cuda = device, device.type == "cuda"

    def wait(self):
        """Wait until the device has done everything asked of it."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)

    def mark(self):
        """Return a point in the device's work, for `between`."""
        if not self.on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, begin, end):
        """Return the device's seconds between two marks; the device has to have reached both (`wait`)."""
        return begin.elapsed_time(end) / 1000 if self.on_cuda else end - begin

    def seconds(self, work, times):
        """Return the seconds a call of `work`, called `times` in a row, from nothing to do until nothing to do."""
        self.wait()
        began = time.perf_counter()
        for _ in range(times):
            work()
        self.wait()
        return (time.perf_counter() - began) / times

    def forget_peak(self):
        """Begin the peak of memory anew, where the device can."""
        if self.on_cuda:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gb(self):
        """Return the peak of memory in GB: tensors on a GPU, the whole process on a CPU."""
        if self.on_cuda:
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9

    def waits(self, work):
        """Return how often the host waits for the device in `work()`, as the driver's calls tell; None on a CPU."""
        if not self.on_cuda:
            return None
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                work()
            finally:
                torch.cuda.set_sync_debug_mode(before)
        return sum("synchronizing" in str(each.message).lower() for each in said)

    def bandwidth(self, count):
        """Return bytes a second, read and written, of copying a buffer of `count` bytes on the device."""
        source = torch.zeros(count, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        seconds = []
        for _ in range(COPIES):
            begin = self.mark()
            target.copy_(source)
            end = self.mark()
            self.wait()
            seconds.append(self.between(begin, end))
        return 2 * count / statistics.median(seconds[2:])
