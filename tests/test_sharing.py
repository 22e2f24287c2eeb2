"""evaluate_depth.py in two processes, as torchrun starts them: numbers and files of one, one line of mistakes."""

import os
import subprocess
import sys

import pytest

import evaluate_depth
from evaluation.sharing import Share
from system.distributed import Processes
from tests import tiny_kitti
from tests.conftest import ROOT
from tests.ranks import free_port, start
from tests.seeded_folders import write_drive, write_test_list, write_weights

COMMAND, VANISHING = "evaluate_depth.py", """
import os, sys
import evaluate_depth, evaluation.evaluate
if os.environ["RANK"] == "1":
    evaluation.evaluate.network_disparities = lambda *arguments: os._exit(1)
sys.exit(evaluate_depth.main(sys.argv[1:]))
"""


@pytest.fixture
def tree(tmp_path):
    """Arguments: a drive, a list of five images, weights; batches of two, so that the last is short."""
    data = write_drive(tmp_path / "kitti", frames=5)
    split = write_test_list(tmp_path / "five", [f"{tiny_kitti.TEST} {frame} l" for frame in (1, 3, 0, 4, 2)])
    weights = write_weights(tmp_path / "weights_0")
    return ["--load_weights_folder", weights, "--data_path", data, "--eval_split", split, "--device", "cpu",
            "--batch_size", 2, "--num_workers", 1]  # fmt: skip


def outputs(folder):
    names = ("a.json", "a.csv", "disps_five_split.npy")
    return ["--json", folder / names[0], "--csv", folder / names[1], "--save_pred_disps", "--eval_out_dir", folder]


def error_lines(ends):
    return [line for _, _, err in ends for line in err.splitlines() if line]


def test_torchrun_prints_and_writes_what_one_process_does_to_the_last_bit(tree, tmp_path, capsys):
    assert evaluate_depth.main([*map(str, tree), *map(str, outputs(tmp_path / "one"))]) == 0
    alone = capsys.readouterr().out
    (tmp_path / "five" / "gt_depths.npz").unlink()
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port", str(free_port())]
    command = [sys.executable, *torchrun, "evaluate_depth.py", *tree, *outputs(tmp_path / "two")]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, timeout=120,
                           env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.replace("/two/", "/one/").splitlines()) == sorted(alone.splitlines())
    files = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
    assert len(files) == 3 and {path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()} == files


def test_a_mistake_in_one_process_ends_both_with_one_line(tree, tmp_path):
    image = tmp_path / "kitti" / tiny_kitti.TEST / "image_02/data/0000000004.jpg"  # of the second batch
    image.write_bytes(image.read_bytes()[:300])
    ends = start(2, COMMAND, *tree, *outputs(tmp_path / "two"))
    assert [code for code, *_ in ends] == [2, 2]
    [line] = error_lines(ends)
    assert line.startswith("error: a damaged image") and not (tmp_path / "two").exists()


def test_a_mistake_that_both_see_is_told_once(tree, tmp_path):
    for flags, words in ((["--batch_size", 0], "batch_size"), (["--data_path", tmp_path], "5 of 5 images")):
        ends = start(2, COMMAND, *tree, *flags)
        assert [code for code, *_ in ends] == [2, 2]
        [line] = error_lines(ends)
        assert words in line


def test_a_vanished_process_ends_the_other_with_one_line(tree, tmp_path):
    vanishing = tmp_path / "vanishing.py"
    vanishing.write_text(VANISHING)
    ends = start(2, vanishing, *tree, *outputs(tmp_path / "two"))
    assert [code for code, *_ in ends] == [2, 1]
    [line] = error_lines(ends[:1])
    assert line.startswith("error: another process of this evaluation is gone; ") and not (tmp_path / "two").exists()


@pytest.mark.parametrize("count, total, batch", [(1, 5, 2), (2, 5, 2), (3, 7, 1), (4, 3, 2), (2, 16, 8)])
def test_shares_hold_every_image_once_in_whole_batches(count, total, batch):
    class Deaf(Processes):
        def gather(self, value):
            return [Share(Deaf(rank, rank, count), total, batch).indices() for rank in range(count)]

    share = Share(Deaf(0, 0, count), total, batch)
    assert share.merged(share.indices()) == list(range(total))
    assert all(indices.start % batch == 0 for _, indices in share.batches())
