"""One optimiser step as a CUDA graph: recorded once, then launched as a whole instead of kernel by kernel.

The first steps of a run go the usual way, as a warm-up in which libraries choose their kernels; the step after them is
recorded, which computes nothing, and replayed from then on. Batches are copied into the memory that was recorded. What
changes from step to step lives on the device: learning rates, moments, the random generator's place.
"""

import torch

from system.errors import UserError

WARM_UP = 3  # steps


def refuse_unless_recordable(opt, device, processes):
    """Raise a UserError where a step cannot be recorded: off CUDA, with fp16's scaler, in several processes."""
    if device.type != "cuda":
        raise UserError("only the work of a GPU can be recorded", f"--cuda_graph on {device.type}", "drop --cuda_graph")
    if opt.amp == "fp16":
        raise UserError("fp16 looks for its scale between the steps", "--cuda_graph with --amp fp16", "use --amp bf16")
    if processes.count > 1:
        raise UserError("a step of several processes cannot be recorded", f"--cuda_graph with {processes.count}",
                        "drop --cuda_graph, or train in one process")  # fmt: skip


class RecordedStep:
    """Calls `step` for the first `WARM_UP` batches and for every batch of another size; replays it for the others.

    Args:
        step: function (batches: a list of dicts of tensors and other values) -> a nest of tensors, without a wait for
            the device and the same from step to step.
        size: items of a batch that is worth recording; smaller ones are not.
        device: of the memory that batches are copied into.

    What a replay returns is overwritten by the next one.
    """

    def __init__(self, step, size, device):
        self.step, self.size, self.device = step, size, device
        self.warm, self.graph, self.given, self.result = 0, None, None, None

    def __call__(self, batches):
        if any(len(batch["color", 0, 0]) != self.size for batch in batches):
            return self.step(batches)
        if self.warm < WARM_UP:
            self.warm += 1
            return self._warmed(batches)
        if self.graph is None:
            self._record(batches)
        for given, batch in zip(self.given, batches, strict=True):
            for key, value in given.items():
                if isinstance(value, torch.Tensor):
                    value.copy_(batch[key], non_blocking=True)
        self.graph.replay()
        return self.result

    def _warmed(self, batches):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = self.step(batches)
        torch.cuda.current_stream().wait_stream(stream)
        return result

    def _record(self, batches):
        self.given = [{key: self._own(value) for key, value in batch.items()} for batch in batches]
        graph = torch.cuda.CUDAGraph()
        # Thread-local: the loader's thread may pin memory meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.result = self.step(self.given)
        self.graph = graph

    def _own(self, value):
        return value.to(self.device, copy=True) if isinstance(value, torch.Tensor) else value
