"""The evaluation's command line, end to end on a miniature drive: numbers, and files left behind."""

import csv
import json
import tracemalloc
from argparse import Namespace

import numpy as np
import pytest
import torch

import evaluate_depth
from checkpointing.metric_scale import MetricScale, write_metric_scale
from evaluation import cost, metrics
from evaluation.ground_truth_file import load_ground_truth
from evaluation.predictions import stored_disparities
from layers import disp_to_depth
from tests import tiny_kitti
from tests.evaluations import run
from tests.seeded_folders import HEIGHT, MODEL, WIDTH, seeded_networks, write_drive, write_test_list, write_weights


def means_printed(text):
    """The seven numbers that stand on the line after the metrics' names."""
    lines = text.splitlines()
    row = next(index for index, line in enumerate(lines) if line.split() == list(metrics.METRICS))
    assert all(len(word.split(".")[1]) == 3 for word in lines[row + 1].split())
    return [float(word) for word in lines[row + 1].split()]


def expected_disparities(tree, frames=(1, 3, 0)):
    from datasets import KITTIRAWDataset

    lines = [f"{tiny_kitti.TEST} {frame} l" for frame in frames]
    dataset = KITTIRAWDataset(tree[0], lines, HEIGHT, WIDTH, [0], 1)
    encoder, decoder = seeded_networks()
    with torch.no_grad():
        images = torch.stack([dataset[index]["color", 0, 0] for index in range(len(lines))])
        return disp_to_depth(decoder(encoder(images))[("disp", 0)], 0.1, 100)[0][:, 0].numpy()


def test_evaluation_builds_its_ground_truth_and_prints_the_means(weights, tree, capsys):
    assert run(weights, tree) == 0
    ground_truth = load_ground_truth(tree[1] / "gt_depths.npz")
    results = list(metrics.evaluate_images(ground_truth, expected_disparities(tree), metrics.Protocol()))
    printed = capsys.readouterr().out
    np.testing.assert_allclose(means_printed(printed), metrics.mean_errors(results), atol=6e-4)
    assert all(result.pixels > 50 for result in results)
    assert f"median {metrics.ratio_statistics(results)[0]:.3f}" in printed
    assert "parameters: 2.148 M" in printed and "multiply-adds: " in printed


def test_saved_disparities_evaluate_to_the_same_numbers(weights, tree, tmp_path, capsys):
    assert run(weights, tree, "--save_pred_disps", "--eval_out_dir", tmp_path / "out") == 0
    first = means_printed(capsys.readouterr().out)
    saved = tmp_path / "out" / "disps_three_split.npy"
    disparities = np.load(saved, allow_pickle=False)
    assert disparities.shape == (3, HEIGHT, WIDTH) and disparities.dtype == np.float32
    np.testing.assert_allclose(disparities, expected_disparities(tree), rtol=1e-5)
    assert evaluate_depth.main(["--ext_disp_to_eval", str(saved), "--eval_split", str(tree[1])]) == 0
    assert means_printed(capsys.readouterr().out) == first


def test_stored_maps_are_read_one_by_one_in_any_layout(tmp_path):
    maps = np.random.default_rng(0).random((3, 4, 5))
    for layout in (maps, maps[:, None], np.asfortranarray(maps), maps.astype(">f4"), maps.astype(np.float16)):
        np.save(tmp_path / "d.npy", layout)
        stored = stored_disparities(tmp_path / "d.npy", 3)
        assert len(stored) == 3 and len(list(stored)) == 3
        for index in (2, 0):
            np.testing.assert_array_equal(stored[index], layout[index].reshape(4, 5))


@pytest.mark.parametrize("batch_size", ["1", "2", "16"])
def test_the_batch_size_changes_nothing(weights, tree, tmp_path, batch_size):
    run(weights, tree, "--save_pred_disps", "--eval_out_dir", tmp_path, "--no_eval", "--batch_size", batch_size)
    saved = np.load(tmp_path / "disps_three_split.npy")
    np.testing.assert_allclose(saved, expected_disparities(tree), rtol=1e-5)


def test_no_eval_needs_no_ground_truth(weights, tmp_path, capsys):
    tree = write_drive(tmp_path / "kitti"), write_test_list(tmp_path / "three")
    assert run(weights, tree, "--no_eval", "--save_pred_disps", "--eval_out_dir", tmp_path) == 0
    assert not (tree[1] / "gt_depths.npz").exists()
    assert "abs_rel" not in capsys.readouterr().out


def test_png_reads_png(weights, tmp_path):
    tree = write_drive(tmp_path / "kitti", ending="png"), write_test_list(tmp_path / "three")
    assert run(weights, tree, "--png") == 0


def test_jpg_is_not_looked_for_among_png(weights, tmp_path, capsys):
    tree = write_drive(tmp_path / "kitti", ending="png"), write_test_list(tmp_path / "three")
    assert run(weights, tree) == 2
    assert "0000000001.jpg" in capsys.readouterr().err


def test_post_processing_blends_with_the_mirrored_image(weights, tree, tmp_path):
    run(weights, tree, "--save_pred_disps", "--eval_out_dir", tmp_path, "--no_eval", "--post_process")
    plain = expected_disparities(tree)
    merged = np.load(tmp_path / "disps_three_split.npy")
    assert merged.shape == plain.shape
    assert 1e-4 < np.abs(merged / plain - 1).max() < 1


def test_csv_and_json_hold_what_is_printed(weights, tree, tmp_path, capsys):
    assert run(weights, tree, "--csv", tmp_path / "deep" / "images.csv", "--json", tmp_path / "summary.json") == 0
    printed = means_printed(capsys.readouterr().out)
    with open(tmp_path / "deep" / "images.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["1", "3", "0"] and rows[0]["folder"] == tiny_kitti.TEST
    summary = json.loads((tmp_path / "summary.json").read_text())
    for name, value in zip(metrics.METRICS, printed, strict=True):
        assert np.mean([float(row[name]) for row in rows]) == pytest.approx(value, abs=6e-4)
        assert summary["metrics"][name] == pytest.approx(value, abs=6e-4)
    assert (summary["images"], summary["model"], summary["height"]) == (3, MODEL, HEIGHT)


def test_all_epochs_are_compared_and_the_best_is_marked(tree, tmp_path, capsys):
    models = tmp_path / "run" / "models"

    def flatten(encoder, decoder):
        decoder.decoder[6].conv.weight.data.mul_(0)

    def poison(encoder, decoder):
        decoder.decoder[6].conv.bias.data.fill_(float("nan"))

    for epoch, change in ((0, None), (2, poison), (10, flatten)):
        write_weights(models / f"weights_{epoch}", change=change)
    assert run(tmp_path / "run", tree, "--all", "--json", tmp_path / "all.json", "--csv", tmp_path / "all.csv") == 0
    out, err = capsys.readouterr()
    table = [line.split() for line in out.splitlines() if line.startswith("weights_")]
    assert [row[0] for row in table] == ["weights_0", "weights_10"]
    best = min(table, key=lambda row: float(row[1]))
    assert [row for row in table if row[-1] == "best"] == [best]
    assert "weights_2" in err and "not finite" in err
    summaries = json.loads((tmp_path / "all.json").read_text())
    assert [bool(each.get("best")) for each in summaries] == [row is best for row in table]
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 2 * 3


def test_metric_is_the_stored_factor_without_median_scaling(tree, tmp_path, capsys):
    weights = write_weights(tmp_path / "scaled")
    assert run(weights, tree, "--metric") == 2
    told = capsys.readouterr().err
    assert told.startswith("error: these weights have no metric scale; ") and told.count("\n") == 1
    write_metric_scale(weights, MetricScale(12.5, 0.03, 7, "a tape"))
    assert run(weights, tree, "--metric", "--json", tmp_path / "metric.json") == 0
    printed = capsys.readouterr().out
    assert "depth in metres: 12.5 to a unit (a tape)" in printed
    protocol = metrics.Protocol(alignment="none")
    truth = load_ground_truth(tree[1] / "gt_depths.npz")
    wanted = metrics.mean_errors(list(metrics.evaluate_images(truth, expected_disparities(tree) / 12.5, protocol)))
    np.testing.assert_allclose(means_printed(printed), wanted, atol=6e-4)
    assert json.loads((tmp_path / "metric.json").read_text())["metric_scale"]["factor"] == 12.5
    assert run(weights, tree, "--metric", "--eval_stereo") == 2


def test_stereo_is_metric_without_median_scaling(weights, tree, capsys):
    assert run(weights, tree, "--eval_stereo") == 0
    stereo = capsys.readouterr().out
    assert run(weights, tree, "--disable_median_scaling", "--pred_depth_scale_factor", "5.4") == 0
    assert "depth times 5.4" in stereo and "not applied" in stereo
    assert means_printed(stereo) == means_printed(capsys.readouterr().out)


def test_the_training_flag_use_stereo_says_nothing_about_evaluation(weights, tree, capsys):
    assert run(weights, tree, "--use_stereo") == 0
    trained = means_printed(capsys.readouterr().out)
    assert run(weights, tree, "--eval_mono") == 0
    assert means_printed(capsys.readouterr().out) == trained


def test_the_model_is_what_the_weights_are(weights, tree, capsys):
    data, split = tree
    flags = ["--load_weights_folder", weights, "--data_path", data, "--eval_split", split, "--device", "cpu"]
    assert evaluate_depth.main(list(map(str, flags))) == 0
    assert f": {MODEL}, {WIDTH}x{HEIGHT}, " in capsys.readouterr().out


def test_several_folders_make_one_table(weights, tree, tmp_path, capsys):
    def flatten(_, decoder):
        decoder.decoder[6].conv.weight.data.mul_(0)

    other = write_weights(tmp_path / "other" / "weights_0", change=flatten)
    json_path, csv_path = tmp_path / "all.json", tmp_path / "all.csv"
    assert run(weights, tree, "--load_weights_folder", weights, other, "--json", json_path, "--csv", csv_path) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.startswith("/") and "weights_0 " in line]
    assert [row[0] for row in rows] == [str(weights), str(other)]  # equal names: told apart by their folders
    summaries = json.loads(json_path.read_text())
    assert sum(bool(each.get("best")) for each in summaries) == 1
    assert len(csv_path.read_text().splitlines()) == 1 + 2 * 3


def test_evaluate_prints_nothing(weights, tree, capfd):
    options = Namespace(load_weights_folder=str(weights), data_path=str(tree[0]), eval_split=str(tree[1]), device="cpu")
    assert len(evaluate_depth.evaluate(options)) == 1
    assert capfd.readouterr() == ("", "")


def test_the_depth_range_comes_from_the_weights_unless_it_is_given(tree, tmp_path):
    from checkpointing import folders

    encoder, decoder = seeded_networks()
    (tmp_path / "near").mkdir()
    folders.save_networks(
        tmp_path / "near", {"encoder": encoder, "depth": decoder}, HEIGHT, WIDTH, False, encoder.dilations, (1, 50)
    )
    published = expected_disparities(tree)
    sigmoid = (published - 1 / 100) / (1 / 0.1 - 1 / 100)
    for flags, (near, far) in (((), (1, 50)), (("--min_depth", "2"), (2, 100))):
        run(tmp_path / "near", tree, "--save_pred_disps", "--no_eval", "--eval_out_dir", tmp_path, *flags)
        saved = np.load(tmp_path / "disps_three_split.npy")
        np.testing.assert_allclose(saved, 1 / far + (1 / near - 1 / far) * sigmoid, rtol=1e-4)


def test_improved_maps_are_evaluated_without_crop(weights, tmp_path):
    from PIL import Image

    data = write_drive(tmp_path / "kitti")
    maps = data / tiny_kitti.TEST / "proj_depth/groundtruth/image_02"
    maps.mkdir(parents=True)
    for frame in (0, 1, 3):
        Image.fromarray(np.full((24, 64), 256 * 10, np.uint16)).save(maps / f"{frame:010d}.png")
    split = write_test_list(tmp_path / "eigen_benchmark")
    assert run(weights, (data, split), "--json", tmp_path / "s.json", "--csv", tmp_path / "s.csv") == 0
    with open(tmp_path / "s.csv", newline="") as file:
        assert {int(row["pixels"]) for row in csv.DictReader(file)} == {24 * 64}
    assert json.loads((tmp_path / "s.json").read_text())["protocol"]["garg_crop"] is False


def test_kittis_own_improved_maps_are_scored_as_a_slow_loop_does(kitti_sample, tmp_path):
    import cv2
    from PIL import Image

    drive, frames = "2011_09_26/2011_09_26_drive_0001_sync", (5, 9, 16)
    split = write_test_list(tmp_path / "eigen_benchmark", [f"{drive} {frame} l" for frame in frames])
    disparities = np.random.default_rng(1).uniform(0.01, 0.3, (3, 24, 80)).astype(np.float32)
    np.save(tmp_path / "d.npy", disparities)
    flags = ["--ext_disp_to_eval", tmp_path / "d.npy", "--eval_split", split, "--data_path", kitti_sample / "kitti_raw"]
    [found] = evaluate_depth.evaluate(evaluate_depth.LiteMonoOptions("evaluate_depth.py").parse(list(map(str, flags))))
    wanted = []
    for frame, disparity in zip(frames, disparities, strict=True):
        path = kitti_sample / "kitti_raw" / drive / "proj_depth/groundtruth/image_02" / f"{frame:010d}.png"
        truth = np.asarray(Image.open(path)) / 256
        depth = 1 / cv2.resize(disparity, truth.shape[::-1]).astype(np.float64)
        truth, depth = truth[truth > 0], depth[truth > 0]
        wanted.append(metrics.compute_errors(truth, np.clip(depth * np.median(truth) / np.median(depth), 1e-3, 80)))
    np.testing.assert_allclose(found.means, np.mean(wanted, axis=0), rtol=1e-5)


def test_evaluate_takes_a_namespace_and_returns_the_results(weights, tree):
    options = Namespace(load_weights_folder=str(weights), data_path=str(tree[0]), eval_split=str(tree[1]), model=MODEL)
    [evaluation] = evaluate_depth.evaluate(options)
    assert evaluation.means.shape == (7,) and len(evaluation.results) == 3


def test_multiply_adds_agree_with_torchs_own_counter():
    from torch.utils.flop_counter import FlopCounterMode

    encoder, decoder = seeded_networks()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder(encoder(torch.zeros(1, 3, HEIGHT, WIDTH)))
    found = cost.network_cost(encoder, decoder, HEIGHT, WIDTH)
    assert found.multiply_adds == counter.get_total_flops() // 2
    assert (found.encoder_parameters, found.decoder_parameters) == (1_955_192, 192_467)


def test_a_whole_evaluation_needs_no_more_memory_for_more_images(tmp_path):
    """The peak of Python's and NumPy's memory over a whole evaluation of stored disparities, 40 and 160 images."""
    rng = np.random.default_rng(4)
    truth = np.where(rng.random((150, 500)) < 0.05, rng.uniform(2, 70, (150, 500)), 0).astype(np.float32)
    peaks = {}
    for count in (40, 160):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "test_files.txt").write_text("".join(f"drive {frame} l\n" for frame in range(count)))
        np.savez(folder / "gt_depths.npz", **{f"depth_{index:05d}": truth for index in range(count)})
        disparities = np.lib.format.open_memmap(folder / "d.npy", "w+", np.float32, (count, 60, 200))
        disparities[:] = rng.uniform(0.02, 0.4, (60, 200))
        disparities.flush()
        tracemalloc.start()
        [found] = evaluate_depth.evaluate(Namespace(ext_disp_to_eval=folder / "d.npy", eval_split=folder))
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(found.results) == count
    assert peaks[160] < 1.3 * peaks[40]


def test_results_follow_links_and_replace_no_link(weights, tree, tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert run(weights, tree, "--csv", tmp_path / "link.csv") == 0
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real.csv").read_text().startswith("weights,")


def test_help_shows_what_matters_here_and_takes_everything():
    from options import LiteMonoOptions

    here, training = (LiteMonoOptions(f"{name}.py").parser for name in ("evaluate_depth", "train"))
    shown, shown_in_training = here.format_help(), training.format_help()
    assert "--lr" not in shown and "--num_epochs" not in shown and "--eval_split" in shown
    assert "--eval_split" not in shown_in_training and "--lr" in shown_in_training
    assert here.parse_args(["--lr", "1", "--num_epochs", "3"]).num_epochs == 3
    assert training.parse_args(["--eval_split", "eigen", "--post_process"]).post_process
    for text in (shown, shown_in_training):
        assert str(metrics.__file__).split("/evaluation")[0] not in text


def test_help_does_not_import_torch():
    import subprocess
    import sys

    code = "import sys, evaluate_depth\ntry: evaluate_depth.main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
