"""Mistakes of who calls the evaluation, and damaged files: one line each, nothing left behind."""

import numpy as np
import pytest

import evaluate_depth
from tests import tiny_kitti
from tests.evaluations import run


def refused(code, capsys):
    assert code == 2
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert errors and "Traceback" not in err
    return "\n".join(errors)


@pytest.mark.parametrize(
    "flags, words",
    [
        ((), "nothing to evaluate"),
        (("--load_weights_folder", "w", "--ext_disp_to_eval", "d.npy"), "two sources"),
        (("--ext_disp_to_eval", "d.npy", "--post_process"), "--post_process with --ext_disp_to_eval"),
        (("--ext_disp_to_eval", "d.npy", "--save_pred_disps"), "--save_pred_disps with --ext_disp_to_eval"),
        (("--load_weights_folder", "w", "--no_eval", "--csv", "x.csv"), "--csv with --no_eval"),
        (("--load_weights_folder", "w", "--all", "--save_pred_disps", "--eval_out_dir", "o"), "the same file"),
        (("--load_weights_folder", "w", "--csv", "."), "a folder stands"),
        (("--load_weights_folder", "w", "--csv", "/dev/full"), "a pipe or device"),
        (("--load_weights_folder", "w", "--csv", "w/encoder.pth"), "another kind"),
        (("--load_weights_folder", "w", "--csv", "x", "--json", "./x"), "one file"),
        (("--load_weights_folder", "lite-mono_640x192", "--save_pred_disps"), "--eval_out_dir"),
        (("--load_weights_folder", "w", "--eval_stereo", "--alignment", "median"), "--alignment median"),
        (("--load_weights_folder", "w", "--eval_stereo", "--eval_mono"), "two ways"),
        (("--load_weights_folder", "w", "--eval_split", "nowhere"), "nowhere"),
        (("--load_weights_folder", "w", "--dataset", "make3d", "--statistics"), "--statistics with"),
        (("--load_weights_folder", "w", "--batch_size", "0"), "batch_size"),
        (("--load_weights_folder", "w", "--pred_depth_scale_factor", "-1"), "positive"),
    ],
)
def test_contradicting_options_are_refused(flags, words, capsys):
    assert words in refused(evaluate_depth.main(list(flags)), capsys)


def test_several_contradictions_are_told_at_once(capsys):
    flags = ["--ext_disp_to_eval", "d.npy", "--post_process", "--all"]
    assert len(refused(evaluate_depth.main(flags), capsys).splitlines()) == 2


def test_a_summary_that_cannot_be_written_is_refused_at_once(weights, tree, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refused(run(weights, tree, "--json", tmp_path / "file" / "s.json"), capsys)
    assert not (tree[1] / "gt_depths.npz").exists()


@pytest.mark.parametrize(
    "array, words",
    [
        (np.ones((2, 8, 8), np.float32), "2 maps, 3 lines"),
        (np.ones((3, 8), np.float32), "wrong shape"),
        (np.ones((3, 8, 8), np.int64), "floats"),
        (np.full((3, 8, 8), np.nan, np.float32), "image 0: the disparity is not finite"),
    ],
)
def test_unfit_disparities_are_refused(array, words, tree, tmp_path, capsys):
    np.save(tmp_path / "d.npy", array)
    flags = ["--ext_disp_to_eval", tmp_path / "d.npy", "--eval_split", tree[1], "--data_path", tree[0]]
    assert words in refused(evaluate_depth.main([str(flag) for flag in flags]), capsys)


def test_pickled_disparities_are_refused_without_being_run(tree, tmp_path, capsys):
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    flags = ["--ext_disp_to_eval", str(tmp_path / "d.npy"), "--eval_split", str(tree[1])]
    assert "not a plain .npy" in refused(evaluate_depth.main(flags), capsys)


def test_truncated_disparities_are_refused(tree, tmp_path, capsys):
    np.save(tmp_path / "d.npy", np.ones((3, 8, 8), np.float32))
    whole = (tmp_path / "d.npy").read_bytes()
    (tmp_path / "d.npy").write_bytes(whole[:-50])
    flags = ["--ext_disp_to_eval", str(tmp_path / "d.npy"), "--eval_split", str(tree[1])]
    assert "d.npy" in refused(evaluate_depth.main(flags), capsys)


def test_weights_of_another_model_are_named(weights, tree, capsys):
    assert "--model lite-mono-tiny" in refused(run(weights, tree, "--model", "lite-mono"), capsys)


def test_a_missing_weights_folder_is_named(tree, tmp_path, capsys):
    assert "nothing_here" in refused(run(tmp_path / "nothing_here", tree), capsys)
    assert "weights_<epoch>" in refused(run(tmp_path, tree, "--all"), capsys)


def test_missing_files_are_counted_before_anything_is_predicted(weights, tree, capsys):
    (tree[0] / tiny_kitti.TEST / "velodyne_points/data/0000000003.bin").unlink()
    line = refused(run(weights, tree), capsys)
    assert "1 of 3 LiDAR scans" in line and "0000000003.bin" in line and "prepare_kitti.py" in line
    assert sorted(each.name for each in tree[1].iterdir()) == ["test_files.txt"]
    (tree[0] / tiny_kitti.TEST / "image_02/data/0000000001.jpg").unlink()
    assert "1 of 3 images" in refused(run(weights, tree), capsys)


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_ground_truth_in_which_nothing_counts_is_refused(value, weights, tree, capsys):
    from system.files import write_npz

    empty = {f"depth_{index:05d}": np.full((24, 64), value, np.float32) for index in range(3)}
    write_npz(tree[1] / "gt_depths.npz", **empty)
    assert "no pixel of the ground truth counts" in refused(run(weights, tree), capsys)


def test_pipes_are_not_waited_for(weights, tree, tmp_path, capsys):
    import os

    os.mkfifo(tree[1] / "gt_depths.npz")
    os.mkfifo(tmp_path / "d.npy")
    assert "gt_depths.npz" in refused(run(weights, tree), capsys)
    flags = ["--ext_disp_to_eval", str(tmp_path / "d.npy"), "--eval_split", str(tree[1])]
    assert "pipe or device" in refused(evaluate_depth.main(flags), capsys)


def test_a_broken_image_is_named_and_no_disparities_are_left(weights, tree, tmp_path, capsys):
    image = tree[0] / tiny_kitti.TEST / "image_02/data/0000000003.jpg"
    image.write_bytes(image.read_bytes()[:200])
    flags = ("--save_pred_disps", "--eval_out_dir", tmp_path / "out", "--no_eval")
    assert "0000000003.jpg" in refused(run(weights, tree, *flags), capsys)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_ground_truth_of_another_list_is_refused(weights, tree, capsys):
    assert run(weights, tree) == 0
    (tree[1] / "test_files.txt").write_text(f"{tiny_kitti.TEST} 1 l\n")
    capsys.readouterr()
    assert "gt_depths.npz" in refused(run(weights, tree), capsys)
