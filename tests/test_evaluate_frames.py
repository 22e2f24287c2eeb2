"""evaluate_depth.py on folders of images and depth maps, and by named protocol; weights in metres; mistakes."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import evaluate_depth
from checkpointing.metric_scale import MetricScale, write_metric_scale
from datasets.images import planes
from evaluation import PROTOCOLS, frames
from evaluation.metrics import Protocol, compute_errors
from layers import disp_to_depth
from system.errors import UserError
from tests.seeded_folders import HEIGHT, WIDTH, picture, seeded_networks

SIZE = 50, 80  # of images and depth maps
UNIT = 17.5


@pytest.fixture
def data(tmp_path):
    """Two sequences: a PNG and an array of depth in one, an image without a map and a smaller map in the other."""
    rng = np.random.default_rng(3)
    root = tmp_path / "rooms"
    for sequence, number in (("town/a", 0), ("town/a", 7), ("b", 1), ("b", 2)):
        (root / sequence / "frames").mkdir(parents=True, exist_ok=True)
        (root / sequence / "depth").mkdir(exist_ok=True)
        shifted = np.roll(picture(*SIZE), 9 * number, 1)
        Image.fromarray(shifted).save(root / sequence / "frames" / f"{number:04d}.png")
    depth = rng.uniform(1, 120, SIZE)
    depth[rng.random(SIZE) < 0.5] = 0
    Image.fromarray((depth * 256).astype(np.uint16)).save(root / "town/a/depth/0000.png")
    np.savez(root / "town/a/depth/0007.npz", depth=np.where(depth > 0, depth[::-1, ::-1], np.nan))
    np.savez(root / "b/depth/0002.npz", rng.uniform(2, 9, (25, 40)).astype(np.float32))
    return root


LINES = ("b 2 l", "town/a 0 l", "town/a 7 l")  # sorted by sequence and number


def run(weights, data, *more):
    words = ["--load_weights_folder", weights, "--dataset", "frames", "--data_path", data, "--device", "cpu"]
    return evaluate_depth.main([str(word) for word in (*words, *more)])


def case(data, line):
    """Return (true depth, predicted depth in the network's unit) of a line, both at the true depth's size."""
    sequence, number, _ = line.split()
    home, name = data / sequence, f"{int(number):04d}"
    if (home / "depth" / f"{name}.png").exists():
        truth = np.asarray(Image.open(home / "depth" / f"{name}.png")) / 256
    else:
        content = np.load(home / "depth" / f"{name}.npz")
        truth = np.nan_to_num(content[content.files[0]])
    encoder, decoder = seeded_networks()
    image = planes(Image.open(home / "frames" / f"{name}.png"), HEIGHT, WIDTH) / 255
    with torch.no_grad():
        disparity = disp_to_depth(decoder(encoder(torch.from_numpy(image)[None]))[("disp", 0)], 0.1, 100)[0][0, 0]
    return truth, 1 / cv2.resize(disparity.numpy(), truth.shape[::-1])


# (first, end of rows and columns of the 50 x 80 maps in Garg's crop), nearest and farthest truth, farthest prediction
RULES = {
    "eigen": ((20, 49, 2, 77), 1e-3, 80, 80),
    "eigen_50m": ((20, 49, 2, 77), 1e-3, 50, 50),
    "eigen_benchmark": ((0, 50, 0, 80), 0, np.inf, 80),
    "indoor": ((0, 50, 0, 80), 1e-3, 10, 10),
    "full": ((0, 50, 0, 80), 0, np.inf, 1e4),
}


def expected(data, line, rule):
    (top, bottom, left, right), near, far, limit = RULES[rule]
    truth, depth = case(data, line)
    if truth.shape != SIZE:
        top, bottom, left, right = (10, 24, 1, 38) if top else (0, 25, 0, 40)
    truth, depth = truth[top:bottom, left:right], depth[top:bottom, left:right]
    counts = (truth > near) & (truth < far)
    truth, depth = truth[counts], depth[counts]
    return compute_errors(truth, np.clip(depth * np.median(truth) / np.median(depth), 1e-3, limit))


@pytest.mark.parametrize("rule", [*RULES, None])
def test_pairs_are_found_and_scored_by_each_protocol(weights, data, tmp_path, capsys, rule):
    more = ["--protocol", rule] if rule else []
    assert run(weights, data, "--json", tmp_path / "s.json", *more) == 0
    assert "3 pairs of image and depth map found" in capsys.readouterr().out
    summary = json.loads((tmp_path / "s.json").read_text())
    wanted = np.mean([expected(data, line, rule or "full") for line in LINES], axis=0)
    np.testing.assert_allclose(list(summary["metrics"].values()), wanted, rtol=2e-4)
    assert summary["images"] == 3 and summary["split"] == "rooms"


def test_every_named_protocol_is_tested():
    assert set(RULES) == set(PROTOCOLS)
    with pytest.raises(ValueError, match="the protocol is one of"):
        Protocol.named("eigen_60m")


def test_a_list_counts_what_has_no_map(weights, data, tmp_path, capsys):
    (data / "test_files.txt").write_text("town/a 7 l\nb 1 l\n")
    assert run(weights, data, "--csv", tmp_path / "s.csv", "--report", tmp_path / "page.html") == 0
    assert "1 of 2 images have no ground truth that counts and are left out" in capsys.readouterr().out
    rows = [line.split(",") for line in (tmp_path / "s.csv").read_text().splitlines()]
    assert [row[2:5] for row in rows] == [["folder", "frame", "side"], ["town/a", "7", "l"], ["b", "1", "l"]]
    np.testing.assert_allclose([float(word) for word in rows[1][5:12]], expected(data, "town/a 7 l", "full"), rtol=2e-4)
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/") >= 4 and "not at hand" not in page
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "test_files.txt").write_text("b 2 l\n")
    assert run(weights, data, "--eval_split", tmp_path / "other", "--json", tmp_path / "o.json") == 0
    metrics = json.loads((tmp_path / "o.json").read_text())["metrics"]
    np.testing.assert_allclose(list(metrics.values()), expected(data, "b 2 l", "full"), rtol=2e-4)


def test_images_may_lie_in_the_sequence_itself(data):
    for name in ("0001.png", "0002.png"):
        (data / "b" / "frames" / name).rename(data / "b" / name)
    (data / "b" / "frames").rmdir()
    assert frames.find_pairs(data) == list(LINES)


def test_saved_disparities_evaluate_to_the_same_numbers(weights, data, tmp_path):
    assert run(weights, data, "--save_pred_disps", "--eval_out_dir", tmp_path, "--json", tmp_path / "a.json") == 0
    stored = ["--ext_disp_to_eval", tmp_path / "disps_rooms_split.npy", "--dataset", "frames", "--data_path", data,
              "--json", tmp_path / "b.json"]  # fmt: skip
    assert evaluate_depth.main(list(map(str, stored))) == 0
    first, second = (json.loads((tmp_path / f"{name}.json").read_text())["metrics"] for name in "ab")
    assert first == second


def test_weights_in_metres_are_evaluated_without_scaling(weights, data, tmp_path, capsys):
    flags = ["--metric", "--protocol", "eigen", "--json", tmp_path / "s.json"]
    assert run(weights, data, *flags) == 2
    assert capsys.readouterr().err.startswith("error: these weights have no metric scale; ")
    write_metric_scale(weights, MetricScale(UNIT, 0.1, 4, "a test"))
    try:
        assert run(weights, data, *flags) == 0
        assert "depth in metres: 17.5 to a unit (a test)" in capsys.readouterr().out
    finally:
        (weights / "metric_scale.json").unlink()
    summary = json.loads((tmp_path / "s.json").read_text())
    assert summary["metric_scale"]["factor"] == UNIT and summary["protocol"]["alignment"] == "none"
    wanted = []
    for line in LINES:
        truth, depth = case(data, line)
        rows, columns = (slice(20, 49), slice(2, 77)) if truth.shape == SIZE else (slice(10, 24), slice(1, 38))
        truth, depth = truth[rows, columns], depth[rows, columns]
        counts = (truth > 1e-3) & (truth < 80)
        wanted.append(compute_errors(truth[counts], np.clip(UNIT * depth[counts], 1e-3, 80)))
    np.testing.assert_allclose(list(summary["metrics"].values()), np.mean(wanted, axis=0), rtol=2e-4)


def test_missing_and_damaged_files_are_one_line(weights, data, tmp_path, capsys):
    def refused(*more):
        assert run(weights, *more) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1
        return err

    assert "no pairs of image and depth map" in refused(tmp_path / "nowhere")
    (data / "test_files.txt").write_text("b 1 l\n")
    assert "no image of the list has a depth map" in refused(data)
    (data / "test_files.txt").write_text("town/a 0 l\nb 3 l\n")
    assert "1 of 2 images of the split are missing" in refused(data)
    (data / "test_files.txt").unlink()
    assert "Make3D has a protocol of its own" in refused(data, "--dataset", "make3d", "--protocol", "indoor")
    (data / "b/depth/0002.npz").write_bytes(b"x" * 40)
    assert "a damaged depth map" in refused(data)
    with pytest.raises(UserError, match="malformed split line"):
        (data / "b").rename(data / "b c")
        frames.frames_task(evaluate_depth.LiteMonoOptions("evaluate_depth.py").parse(["--data_path", str(data)]), None)
