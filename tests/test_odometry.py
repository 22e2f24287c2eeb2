"""Odometry: errors against slow definitions and the package evo, networks against the training's own forward pass."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import evaluate_pose
from datasets import trajectories
from evaluation import odometry
from tests.conftest import ROOT
from tests.short_runs import one_line, options


def rotation(axis, angle):
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def drive(frames=400, seed=0, step=1.1, shake=0.0):
    """A winding trajectory, its step from frame to frame disturbed by `shake` radians and metres."""
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    for index in range(1, frames):
        motion = np.eye(4)
        turn = 0.02 * np.sin(index / 30) + shake * rng.normal()
        motion[:3, :3] = rotation((0.1, 1, 0.05 * np.sin(index)), turn)
        motion[:3, 3] = 0.02 * np.sin(index / 7), 0.01 * np.cos(index / 5), step + shake * rng.normal()
        poses[index] = poses[index - 1] @ motion
    return poses


@pytest.fixture(scope="module")
def pair():
    """(true, predicted): the prediction drifts, has its own scale and its own first camera."""
    predicted = drive(seed=1, shake=0.01)
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = rotation((1, 2, 3), 0.7), (5, 6, 7)
    predicted[:, :3, 3] *= 0.31
    return drive(), moved @ predicted


def pose_file(path, poses):
    trajectories.write_poses(path, poses)
    return str(path)


# ------------------------------------------------------------------------------------------------ the errors


def test_snippets_by_the_definition(pair):
    truth, predicted = pair
    count = len(truth)
    expected = []
    for start in range(count - 1):
        points = []
        for poses in pair:
            here, xyz = np.eye(4), [np.zeros(3)]
            for frame in range(start, min(start + 4, count - 1)):
                here = here @ np.linalg.inv(np.linalg.inv(poses[frame]) @ poses[frame + 1])
                xyz.append(here[:3, 3])
            points.append(np.array(xyz))
        g, p = points
        s = (g * p).sum() / (p * p).sum()
        expected.append(np.sqrt(((s * p - g) ** 2).sum()) / len(g))
    errors = odometry.errors(truth, predicted)
    assert errors["ate_5_mean"] == pytest.approx(np.mean(expected), rel=1e-9)
    assert errors["ate_5_std"] == pytest.approx(np.std(expected), rel=1e-9)


def test_a_snippet_worked_out_by_hand():
    straight = np.tile(np.eye(4), (2, 1, 1))
    straight[:, 2, 3] = 1.0  # one metre a step: points (0, 0, 0), (0, 0, 1), (0, 0, 2)
    aside = straight.copy()
    aside[1, 0, 3] = 1.0  # points (0, 0, 0), (0, 0, 1), (1, 0, 2)
    # s = 5 / 5 = 1, and 1 / 1 = 1 for the last step alone: what is left is the metre aside, over three and two points
    assert odometry.snippet_errors(aside, straight) == pytest.approx([1 / 3, 1 / 2])


def test_a_prediction_that_stands_still_has_finite_errors(pair):
    still = np.tile(np.eye(4), (len(pair[0]), 1, 1))
    errors = odometry.errors(pair[0], still)
    assert all(np.isfinite(value) for value in errors.values())
    assert errors["t_rel"] > 90 and errors["sim3_scale"] == 0


def test_segments_by_the_definition(pair):
    truth, predicted = pair[0], pair[1].copy()
    predicted[:, :3, 3] /= 0.31
    way = [0.0]
    for frame in range(1, len(truth)):
        way.append(way[-1] + np.linalg.norm(truth[frame, :3, 3] - truth[frame - 1, :3, 3]))
    moved, turned = [], []
    for first in range(0, len(truth), 10):
        for length in range(100, 801, 100):
            last = next((frame for frame in range(first, len(truth)) if way[frame] > way[first] + length), None)
            if last is None:
                continue
            relative = [np.linalg.inv(poses[first]) @ poses[last] for poses in (truth, predicted)]
            left = np.linalg.inv(relative[1]) @ relative[0]
            moved.append(np.linalg.norm(left[:3, 3]) / length)
            turned.append(np.arccos(np.clip((np.trace(left[:3, :3]) - 1) / 2, -1, 1)) / length)
    errors = odometry.errors(truth, predicted, scaled=False)
    assert len(moved) > 50
    assert errors["t_rel"] == pytest.approx(100 * np.mean(moved), rel=1e-9)
    assert errors["r_rel"] == pytest.approx(100 * np.degrees(np.mean(turned)), rel=1e-6)


def test_monocular_errors_do_not_depend_on_scale_and_world(pair):
    truth, predicted = pair
    turned = np.eye(4)
    turned[:3, :3] = rotation((0, 1, 1), 1.2)
    other = turned @ predicted
    other[:, :3, 3] *= 7.0
    first, second = odometry.errors(truth, predicted), odometry.errors(truth, other)
    assert first["sim3_scale"] == pytest.approx(7 * second["sim3_scale"])
    for name in ("ate_5_mean", "ate_5_std", "ate_sim3_rmse", "t_rel", "r_rel", "rpe_trans", "rpe_rot"):
        assert first[name] == pytest.approx(second[name], rel=1e-7), name


def test_a_short_way_has_no_segment(pair):
    errors = odometry.errors(pair[0][:50], pair[1][:50])
    assert errors["t_rel"] is None and errors["r_rel"] is None
    assert odometry.errors(pair[0][:50], pair[1][:50], lengths=(20,))["t_rel"] > 0


def test_alignment_keeps_handedness():
    """A mirrored prediction is not mirrored back: Umeyama's sign."""
    truth = drive(60)[:, :3, 3] + np.sin(np.arange(60))[:, None] * (3, 0, 0)
    truth[:, 1] += np.cos(np.arange(60) / 3)
    found = odometry.align(truth, truth * (-1, 1, 1))
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    moved = found.scale * truth * (-1, 1, 1) @ found.rotation.T + found.translation
    assert odometry.root_mean_square(moved - truth) > 0.1


def test_agreement_with_evo(pair):
    metrics = pytest.importorskip("evo.core.metrics", reason="evo is not installed (requirements-dev.txt)")
    from evo.core.trajectory import PosePath3D

    truth, predicted = pair
    errors = odometry.errors(truth, predicted)
    reference, estimate = PosePath3D(poses_se3=list(truth)), PosePath3D(poses_se3=list(predicted))
    _, _, scale = estimate.align(reference, correct_scale=True)
    assert errors["sim3_scale"] == pytest.approx(scale, rel=1e-9)
    ate = metrics.APE(metrics.PoseRelation.translation_part)
    ate.process_data((reference, estimate))
    assert errors["ate_sim3_rmse"] == pytest.approx(ate.get_statistic(metrics.StatisticsType.rmse), rel=1e-9)
    for name, relation in (("rpe_trans", "translation_part"), ("rpe_rot", "rotation_angle_deg")):
        rpe = metrics.RPE(metrics.PoseRelation[relation], delta=1, delta_unit=metrics.Unit.frames)
        rpe.process_data((reference, estimate))
        assert errors[name] == pytest.approx(rpe.get_statistic(metrics.StatisticsType.rmse), rel=1e-6), name


# ------------------------------------------------------------------------------------------------ pose files


def test_motions_and_trajectory_are_inverse_to_each_other(pair):
    poses = pair[1]
    again = trajectories.accumulate(trajectories.motions_of(poses))
    np.testing.assert_allclose(again, np.linalg.inv(poses[0]) @ poses, atol=1e-9)
    np.testing.assert_allclose(trajectories.inverse(poses) @ poses, np.tile(np.eye(4), (len(poses), 1, 1)), atol=1e-9)


def test_pose_files_read_back_as_they_were_written(pair, tmp_path):
    path = pose_file(tmp_path / "poses.txt", pair[1])
    np.testing.assert_allclose(trajectories.read_poses(path), pair[1], rtol=1e-8, atol=1e-8)


def test_stored_motions_stand_for_their_trajectory(pair, tmp_path):
    np.save(tmp_path / "poses.npy", trajectories.motions_of(pair[1]).astype(np.float32))
    assert evaluate_pose.main(["--ext_poses", str(tmp_path / "poses.npy"), "--json", str(tmp_path / "npy.json"),
                               "--gt_poses", pose_file(tmp_path / "true.txt", pair[0])]) == 0  # fmt: skip
    stored = json.loads((tmp_path / "npy.json").read_text())
    assert stored["ate_5_mean"] == pytest.approx(odometry.errors(*pair)["ate_5_mean"], rel=1e-4)


BROKEN = {
    "eleven numbers": "1 0 0 0 0 1 0 0 0 0 1\n",
    "words": "1 0 0 x 0 1 0 0 0 0 1 0\n",
    "nan": "1 0 0 nan 0 1 0 0 0 0 1 0\n",
    "a stretched rotation": "2 0 0 0 0 2 0 0 0 0 2 0\n",
    "a mirror": "-1 0 0 0 0 1 0 0 0 0 1 0\n",
    "farther than any road": "1 0 0 0 0 1 0 0 0 0 1 1e200\n",
    "one pose": "",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_pose_file_is_one_line(kind, pair, tmp_path, capsys):
    path = tmp_path / "broken.txt"
    path.write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" + BROKEN[kind])
    truth = pose_file(tmp_path / "true.txt", pair[0])
    assert evaluate_pose.main(["--ext_poses", str(path), "--gt_poses", truth]) == 2
    assert str(path) in one_line(capsys)


# ------------------------------------------------------------------------------------------------ networks


@pytest.fixture
def frames():
    generator = torch.Generator().manual_seed(3)
    return torch.rand((6, 3, 64, 96), generator=generator)


def trained(folder, *more):
    """Write the weights of seeded training networks; returns the `DepthAndMotion` that they belong to."""
    from checkpointing.folders import save_networks
    from system.files import write_json
    from training.model import DepthAndMotion

    torch.manual_seed(5)
    opt = options("--model", "lite-mono-tiny", "--height", 64, "--width", 96, "--weights_init", "scratch", *more)
    model = DepthAndMotion(opt)
    with torch.no_grad():  # motions of a visible size, BatchNorm with a past
        for network in model.networks.values():
            for name, value in network.state_dict().items():
                if name.endswith("running_var"):
                    value.uniform_(0.5, 1.5)
        last = model.networks["pose"].net[-1] if hasattr(model.networks["pose"], "net") else None
        getattr(model.networks["pose"], "pose_conv", last).bias.uniform_(-5, 5)
    model.eval()
    folder.mkdir(parents=True)
    save_networks(folder, dict(model.networks), 64, 96, False, model.networks["encoder"].dilations)
    write_json(folder.parent / "opt.json", vars(opt))
    return model


KINDS = {
    "separate": ("--pose_model_type", "separate_resnet"),
    "separate, 34 layers": ("--pose_model_type", "separate_resnet", "--num_layers", 34),
    "separate, all": ("--pose_model_type", "separate_resnet", "--pose_model_input", "all"),
    "shared": ("--pose_model_type", "shared"),
    "shared, all": ("--pose_model_type", "shared", "--pose_model_input", "all"),
    "posecnn": ("--pose_model_type", "posecnn"),
    "posecnn, all": ("--pose_model_type", "posecnn", "--pose_model_input", "all"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_network_predicts_as_in_training(kind, frames, tmp_path):
    from inference.motion import MotionPredictor
    from layers import transformation_from_parameters

    model = trained(tmp_path / "models" / "weights_0", *KINDS[kind])
    predictor = MotionPredictor(tmp_path / "models" / "weights_0")
    assert predictor.networks.kind == {"separate": "separate_resnet"}.get(kind.split(",")[0], kind.split(",")[0])
    found = list(predictor.motions(iter(frames), len(frames), batch_size=2))
    assert len(found) == len(frames) - 1
    for first in range(len(frames) - 1):
        together = not model.pairs
        # the network of neighbours sees the first motion as the one from its target back to the frame before
        target, source = (1, -1) if together and first == 0 else (first, 1)
        near = {offset: frames[[min(max(target + offset, 0), len(frames) - 1)]] for offset in (0, -1, 1)}
        with torch.no_grad():
            outputs = model({("color_aug", offset, 0): image for offset, image in near.items()})
        translation = outputs["translation", 0, source]
        if kind.startswith("posecnn"):
            translation = translation * (0.01 + 9.99 * outputs["disp", 0]).mean((2, 3))[:, None]
        expected = transformation_from_parameters(outputs["axisangle", 0, source], translation)[0].double().numpy()
        expected = np.linalg.inv(expected) if source < 0 else expected
        assert np.abs(expected[:3, 3]).max() > 1e-3
        np.testing.assert_allclose(found[first], expected, atol=2e-5)


def test_a_folder_without_pose_networks_is_one_line(tmp_path, capsys, synthetic_drive):
    images = next(synthetic_drive.glob("*/*/image_02/data"))
    folder = tmp_path / "models" / "weights_0"
    trained(folder)
    (folder / "pose_encoder.pth").rename(tmp_path / "kept.pth")
    arguments = ["--load_weights_folder", str(folder), "--images", str(images), "--no_cuda"]
    assert evaluate_pose.main(arguments) == 2
    assert "no pose_encoder.pth" in one_line(capsys)
    (folder / "pose.pth").unlink()
    assert evaluate_pose.main(arguments) == 2
    assert "hold no pose network" in one_line(capsys)


def test_the_size_may_be_missing_as_in_published_pose_weights(tmp_path, frames):
    from inference.motion import MotionPredictor

    folder = tmp_path / "models" / "weights_0"
    trained(folder)
    for name in ("encoder.pth", "depth.pth"):
        (folder / name).unlink()
    predictor = MotionPredictor(folder)
    assert (predictor.height, predictor.width) == (192, 640)
    assert MotionPredictor(folder, height=64, width=96).height == 64


# ------------------------------------------------------------------------------------------------ the command


def test_the_command_on_a_folder_of_images(tmp_path, capsys, synthetic_drive):
    drive_folder = next(synthetic_drive.glob("*/*_sync"))
    trained(tmp_path / "models" / "weights_0", "--pose_model_type", "posecnn")
    out = tmp_path / "out"
    arguments = ["--load_weights_folder", tmp_path / "models" / "weights_0", "--images", drive_folder / "image_02/data",
                 "--gt_poses", drive_folder / "poses.txt", "--out_dir", out, "--no_cuda", "--lengths", "1", "2",
                 "--json", tmp_path / "errors.json"]  # fmt: skip
    assert evaluate_pose.main([str(each) for each in arguments]) == 0
    errors = json.loads((tmp_path / "errors.json").read_text())
    assert {"ate_5_mean", "ate_5_std", "ate_sim3_rmse", "t_rel", "r_rel"} <= set(errors)
    assert (out / f"{drive_folder.name}.png").read_bytes()[:4] == b"\x89PNG"
    again = ["--ext_poses", out / f"{drive_folder.name}.txt", "--gt_poses", drive_folder / "poses.txt",
             "--lengths", "1", "2", "--json", tmp_path / "again.json"]  # fmt: skip
    assert evaluate_pose.main([str(each) for each in again]) == 0
    stored = json.loads((tmp_path / "again.json").read_text())
    for name in ("ate_5_mean", "ate_sim3_rmse", "t_rel", "r_rel"):
        assert stored[name] == pytest.approx(errors[name], rel=1e-5), name


def test_the_command_on_real_frames(kitti_sample, tmp_path):
    trained(tmp_path / "models" / "weights_0", "--pose_model_type", "posecnn")
    ended = command("--load_weights_folder", tmp_path / "models" / "weights_0", "--sequences", "04", "--no_cuda",
                    "--data_path", kitti_sample / "kitti_odom", "--json", tmp_path / "errors.json")  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    errors = json.loads((tmp_path / "errors.json").read_text())
    assert errors["frames"] == 51 and errors["t_rel"] is None
    assert errors["straight_line"]["ate_sim3_rmse"] < 1  # sequence 04 hardly turns


def command(*arguments):
    words = [sys.executable, "evaluate_pose.py", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120)


@pytest.mark.parametrize("arguments, named", [
    ((), "--ext_poses"),
    (("--ext_poses", "nowhere.txt"), "--gt_poses"),
    (("--ext_poses", "nowhere.txt", "--gt_poses", "nowhere.txt"), "nowhere.txt"),
    (("--load_weights_folder", "nowhere", "--data_path", "nowhere"), "nowhere"),
    (("--load_weights_folder", "nowhere", "--sequences", "22"), "22"),
    (("--load_weights_folder", "nowhere", "--height", "33"), "--height 33"),
    (("--load_weights_folder", "nowhere", "--width", "32000000"), "--width 32000000"),
    (("--ext_poses", "a.txt", "--gt_poses", "b.txt", "--json", "."), "--json ."),
    (("--ext_poses", "a.txt", "--gt_poses", "b.txt", "--lengths", "0"), "'0'"),
])  # fmt: skip
def test_mistakes_are_one_line(arguments, named, capsys):
    assert evaluate_pose.main([str(each) for each in arguments]) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert not said.out and len(lines) == 1 and lines[0].startswith("error: ") and named in lines[0], said.err


def test_files_of_different_length_end_the_process_with_one_line(pair, tmp_path):
    ended = command("--ext_poses", pose_file(tmp_path / "a.txt", pair[0][:9]),
                    "--gt_poses", pose_file(tmp_path / "b.txt", pair[0]))  # fmt: skip
    assert ended.returncode == 2 and "differ in length" in ended.stderr and len(ended.stderr.splitlines()) == 1
