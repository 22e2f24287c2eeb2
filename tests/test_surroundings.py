"""Commands whose memory, threads or GPU give out, and files that never end: one line and exit code 2."""

import io
import os
import zipfile

import numpy as np
import pytest
import torch

from system import memory, resources
from system.command_line import Parser, command
from system.errors import UserError
from system.files import DAMAGED_ARRAYS, LARGEST_READ, open_regular, read_array, read_member

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
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), "a package is missing; cv2; run pip install -r"),
        (ImportError("libGL.so.1: cannot open shared object file: No such file"), "a library of the system is missing; "
                                                                                "libGL.so.1; install it"),
        (NotImplementedError("This Python build lacks multiprocessing.synchronize"), "no processes can be started"),
    ],
)
def test_what_gives_out_is_one_line_in_any_command(error, what, capsys):
    @command
    def main(argv=None):
        raise error

    assert main([]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"error: {what}"), lines


def test_a_full_memory_behind_another_error_is_found():
    try:
        try:
            raise MemoryError
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")
    except RuntimeError as error:
        assert resources.cause(error, "here").what == "the memory is full"


def test_other_errors_keep_their_traceback():
    @command
    def main(argv=None):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        main([])
    assert resources.cause(KeyError("cuda error"), "here") is None
    assert resources.cause(ModuleNotFoundError("No module named 'system.x'", name="system.x"), "here") is None


@pytest.mark.parametrize("shape", ["(9999999999999,)", "(-1, 4)", "(99999999999999999999, 9)", "(1 << 40,)", "(5,)"])
def test_an_array_larger_than_its_file_is_refused_before_memory_is_taken(tmp_path, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(16)
    with pytest.raises(DAMAGED_ARRAYS):
        read_array(io.BytesIO(content), len(content))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("depth.npy", content)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive, pytest.raises(DAMAGED_ARRAYS):
        read_member(archive, "depth.npy")


def test_a_whole_array_is_read(tmp_path):
    expected = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.savez_compressed(tmp_path / "a.npz", depth=expected)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert np.array_equal(read_member(archive, "depth.npy"), expected)


def test_a_path_of_thousands_of_folders_is_refused():
    made = Parser(prog="x.py")
    made.add_argument("--out")
    with pytest.raises(UserError, match="--out is a path too deep"):
        made.parse_args(["--out", "a/" * 2500])


def test_a_file_without_end_is_refused(tmp_path):
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(LARGEST_READ + 1)
    os.mkfifo(tmp_path / "pipe")
    for name in ("sparse", "pipe"):
        with pytest.raises(UserError):
            open_regular(tmp_path / name)


def test_what_can_never_fit_is_refused_before_memory_is_taken(monkeypatch):
    monkeypatch.setattr(memory, "total", lambda: 10**10)
    memory.refuse_beyond(10**10, "4 x 64x32 pixels", "lower --batch_size")
    with pytest.raises(UserError) as refused:
        memory.refuse_beyond(2 * 10**10, "4 x 64x32 pixels", "lower --batch_size")
    assert str(refused.value) == ("it does not fit into the memory; 4 x 64x32 pixels: at least 20 GB, this machine has "
                                  "10 GB; lower --batch_size")  # fmt: skip
    monkeypatch.setattr(memory, "total", lambda: None)
    memory.refuse_beyond(10**18, "where the system does not tell", "")


def test_the_memory_is_the_machines_or_its_containers(monkeypatch, tmp_path):
    limit = tmp_path / "limit"
    monkeypatch.setattr(memory, "_LIMITS", (str(limit),))
    monkeypatch.setattr(memory, "_meminfo", lambda: {"MemTotal": 8000, "SwapTotal": 100, "MemAvailable": 3000})
    assert (memory.total(), memory.free()) == (8100, 3000)
    for text, expected in (("max\n", 8100), ("5000\n", 5100), ("9000\n", 8100)):
        limit.write_text(text)
        assert memory.total() == expected
    monkeypatch.setattr(memory, "_meminfo", dict)
    assert memory.total() is None and memory.free() is None
