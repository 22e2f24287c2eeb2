"""Two gloo processes: gradients of one process with the whole batch, equal weights, one set of files, clear ends."""

import os
import subprocess
import sys

import pytest
import torch

from tests.conftest import ROOT
from tests.ranks import free_port, start
from tests.short_runs import arguments, assert_same_end, differences, files_below, newest_state

STEPS = ("--batch_size", 3, "--num_epochs", 2, "--save_steps", 2)
TWO = "tests/two_processes.py"


def test_two_processes_have_the_gradients_of_one_with_the_whole_batch(tmp_path):
    for count in (1, 2):
        assert [code for code, *_ in start(count, TWO, "gradients", tmp_path)] == [0] * count
    whole, first, second = (torch.load(tmp_path / f"of_{name}.pt", weights_only=True)
                            for name in ("1_rank_0", "2_rank_0", "2_rank_1"))  # fmt: skip
    largest = max(gradient.abs().max().item() for gradient in whole.values())
    for key, gradient in whole.items():
        assert torch.equal(first[key], second[key])
        torch.testing.assert_close(first[key], gradient, rtol=1e-3, atol=1e-6 * largest)


@pytest.fixture(scope="module")
def undisturbed(synthetic_drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return folder / "run", start(2, TWO, *arguments(synthetic_drive, folder, *STEPS), PARAMETERS=str(folder))


def test_both_end_well_and_leave_one_set_of_files(undisturbed):
    run, ends = undisturbed
    assert [code for code, *_ in ends] == [0, 0], ends
    assert "batch of 3 on each of 2 processes: 6 a step" in ends[0][1]
    assert "finished" in ends[0][1]
    assert not [error for *_, error in ends if "strides" in error]  # of gradients beside those of their buffers
    for part in ("train", "val"):
        assert len(files_below(run / part)) == 1
    names = ["weights_0", "weights_1", "weights_best"]
    assert sorted(path.name for path in (run / "models").glob("weights_*")) == names
    assert newest_state(run)["identity"]["processes"] == 2
    assert len(newest_state(run)["random"]) == 2


def test_both_end_with_equal_weights(undisturbed):
    mine, other = (torch.load(undisturbed[0].parent / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert mine and not differences(mine, other)


def test_a_vanished_process_ends_the_other_with_one_line_and_the_run_resumes(undisturbed, synthetic_drive, tmp_path):
    run, ends = undisturbed
    argv = arguments(synthetic_drive, tmp_path, *STEPS)
    (code, _, error), (lost, *_) = start(2, TWO, *argv, EXIT_AT="5")
    assert (code, lost) == (2, 1)
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "another process of this run is gone" in lines[0] and "Traceback" not in error
    assert newest_state(tmp_path / "run")["progress"] == [1, 1, 4]
    assert [code for code, *_ in start(2, TWO, *argv, "--resume")] == [0, 0]
    assert_same_end(run, tmp_path / "run")
    import train

    assert train.main([*argv, "--resume"]) == 2  # one process cannot go on with what two began


def test_torchrun_starts_train(synthetic_drive, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port", str(free_port())]
    argv = arguments(synthetic_drive, tmp_path, "--max_steps", 1, "--batch_size", 2)
    command = [sys.executable, *torchrun, str(ROOT / "train.py"), *argv]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "run" / "states").iterdir())) == 1


def test_batchnorm_statistics_cannot_be_shared_between_cpus(monkeypatch):
    from options import LiteMonoOptions
    from system import distributed
    from system.errors import UserError
    from trainer import Trainer

    monkeypatch.setattr(distributed, "start", lambda use_cuda: distributed.Processes(0, 0, 2))
    with pytest.raises(UserError, match="drop --sync_bn"):
        Trainer(LiteMonoOptions().parse(["--no_cuda", "--sync_bn", "--weights_init", "scratch"]))


@pytest.mark.parametrize("flags, static", [((), True), (("--grad_accum", 2), False), (("--compile",), False)])
def test_gradients_are_views_of_what_is_sent_and_the_graph_is_static_where_it_is(flags, static, monkeypatch):
    """Between GPUs, with stand-ins for torch's side."""
    from system import distributed
    from tests.short_runs import LIGHT, options
    from trainer import Trainer

    asked = {}

    def wrap(network, device_ids=None, broadcast_buffers=True, **how):
        asked.update(how, device_ids=device_ids, broadcast_buffers=broadcast_buffers)
        return network

    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", wrap)
    monkeypatch.setattr(distributed, "start", lambda use_cuda: distributed.Processes(0, 0, 2))
    Trainer(options("--no_cuda", *LIGHT, *flags))
    assert asked == {"gradient_as_bucket_view": True, "static_graph": static, "device_ids": None,
                     "broadcast_buffers": False}  # fmt: skip


def test_each_process_tells_nccl_its_gpu_and_one_too_many_is_refused(monkeypatch):
    from system import distributed
    from system.errors import UserError

    asked = []
    for name, value in {"device_count": lambda: 2, "set_device": lambda number: asked.append(number)}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    group = {"is_initialized": lambda: False, "get_rank": lambda: 1, "get_world_size": lambda: 3,
             "init_process_group": lambda backend, **how: asked.append((backend, how["device_id"]))}  # fmt: skip
    for name, value in group.items():
        monkeypatch.setattr(distributed.dist, name, value)
    for name, value in {"WORLD_SIZE": "3", "RANK": "0", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert distributed.start(True) == distributed.Processes(1, 1, 3)
    assert asked == [1, ("nccl", torch.device("cuda", 1))]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="more processes than GPUs on this machine; LOCAL_RANK 2, 2 GPUs"):
        distributed.start(True)
