"""Every kind of run, a few steps end to end on a tiny drive; the files that stay are asserted."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import train
from checkpointing.folders import load_depth_network, save_networks
from tests.short_runs import arguments, differences, files_below, one_line

STEPS = ("--max_steps", 2, "--batch_size", 2)
RESNET = ("--pose_model_type", "separate_resnet")
DEPTH_FILES = {"encoder.pth", "depth.pth", "adam.pth"}

COMBINATIONS = {
    "mono": (),
    "three_times_two": ("--frame_ids", 0, -2, -1, 1, "--grad_accum", 2),
    "stereo": ("--use_stereo",),
    "stereo_only": ("--use_stereo", "--frame_ids", 0),
    "resnet_pairs": RESNET,
    "resnet_all": (*RESNET, "--pose_model_input", "all"),
    "resnet_34": (*RESNET, "--num_layers", 34),
    "shared_pairs": ("--pose_model_type", "shared"),
    "shared_all": ("--pose_model_type", "shared", "--pose_model_input", "all", "--use_stereo"),
    "posecnn_all": ("--pose_model_input", "all"),
    "predictive_mask": ("--predictive_mask", "--disable_automasking", "--use_stereo"),
    "v1_multiscale": ("--v1_multiscale",),
    "avg_reprojection": ("--avg_reprojection", "--use_stereo"),
    "no_ssim": ("--no_ssim",),
    "one_scale": ("--scales", 0),
    "all_at_once": ("--v1_multiscale", "--avg_reprojection", "--no_ssim", "--predictive_mask", "--disable_automasking",
                    "--use_stereo", "--pose_model_input", "all", "--jitter_per_image", "--scales", 0, 2),
    "large": ("--model", "lite-mono-8m", "--height", 64, "--width", 96),
    "base": ("--model", "lite-mono", "--profile", "false", "--num_workers", 1),
    "dilations": ("--dilations", "1,1,1/1,1,1/1,1,1,1,1,1"),
    "deterministic": ("--deterministic",),
    "kitti_depth": ("--dataset", "kitti_depth"),
}  # fmt: skip


def expected_files(flags):
    """The files of a weights folder for these flags."""
    names = set(DEPTH_FILES)
    if "--frame_ids" not in flags or flags[flags.index("--frame_ids") + 1 :][1:2] != ():
        names |= {"pose.pth", "adam_pose.pth"}
    if "separate_resnet" in flags:
        names.add("pose_encoder.pth")
    if "--predictive_mask" in flags:
        names.add("predictive_mask.pth")
    return sorted(names)


@pytest.mark.parametrize("flags", COMBINATIONS.values(), ids=COMBINATIONS)
def test_runs_end_to_end(short_run, tmp_path, flags):
    assert train.main(short_run(*STEPS, *flags)) == 0
    run = tmp_path / "runs" / "run"
    assert sorted(path.name for path in (run / "models").iterdir()) == [
        "opt.json",
        "run.json",
        "weights_0",
        "weights_best",
    ]
    assert files_below(run / "models" / "weights_0") == expected_files(flags)
    assert files_below(run / "models" / "weights_best") == sorted([*expected_files(flags), "metrics.json"])
    assert files_below(run / "states") == ["state_00000002.pt"]
    for part in ("train", "val"):
        assert len(files_below(run / part)) == 1
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["run", "run.lock"]
    model = json.loads((run / "models" / "opt.json").read_text())["model"]
    network = load_depth_network(str(run / "models" / "weights_0"), model)
    with torch.no_grad():
        disp = network.decoder(network.encoder(torch.rand(1, 3, network.height, network.width)))["disp", 0]
    assert disp.shape == (1, 1, network.height, network.width) and disp.isfinite().all()


@pytest.fixture(scope="module")
def odometry(synthetic_drive, tmp_path_factory):
    """The tiny drive as a KITTI odometry sequence with its split."""
    root = tmp_path_factory.mktemp("odometry")
    drive = next((synthetic_drive / "2000_01_01").glob("*_0001_sync"))
    for camera in (2, 3):
        folder = root / "sequences" / "07" / f"image_{camera}"
        folder.mkdir(parents=True)
        for path in sorted((drive / f"image_0{camera}" / "data").iterdir()):
            shutil.copy(path, folder / f"{int(path.stem):06d}.jpg")
    split = root / "splits" / "synthetic"
    split.mkdir(parents=True)
    (split / "train_files.txt").write_text("".join(f"7 {frame} l\n" for frame in range(1, 9)))
    (split / "val_files.txt").write_text("7 10 r\n")
    return root


def test_odometry_runs_and_is_chosen_by_the_loss(odometry, tmp_path):
    assert train.main(arguments(odometry, tmp_path, *STEPS, "--dataset", "kitti_odom", "--use_stereo")) == 0
    metrics = json.loads((tmp_path / "run" / "models" / "weights_best" / "metrics.json").read_text())
    assert metrics["chosen_by"] == "loss" and "abs_rel" not in metrics


def test_improved_maps_choose_where_they_are(synthetic_drive, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(synthetic_drive, data)
    for line in (data / "splits" / "synthetic" / "val_files.txt").read_text().split("\n"):
        if line:
            folder, frame, side = line.split()
            path = (
                data / folder / "proj_depth" / "groundtruth" / f"image_0{2 + (side == 'r')}" / f"{int(frame):010d}.png"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((64, 128), 10 * 256, np.uint16)).save(path)
    assert train.main(arguments(data, tmp_path / "runs", *STEPS, "--dataset", "kitti_depth")) == 0
    metrics = json.loads((tmp_path / "runs" / "run" / "models" / "weights_best" / "metrics.json").read_text())
    assert metrics["chosen_by"] == "abs_rel" and metrics["abs_rel"] > 0


def test_png_is_read_when_asked(synthetic_drive, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(synthetic_drive, data)
    for path in data.rglob("*.jpg"):
        with Image.open(path) as image:
            image.save(path.with_suffix(".png"))
        path.unlink()
    assert train.main(arguments(data, tmp_path / "runs", *STEPS, "--png")) == 0
    assert train.main(arguments(data, tmp_path / "runs", *STEPS)) == 2
    assert ".jpg" in one_line(capsys)


@pytest.fixture(scope="module")
def trained(synthetic_drive, tmp_path_factory):
    """A finished two-epoch run."""
    folder = tmp_path_factory.mktemp("trained")
    argv = arguments(synthetic_drive, folder, "--num_epochs", 3, "--save_frequency", 2, "--log_frequency", 2)
    assert train.main(argv) == 0
    return folder / "run"


def test_weights_are_kept_every_so_many_epochs_and_at_the_end(trained):
    assert sorted(path.name for path in trained.glob("models/weights_*")) == ["weights_1", "weights_2", "weights_best"]


def test_a_run_records_itself(trained):
    record = json.loads((trained / "models" / "run.json").read_text())
    assert record["seed"] == 0 and record["device"] == "cpu" and record["processes"] == 1
    assert record["splits"]["train"]["lines"] == 20 and len(record["splits"]["train"]["sha256"]) == 64
    assert record["versions"]["torch"] and record["options"]["num_epochs"] == 3 and record["command"]
    assert json.loads((trained / "models" / "opt.json").read_text())["save_frequency"] == 2


def test_tensorboard_holds_losses_rates_metrics_and_pictures(trained):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator
    tags = {}
    for part in ("train", "val"):
        events = accumulator(str(trained / part))
        events.Reload()
        tags[part] = events.Tags()
    scalars = {
        "loss",
        "loss/0",
        "loss/1",
        "loss/2",
        "learning_rate/adam",
        "learning_rate/adam_pose",
        "images_per_second",
    }
    assert scalars <= set(tags["train"]["scalars"])
    assert {"loss", "abs_rel", "a3"} <= set(tags["val"]["scalars"])
    pictures = {"target/0", "source_-1/0", "warped_1/0", "disp_0/0", "automask_0/0"}
    assert pictures <= set(tags["train"]["images"]) and pictures <= set(tags["val"]["images"])
    assert "alarm/no_pretrained_weights/text_summary" in tags["train"]["tensors"]


def test_training_goes_on_from_a_weights_folder(trained, short_run, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    start = trained / "models" / "weights_2"
    assert train.main(short_run(*STEPS, "--load_weights_folder", start, "--lr", 0, 0, 31, 0, 0, 31)) == 0
    for name in ("depth.pth", "pose.pth"):
        paths = [folder / name for folder in (start, tmp_path / "runs" / "run" / "models" / "weights_0")]
        assert not differences(*(torch.load(path, weights_only=True) for path in paths))  # the rate was 0
    assert "adam.pth" in caplog.text and "adam_pose.pth" in caplog.text
    assert "no pre-trained encoder" not in caplog.text


def test_only_the_named_networks_are_loaded(trained, short_run, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    start = trained / "models" / "weights_2"
    flags = ("--load_weights_folder", start, "--models_to_load", "encoder", "--seed", 5, "--lr", 0, 0, 31, 0, 0, 31)
    assert train.main(short_run(*STEPS, *flags)) == 0
    mine, theirs = (torch.load(folder / "pose.pth", weights_only=True)
                    for folder in (start, tmp_path / "runs" / "run" / "models" / "weights_0"))  # fmt: skip
    assert differences(mine, theirs)
    assert "loaded encoder from" in caplog.text and "adam.pth" not in caplog.text


def test_a_folder_without_pose_networks_says_what_to_add(trained, short_run, tmp_path, capsys):
    folder = tmp_path / "published"
    folder.mkdir()
    for name in ("encoder.pth", "depth.pth"):
        shutil.copy(trained / "models" / "weights_2" / name, folder)
    assert train.main(short_run(*STEPS, "--load_weights_folder", folder)) == 2
    assert "add --models_to_load encoder depth" in one_line(capsys)
    assert train.main(short_run(*STEPS, "--load_weights_folder", folder, "--models_to_load", "encoder", "depth")) == 0


def test_an_optimiser_of_other_networks_is_left_out_aloud(trained, short_run, tmp_path, caplog):
    folder = tmp_path / "other"
    shutil.copytree(trained / "models" / "weights_2", folder)
    torch.save({"state": {}, "param_groups": [{"params": [0], "lr": 1.0}]}, folder / "adam.pth")
    assert train.main(short_run(*STEPS, "--load_weights_folder", folder)) == 0
    assert "the optimiser starts afresh" in caplog.text


def test_imagenet_weights_are_loaded_and_counted(short_run, tmp_path, caplog):
    from networks import LiteMono

    caplog.set_level(logging.INFO)
    encoder = LiteMono("lite-mono-tiny")
    weights = {**encoder.state_dict(), "head.weight": torch.zeros(1000, 128), "norm.weight": torch.ones(128)}
    weights.pop("stem2.0.conv.weight")
    torch.save({"model": weights}, tmp_path / "imagenet.pth")
    assert train.main(short_run(*STEPS, "--mypretrain", tmp_path / "imagenet.pth")) == 0
    assert f"{len(encoder.state_dict()) - 1} keys matched, 1 missing, 0 unexpected" in caplog.text
    assert "no pre-trained encoder" not in caplog.text


def test_the_recipe_is_printed_and_overridden(short_run, capsys):
    assert train.main(["--recipe", "lite-mono-tiny_640x192_scratch", "--print_recipe"]) == 0
    printed = capsys.readouterr().out
    assert "--num_epochs 35" in printed and "--lr 0.0005 5e-06 36 0.0001 1e-05 36" in printed
    from options import LiteMonoOptions

    opt = LiteMonoOptions().parse(["--recipe", "lite-mono-8m_1024x320", "--num_epochs", "3"])
    assert (opt.model, opt.width, opt.height, opt.batch_size, opt.num_epochs) == ("lite-mono-8m", 1024, 320, 12, 3)


@pytest.fixture
def damaged(synthetic_drive, tmp_path):
    """A copy of the drive with one truncated training image; returns (data path, image)."""
    data = tmp_path / "data"
    shutil.copytree(synthetic_drive, data)
    path = sorted(data.rglob("image_02/data/0000000003.jpg"))[0]
    path.write_bytes(path.read_bytes()[:300])
    return data, path


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_sample_stops_the_run_and_is_named(damaged, tmp_path, capsys, workers):
    data, path = damaged
    assert train.main(arguments(data, tmp_path / "runs", "--num_workers", workers, "--on_bad_sample", "stop")) == 2
    line = one_line(capsys)
    assert path.name in line and "split line" in line and "--on_bad_sample skip" in line


def test_a_bad_sample_can_be_skipped_and_is_counted(damaged, tmp_path, caplog):
    data, path = damaged
    assert train.main(arguments(data, tmp_path / "runs", "--on_bad_sample", "skip", "--batch_size", 5)) == 0
    assert "skipped a bad sample (1 so far)" in caplog.text and path.name in caplog.text


def test_a_run_on_real_frames(kitti_sample, tmp_path):
    argv = arguments(kitti_sample / "kitti_raw", tmp_path, *STEPS, "--split", kitti_sample / "splits" / "kitti_sample")
    lists = tmp_path / "few"
    lists.mkdir()
    for part, count in (("train", 6), ("val", 2)):
        text = (kitti_sample / "splits" / "kitti_sample" / f"{part}_files.txt").read_text()
        (lists / f"{part}_files.txt").write_text("\n".join(text.splitlines()[:count]))
    assert train.main([*argv, "--split", str(lists), "--height", "96", "--width", "320"]) == 0


def test_save_networks_needs_no_gpu_to_be_read(tmp_path, trained):
    state = torch.load(trained / "models" / "weights_2" / "adam.pth", weights_only=True)
    tensors = [value for each in state["state"].values() for value in each.values() if isinstance(value, torch.Tensor)]
    assert tensors and all(value.device.type == "cpu" for value in tensors)
    assert save_networks.__doc__


@pytest.mark.parametrize("wanted", [True, False])
def test_parameters_and_multiply_adds_are_said_once_and_can_be_silenced(short_run, caplog, wanted):
    caplog.set_level("INFO")
    assert train.main(short_run("--max_steps", 1, "--profile", wanted)) == 0
    told = [text for text in caplog.messages if "multiply-adds" in text]
    assert len(told) == wanted
    assert not wanted or "parameters: 2.148 M" in told[0]
