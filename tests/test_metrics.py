"""The metrics and the per-image protocol, against hand-computed values and the published code's figures."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from evaluation import metrics
from evaluation.metrics import Protocol, compute_errors, evaluate_image, evaluate_images
from inference.post_processing import batch_post_process_disparity
from tests.reference.seeded_weights import image

REFERENCE = Path(__file__).parent / "reference"
REFERENCE_RTOL = 1e-6


@pytest.fixture(scope="module")
def real_ground_truth(published_reference):
    """Depth maps of the five reference frames."""
    maps = []
    with np.load(published_reference / "ground_truth.npz") as stored:
        for i in range(5):
            shape, index, depth = (stored[f"velodyne_depth_{i}_{name}"] for name in ("shape", "index", "depth"))
            maps.append(np.zeros(shape, np.float32))
            maps[-1].ravel()[index] = depth
    return maps


def made_up_ground_truth():
    """A sparse depth map of KITTI's size."""
    rng = np.random.default_rng(5)
    depth = rng.uniform(3, 70, (375, 1242))
    return np.where(rng.random(depth.shape) < 0.05, depth, 0).astype(np.float32)


def reference_disparities():
    return image(21, (5, 1, 192, 640))[:, 0] ** 2 * 0.3 + 0.01


@pytest.mark.parametrize(
    "key, protocol",
    [
        ("metrics", Protocol()),
        ("metrics_no_median_scaling", Protocol(alignment="none", scale_factor=metrics.STEREO_SCALE)),
    ],
)
def test_five_real_frames_score_as_in_the_published_code(key, protocol, real_ground_truth):
    results = list(evaluate_images(real_ground_truth, reference_disparities(), protocol))
    with np.load(REFERENCE / "evaluation.npz") as stored:
        np.testing.assert_allclose([result.errors for result in results], stored[key], rtol=REFERENCE_RTOL)
        np.testing.assert_allclose(metrics.mean_errors(results), stored[key].mean(axis=0), rtol=REFERENCE_RTOL)


@pytest.mark.parametrize("key, flags", [("metrics", ["--eval_mono"]), ("metrics_no_median_scaling", ["--eval_stereo"])])
def test_the_command_gives_the_published_figures(key, flags, real_ground_truth, tmp_path):
    import json

    import evaluate_depth
    from system.files import write_npz

    (tmp_path / "five").mkdir()
    (tmp_path / "five" / "test_files.txt").write_text("".join(f"2011_09_26/drive {frame} l\n" for frame in range(5)))
    stored = {f"depth_{index:05d}": depth for index, depth in enumerate(real_ground_truth)}
    write_npz(tmp_path / "five" / "gt_depths.npz", **stored)
    np.save(tmp_path / "d.npy", reference_disparities())
    arguments = ["--ext_disp_to_eval", tmp_path / "d.npy", "--eval_split", tmp_path / "five", *flags]
    assert evaluate_depth.main(list(map(str, [*arguments, "--json", tmp_path / "s.json", "--statistics"]))) == 0
    found = json.loads((tmp_path / "s.json").read_text())["metrics"]
    with np.load(REFERENCE / "evaluation.npz") as stored:
        np.testing.assert_allclose(list(found.values()), stored[key].mean(axis=0), rtol=REFERENCE_RTOL)


def test_post_processing_is_the_published_blend():
    merged = batch_post_process_disparity(image(22, (2, 1, 192, 640))[:, 0], image(23, (2, 1, 192, 640))[:, 0])
    with np.load(REFERENCE / "post_process.npz") as stored:
        np.testing.assert_allclose(merged[:, ::4, ::4], stored["merged"], rtol=REFERENCE_RTOL)


def test_post_processing_takes_each_border_from_the_mirrored_view_of_it():
    left, right = np.full((1, 2, 101), 1.0), np.full((1, 2, 101), 3.0)
    merged = batch_post_process_disparity(left, right)
    np.testing.assert_allclose(merged[0, 0, [0, 50, 100]], [3, 2, 1])


def test_equal_depths_have_no_error():
    depth = np.linspace(1, 70, 50, dtype=np.float32)
    assert compute_errors(depth, depth) == (0, 0, 0, 0, 1, 1, 1)


def test_errors_of_two_pixels_by_hand():
    errors = compute_errors(np.array([2.0, 10.0]), np.array([4.0, 9.0]))
    expected = [
        (1 + 0.1) / 2,
        (2 + 0.1) / 2,
        np.sqrt((4 + 1) / 2),
        np.sqrt((np.log(2) ** 2 + np.log(10 / 9) ** 2) / 2),
        0.5,
        0.5,
        0.5,
    ]
    np.testing.assert_allclose(errors, expected, rtol=1e-12)


def test_accuracy_counts_ratios_strictly_below_the_threshold():
    assert compute_errors(np.array([1.0]), np.array([1.25]))[4:] == (0, 1, 1)


def test_garg_window_of_a_kitti_frame():
    assert metrics.garg_window(375, 1242) == (153, 371, 44, 1197)


def test_pixels_outside_the_crop_count_only_without_it():
    gt = np.zeros((375, 1242), np.float32)
    gt[152, 100], gt[153, 100] = 5, 10  # one row above the crop, its first row
    disparity = np.full((192, 640), 0.1, np.float32)
    cropped = evaluate_image(gt, disparity, Protocol(alignment="none"))
    whole = evaluate_image(gt, disparity, Protocol(garg_crop=False, alignment="none"))
    assert (cropped.pixels, whole.pixels) == (1, 2)
    assert cropped.errors[0] == pytest.approx(0, abs=1e-6)
    assert whole.errors[0] == pytest.approx(0.5, abs=1e-6)


def test_improved_maps_count_every_known_pixel():
    gt = np.zeros((375, 1242), np.float32)
    gt[0, 0], gt[200, 600], gt[374, 1241] = 5, 95, 1e-4
    disparity = np.full((192, 640), 0.1, np.float32)
    assert evaluate_image(gt, disparity, Protocol.for_improved_maps()).pixels == 3
    assert evaluate_image(gt, disparity, Protocol()).pixels == 0


def test_median_scaling_forgives_any_scale():
    gt = made_up_ground_truth()
    disparity = reference_disparities()[0]
    one, other = (evaluate_image(gt, disparity * scale, Protocol()) for scale in (1, 8))
    np.testing.assert_allclose(one.errors, other.errors, rtol=1e-5)
    assert other.ratio == pytest.approx(8 * one.ratio)


def test_alignments_by_hand():
    truth, depth = np.array([1.0, 2.0, 4.0]), np.array([1.0, 4.0, 2.0])
    np.testing.assert_allclose(metrics.aligned(truth, depth, "none"), depth)
    np.testing.assert_allclose(metrics.aligned(truth, depth, "median"), depth)  # both medians are 2
    np.testing.assert_allclose(metrics.aligned(truth, depth, "scale"), depth * 17 / 21)  # (1 + 8 + 8) / (1 + 16 + 4)
    exact = 1 / (0.5 / truth + 0.1)
    np.testing.assert_allclose(metrics.aligned(truth, exact, "scale_shift"), truth)
    # least squares by another road: a line through (1/depth, 1/truth)
    slope, offset = np.polyfit(1 / depth, 1 / truth, 1)
    np.testing.assert_allclose(metrics.aligned(truth, depth, "scale_shift"), 1 / (slope / depth + offset))
    np.testing.assert_allclose(metrics.aligned(truth, np.ones(3), "scale_shift"), 3 / (1 + 0.5 + 0.25))


def test_predictions_are_clamped_to_the_range():
    gt = np.full((375, 1242), 40, np.float32)
    far = evaluate_image(gt, np.full((4, 4), 1e-6, np.float32), Protocol(alignment="none"))
    near = evaluate_image(gt, np.full((4, 4), 1e6, np.float32), Protocol(alignment="none"))
    assert far.errors[0] == pytest.approx(1)
    assert near.errors[0] == pytest.approx((40 - 1e-3) / 40)


def test_an_image_without_ground_truth_is_left_out_of_the_means():
    empty = np.zeros((375, 1242), np.float32)
    full = made_up_ground_truth()
    disparity = reference_disparities()[0]
    results = list(evaluate_images([empty, full], [disparity, disparity], Protocol()))
    assert results[0].pixels == 0 and np.isnan(results[0].errors).all()
    np.testing.assert_array_equal(metrics.mean_errors(results), results[1].errors)
    assert metrics.ratio_statistics(results) == (results[1].ratio, 0)


def test_without_any_ground_truth_the_means_are_not_numbers():
    results = [evaluate_image(np.zeros((37, 124), np.float32), np.ones((4, 4), np.float32), Protocol())]
    assert np.isnan(metrics.mean_errors(results)).all() and np.isnan(metrics.ratio_statistics(results)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0, -1])
def test_a_broken_disparity_names_its_image(bad):
    gt = np.full((20, 40), 5, np.float32)
    good = np.ones((20, 40), np.float32)
    with pytest.raises(ValueError, match="image 1: the disparity is not finite and positive"):
        list(evaluate_images([gt, gt], [good, np.full_like(good, bad)], Protocol()))


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_keep_their_order_whatever_the_number_of_threads(workers):
    gts = [np.full((20, 40), depth, np.float32) for depth in range(1, 31)]
    ones = (np.ones((20, 40), np.float32) for _ in gts)
    ratios = [result.ratio for result in evaluate_images(gts, ones, Protocol(), workers)]
    np.testing.assert_allclose(ratios, range(1, 31))


def test_memory_does_not_grow_with_the_number_of_images():
    class Endless:
        def __getitem__(self, index):
            return np.full((375, 1242), 5, np.float32)

    def peak(count):
        disparities = (np.ones((192, 640), np.float32) for _ in range(count))
        tracemalloc.start()
        list(evaluate_images(Endless(), disparities, Protocol(), workers=2))
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    assert peak(60) < 1.3 * peak(15)
