"""Batches travel to a GPU on a stream of their own, one batch ahead: the copy overlaps with the step before."""

import torch


class CopyAhead:
    """Moves the next batch to the device while the one at hand is worked on.

    Args:
        device: torch.device of type cuda.
    """

    def __init__(self, device):
        self.device, self.stream = device, torch.cuda.Stream(device)

    def __call__(self, batches):
        """Yield every batch, a dict that holds tensors in pinned memory, with its tensors on the device.

        An error of `batches` comes after the batches before it, as without looking ahead.
        """
        held = None
        try:
            for batch in batches:
                following = self._sent(batch)
                if held is not None:
                    yield self._received(*held)
                held = following
        except Exception:  # whatever it is, raised again below
            if held is not None:
                yield self._received(*held)
            raise
        if held is not None:
            yield self._received(*held)

    def _sent(self, batch):
        """Return (the batch on the device, the event of its arrival)."""
        with torch.cuda.stream(self.stream):
            sent = {key: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
                    for key, value in batch.items()}  # fmt: skip
            arrival = torch.cuda.Event()
            arrival.record(self.stream)
        return sent, arrival

    def _received(self, batch, arrival):
        """Let the current stream wait for the copies, and the allocator know that it reads them."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(arrival)
        for value in batch.values():
            if isinstance(value, torch.Tensor):
                value.record_stream(current)
        return batch
