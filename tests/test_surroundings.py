"""Commands whose memory, threads or GPU give out, and files that never end: one line and exit code 2."""

import os

import pytest
import torch

from system import resources
from system.command_line import command
from system.errors import UserError
from system.files import LARGEST_READ, open_regular

CPU_MEMORY = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (MemoryError(), "the memory is full"),
        (RuntimeError(CPU_MEMORY), "the memory is full"),
        (RuntimeError("could not create a primitive"), "the memory is full"),
        (ImportError("libx.so: failed to map segment from shared object"), "the memory is full"),
        (torch.OutOfMemoryError("CUDA out of memory."), "the GPU's memory is full"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "the GPU reports an error"),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore"), "the GPU reports"),
        (RuntimeError("can't start new thread"), "no more threads can be started"),
    ],
)
def test_what_gives_out_is_one_line_in_any_command(error, what, capsys):
    @command
    def main(argv=None):
        raise error

    assert main([]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: {what}"), lines


def test_other_errors_keep_their_traceback():
    @command
    def main(argv=None):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        main([])
    assert resources.cause(KeyError("cuda error"), "here") is None


def test_a_file_without_end_is_refused(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(LARGEST_READ + 1)
    os.mkfifo(tmp_path / "pipe")
    for name in ("sparse", "pipe"):
        with pytest.raises(UserError):
            open_regular(tmp_path / name)
