"""Stand-ins for torch's capture of CUDA graphs, on a CPU: what is recorded runs at once, a replay is counted."""

import contextlib

import torch


def stand_in(monkeypatch, replay, recording, stream=contextlib.nullcontext):
    """Replace the names of `torch.cuda` that recording a graph takes.

    Args:
        replay: function (graph) that does what the graph has recorded.
        recording: context manager that takes the arguments of `torch.cuda.graph`.
        stream: context manager that takes a stream.

    Returns:
        {"recorded": ..., "replayed": ...}, counted from here on.
    """
    counts = {"recorded": 0, "replayed": 0}

    class Stream:
        def wait_stream(self, other):
            pass

    class Graph:
        def replay(self):
            counts["replayed"] += 1
            replay(self)

    @contextlib.contextmanager
    def counted(*args, **options):
        counts["recorded"] += 1
        with recording(*args, **options):
            yield

    for name, value in {"Stream": Stream, "current_stream": Stream, "CUDAGraph": Graph, "graph": counted,
                        "stream": stream}.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    return counts
