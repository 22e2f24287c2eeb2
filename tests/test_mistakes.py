"""A table of what users get wrong: each gives one line, exit code 2, and leaves nothing half-written."""

import importlib
import os
import pickle
import shutil
import urllib.error
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from system import memory
from system.files import is_partial
from tests.bomb import Bomb
from tests.short_runs import arguments, files_below

TINY = ("--model", "lite-mono-tiny", "--no_cuda")


@pytest.fixture
def world(synthetic_drive, weights, tmp_path, monkeypatch):
    """A user's folders: data with a split, weights without pose networks, a place to write; all may be spoiled."""
    data = tmp_path / "data"
    shutil.copytree(synthetic_drive, data)
    shutil.copytree(weights, tmp_path / "weights")
    split = data / "splits" / "synthetic"
    day = data / "2000_01_01"
    test_drive, drive = sorted(day.glob("*_0002_sync"))[0], sorted(day.glob("*_0001_sync"))[0]
    first = (split / "test_files.txt").read_text().split()[1]
    (split / "test_files.txt").write_text(f"2000_01_01/{test_drive.name} {first} l\n")
    return SimpleNamespace(
        root=tmp_path, data=data, split=split, day=day, drive=drive,
        weights=tmp_path / "weights", bang=tmp_path / "bang",
        image=drive / "image_02" / "data" / "0000000003.jpg", monkeypatch=monkeypatch,
        scan=drive / "velodyne_points" / "data" / "0000000005.bin",
        test_image=test_drive / "image_02" / "data" / f"{int(first):010d}.jpg",
        test_scan=test_drive / "velodyne_points" / "data" / f"{int(first):010d}.bin",
    )  # fmt: skip


def train(world, *more):
    return "train", arguments(world.data, world.root / "runs", "--batch_size", 10, *more)


def evaluate(world, *more):
    paths = ["--load_weights_folder", world.weights, "--data_path", world.data, "--eval_split", world.split]
    return "evaluate_depth", [*paths, "--num_workers", 1, *TINY, *more]


def predict(world, *more):
    return "test_simple", ["--load_weights_folder", world.weights, "--image_path", world.test_image,
                           "--output_dir", world.root / "out", *TINY, *more]  # fmt: skip


def export(world, *more):
    return "export_gt_depth", ["--data_path", world.data, "--split", world.split, "--num_workers", 1, *more]


def cut(path, share=0.5):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share) | 1])


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def bomb(world, path):
    torch.save({"height": Bomb(open, str(world.bang), "w")}, path)


def bomb_as_ground_truth(world):
    maps = np.empty(1, dtype=object)
    maps[0] = Bomb(open, str(world.bang), "w")
    np.savez(world.split / "gt_depths.npz", data=maps)


def no_network(world):
    def refuse(*_, **__):
        raise urllib.error.URLError("no route to host")

    world.monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)


def pickled(world):
    write(world.root / "w.pth", "")
    (world.root / "w.pth").write_bytes(pickle.dumps(Bomb(open, str(world.bang), "w")))
    return world.root / "w.pth"


def saved(world, value):
    torch.save(value, world.root / "w.pth")
    return world.root / "w.pth"


# name: (what the user does, words of the line). What a run finds out on its way leaves the run's folder, whole.
BEFORE = {
    "train: no data folder": (lambda w: train(w, "--data_path", w.root / "nowhere"), "no such data folder"),
    "train: no data folder, before weights are fetched": (
        lambda w: train(w, "--data_path", w.root / "nowhere", "--weights_init", "pretrained"), "no such data folder",
    ),
    "train: unknown split": (lambda w: train(w, "--split", "eigen_zoo"), "unknown split"),
    "train: folder without lists": (lambda w: train(w, "--split", w.day), "a split folder without lists"),
    "train: malformed line": (
        lambda w: (write(w.split / "val_files.txt", "drive 5 x\n"), train(w))[1],
        "val_files.txt",
    ),
    "train: empty list": (lambda w: (write(w.split / "train_files.txt", "\n"), train(w))[1], "an empty split file"),
    "train: no list": (lambda w: ((w.split / "val_files.txt").unlink(), train(w))[1], "val_files.txt"),
    "train: height": (lambda w: train(w, "--height", 200), "--height is not a multiple of 32; 200"),
    "train: image": (lambda w: train(w, "--height", 8192, "--width", 8192), "larger than weights are read for"),
    "train: memory": (
        lambda w: (w.monkeypatch.setattr(memory, "total", lambda: 10**10),
                   train(w, "--height", 4096, "--width", 4096))[1],
        "it does not fit into the memory; 10 x 4096x4096 pixels a step: at least 84 GB, this machine has 10 GB",
    ),
    "train: five rates": (lambda w: train(w, "--lr", 1, 2, 3, 4, 5), "--lr takes six numbers; 5 given"),
    "train: mask": (lambda w: train(w, "--predictive_mask"), "add --disable_automasking"),
    "train: one frame": (lambda w: train(w, "--frame_ids", 0), "nothing to be compared with"),
    "train: batch of none": (lambda w: train(w, "--batch_size", 0), "not a whole number of at least 1"),
    "train: batch too large": (lambda w: train(w, "--batch_size", 500), "fewer training items than one step takes"),
    "train: unknown flag": (lambda w: train(w, "--learning_rate", 1), "--learning_rate"),
    "train: unknown model": (lambda w: train(w, "--model", "lite-mono-huge"), "lite-mono-huge"),
    "train: dilations": (lambda w: train(w, "--dilations", "1/1/1"), "takes 3 + 3 + 6 dilations"),
    "train: weights of another model": (
        lambda w: train(
            w, "--load_weights_folder", w.weights, "--models_to_load", "encoder", "--model", "lite-mono-small"
        ),
        "pass --model lite-mono-tiny",
    ),
    "train: no weights folder": (lambda w: train(w, "--load_weights_folder", w.root / "no"), "no such weights folder"),
    "train: no pose weights": (
        lambda w: train(w, "--load_weights_folder", w.weights),
        "--models_to_load encoder depth",
    ),
    "train: pickle bomb": (
        lambda w: (bomb(w, w.weights / "encoder.pth"), train(w, "--load_weights_folder", w.weights))[1],
        "not a readable weights file",
    ),
    "train: ImageNet weights missing": (
        lambda w: train(w, "--mypretrain", w.root / "no.pth"),
        "no such file of pre-trained weights",
    ),
    "train: ImageNet weights of something else": (
        lambda w: train(w, "--mypretrain", saved(w, {"model": {"a": torch.zeros(1)}})),
        "no entry of the pre-trained file fits",
    ),
    "train: ImageNet weights as a bomb": (
        lambda w: train(w, "--mypretrain", pickled(w)),
        "not a readable weights file",
    ),
    "train: no network": (
        lambda w: (no_network(w), train(w, "--pose_model_type", "separate_resnet", "--weights_init", "pretrained"))[1],
        "--weights_init scratch",
    ),
    "train: nothing to resume": (lambda w: train(w, "--resume"), "no complete state to resume from"),
    "train: no such state": (lambda w: train(w, "--resume", w.root / "state_1.pt"), "the state cannot be read"),
    "train: log_dir is a file": (
        lambda w: train(w, "--log_dir", write(w.root / "f", "")),
        "a file stands where a folder is expected",
    ),
    "train: run outside log_dir": (lambda w: train(w, "--model_name", ".."), "--model_name"),
    "evaluate: nothing": (lambda w: ("evaluate_depth", ["--data_path", w.data]), "nothing to evaluate"),
    "evaluate: two sources": (lambda w: evaluate(w, "--ext_disp_to_eval", "d.npy"), "two sources of predictions"),
    "evaluate: no weights": (lambda w: evaluate(w, "--load_weights_folder", w.root / "no"), "no"),
    "evaluate: another model": (lambda w: evaluate(w, "--model", "lite-mono"), "pass --model lite-mono-tiny"),
    "evaluate: pickle bomb": (
        lambda w: (bomb(w, w.weights / "depth.pth"), evaluate(w))[1],
        "not a readable weights file",
    ),
    "evaluate: truncated weights": (lambda w: (cut(w.weights / "depth.pth"), evaluate(w))[1], "depth.pth"),
    "evaluate: bomb as ground truth": (lambda w: (bomb_as_ground_truth(w), evaluate(w))[1], "not a ground-truth file"),
    "evaluate: truncated scan": (lambda w: (cut(w.test_scan), evaluate(w))[1], "a truncated LiDAR scan"),
    "evaluate: no scan": (lambda w: (w.test_scan.unlink(), evaluate(w))[1], "1 of 1 LiDAR scans of"),
    "evaluate: no calibration": (
        lambda w: ((w.day / "calib_cam_to_cam.txt").unlink(), evaluate(w))[1],
        "missing calibration file",
    ),
    "evaluate: no disparities": (
        lambda w: ("evaluate_depth", ["--ext_disp_to_eval", w.root / "d.npy", "--eval_split", w.split]),
        "d.npy",
    ),
    "evaluate: unknown split": (lambda w: evaluate(w, "--eval_split", "eigen_zoo"), "unknown split"),
    "predict: no image": (lambda w: predict(w, "--image_path", w.root / "no.jpg"), "no.jpg"),
    "predict: no images": (lambda w: predict(w, "--image_path", w.weights), "weights"),
    "predict: text as image": (lambda w: predict(w, "--image_path", write(w.root / "a.jpg", "hello")), "a.jpg"),
    "predict: truncated image": (lambda w: (cut(w.test_image), predict(w))[1], "jpg"),
    "predict: list of nothing": (
        lambda w: predict(w, "--test", "--image_path", write(w.root / "list.txt", "no.jpg\n")),
        "no.jpg",
    ),
    "predict: no weights": (lambda w: predict(w, "--load_weights_folder", w.root / "no"), "no"),
    "predict: another model": (lambda w: predict(w, "--model", "lite-mono-8m"), "pass --model lite-mono-tiny"),
    "predict: output is a file": (lambda w: predict(w, "--output_dir", write(w.root / "f", "")), "f"),
    "export: unknown split": (lambda w: export(w, "--split", "eigen_zoo"), "unknown split"),
    "export: no data": (lambda w: export(w, "--data_path", w.root / "no"), "no"),
    "export: no calibration": (
        lambda w: ((w.day / "calib_velo_to_cam.txt").unlink(), export(w))[1],
        "missing calibration file",
    ),
    "export: truncated scan": (lambda w: (cut(w.test_scan), export(w))[1], "a truncated LiDAR scan"),
    "export: no improved maps": (lambda w: export(w, "--split", "eigen_benchmark"), "eigen_benchmark"),
    "export: not an npz": (lambda w: export(w, "--output", w.root / "gt.npy"), "the output is no .npz file"),
    "export: output in a file": (lambda w: export(w, "--output", write(w.root / "f", "") / "gt.npz"), "f"),
}
ON_THE_WAY = {
    "train: missing frame": (lambda w: (w.image.unlink(), train(w))[1], "0000000003.jpg"),
    "train: truncated image": (lambda w: (cut(w.image), train(w))[1], "0000000003.jpg"),
    "train: text as image": (lambda w: (write(w.image, "hello"), train(w))[1], "0000000003.jpg"),
    "train: png asked for": (lambda w: train(w, "--png"), ".png"),
    "train: no neighbour": (lambda w: train(w, "--frame_ids", 0, -9, 1), "split line"),
    "train: odometry": (lambda w: train(w, "--dataset", "kitti_odom"), "not an odometry sequence"),
    "train: truncated scan": (lambda w: (cut(w.scan), train(w))[1], "a truncated LiDAR scan"),
    "train: no calibration": (
        lambda w: ((w.day / "calib_cam_to_cam.txt").unlink(), train(w))[1],
        "missing calibration file",
    ),
    "evaluate: truncated image": (lambda w: (cut(w.test_image), evaluate(w, "--save_pred_disps"))[1], "jpg"),
    "evaluate: missing image": (lambda w: (w.test_image.unlink(), evaluate(w, "--save_pred_disps"))[1], "jpg"),
}  # fmt: skip


def outcome(world, mistake, words, capsys):
    """Make the mistake; return the files before it, asserting the manners."""
    entry, argv = mistake(world)
    before = files_below(world.root)
    code = importlib.import_module(entry).main([str(each) for each in argv])
    lines = [line for line in capsys.readouterr().err.splitlines() if line]
    assert code == 2, lines
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and lines[-1] == errors[0], lines
    assert words in errors[0] and errors[0].count("; ") >= 2
    assert not any("Traceback" in line for line in lines)
    assert not world.bang.exists()
    return before


@pytest.mark.parametrize("mistake, words", BEFORE.values(), ids=BEFORE)
def test_a_mistake_seen_at_the_start_is_one_line_and_changes_nothing(world, capsys, mistake, words):
    before = outcome(world, mistake, words, capsys)
    after = [name for name in files_below(world.root) if not name.endswith("run.lock")]
    assert after == before
    run = world.root / "runs" / "run"
    assert not run.exists() or not files_below(run)


@pytest.mark.parametrize("mistake, words", ON_THE_WAY.values(), ids=ON_THE_WAY)
def test_a_mistake_met_on_the_way_is_one_line_and_leaves_nothing_half_written(world, capsys, mistake, words):
    before = set(outcome(world, mistake, words, capsys))
    new = [name for name in files_below(world.root) if name not in before]
    assert not [name for name in new if any(is_partial(part) for part in name.split(os.sep))]
    assert not [name for name in new if name.endswith((".pth", ".pt", ".npy"))]


def test_the_table_is_long():
    assert len(BEFORE) + len(ON_THE_WAY) >= 60


@pytest.mark.parametrize(
    "module, flags",
    [
        ("demo.baselines", ["--data_path", "d", "--split", "s", "--frames", "0"]),
        ("demo.baselines", ["--data_path", "d", "--split", "s", "--json", "/dev/full"]),
        ("demo.summary", ["--baselines", "b.json", "--evaluation", "e.json", "--before", "a", "--after", "b"]),
        ("demo.curve", ["--run", "nowhere", "--baselines", "b.json", "--evaluation", "e.json", "--out", "o.png"]),
    ],
)
@pytest.mark.parametrize("content", ["[", "[]", '{"a": 1}', '[{"predictions": 3}]', "3", "[" * 100000, None])
def test_broken_results_given_to_the_demo_are_one_line(module, flags, content, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("b.json", "e.json") if content is not None else ():
        write(tmp_path / name, content)
    assert importlib.import_module(module).main(flags) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1


def test_many_names_that_fail_for_one_cause_are_one_line(monkeypatch, tmp_path, capsys):
    import weights as command

    monkeypatch.setenv("LITE_MONO_CACHE", str(tmp_path))
    monkeypatch.setenv("LITE_MONO_SHARES", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert command.main(["fetch", "all", "--retries", "0"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: 11 names could not be fetched: ") and err.count("\n") == 1
    assert command.main(["fetch", "all", "--retries", "-3"]) == 2
