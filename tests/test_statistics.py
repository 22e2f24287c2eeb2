"""Intervals, paired comparison and bands, against closed forms and slow, obvious sums."""

import json

import numpy as np
import pytest

from evaluation import statistics
from evaluation.metrics import ImageResult, Protocol, evaluate_image, evaluate_images


def result(abs_rel, pixels=5):
    return ImageResult((abs_rel, *[0.0] * 6), 1.0, pixels)


def test_the_interval_of_a_mean_is_that_of_the_central_limit():
    values = np.random.default_rng(3).normal(2, 0.5, 400)
    low, high = statistics.bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    np.testing.assert_allclose((low, high), (values.mean() - half, values.mean() + half), atol=0.1 * half)
    assert (low, high) == statistics.bootstrap_interval(values)  # the same images are drawn again
    assert statistics.bootstrap_interval(np.ones((4, 3)))[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("lower, higher, p", [(0, 0, 1), (5, 5, 1), (0, 3, 2 / 8), (1, 4, 12 / 32), (10, 0, 2 / 1024)])
def test_the_sign_test_by_hand(lower, higher, p):
    assert statistics.sign_test(lower, higher) == pytest.approx(p)


def test_the_sign_test_is_scipys_binomial_test():
    from scipy.stats import binomtest

    for lower, higher in ((3, 17), (250, 300), (697, 0)):
        expected = binomtest(lower, lower + higher).pvalue
        assert statistics.sign_test(lower, higher) == pytest.approx(expected, rel=1e-9)


def test_a_comparison_pairs_images():
    first = [result(value) for value in (0.1, 0.2, 0.3, 0.4)] + [result(np.nan, 0)]
    second = [result(value) for value in (0.2, 0.1, 0.3, 0.3)] + [result(0.5)]
    found = statistics.compare(first, second)
    assert found.difference == pytest.approx(-0.025) and found.low <= found.difference <= found.high
    assert (found.lower, found.higher, found.equal) == (2, 1, 1)
    assert found.p_value == 1
    same = statistics.compare(first, first)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_edges_are_where_known_depths_near_by_differ():
    gt = np.zeros((30, 40), np.float32)
    gt[::2, :20], gt[::2, 20:] = 10, 20
    edges = statistics.near_edges(gt)
    assert edges[10, 16:24].all() and not edges[10, :16].any() and not edges[10, 24:].any()
    assert not statistics.near_edges(np.where(gt > 0, np.float32(10), 0)).any()
    assert not statistics.near_edges(np.zeros((30, 40), np.float32)).any()


def test_bands_are_what_slow_loops_find():
    rng = np.random.default_rng(1)
    gts = [np.where(rng.random((37, 124)) < 0.2, rng.uniform(1, 79, (37, 124)), 0).astype(np.float32) for _ in range(3)]
    disparities = [rng.uniform(0.02, 0.3, (37, 124)).astype(np.float32) for _ in gts]
    protocol = Protocol(alignment="none")
    results = list(evaluate_images(gts, disparities, protocol, with_bands=True))
    found = statistics.bands(results)
    sums = {name: [0, 0.0, 0.0] for name in statistics.BANDS}
    top, bottom, left, right = 15, 36, 4, 119
    for gt, disparity in zip(gts, disparities, strict=True):
        for y in range(top, bottom):
            for x in range(left, right):
                if not 1e-3 < gt[y, x] < 80:
                    continue
                error = float(np.clip(1 / disparity[y, x], 1e-3, 80)) - float(gt[y, x])
                near = gt[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5]
                near = near[near > 0]
                bands = [next(f"{a}-{b} m" for a, b in ((0, 10), (10, 20), (20, 40), (40, 80)) if a < gt[y, x] <= b)]
                bands += [f"rows {y * 4 // 37 + 1}/4"]
                bands += ["near depth edges" if near.max() > 1.25 * near.min() else "away from edges"]
                for band in bands:
                    sums[band] = [sums[band][0] + 1, sums[band][1] + abs(error) / gt[y, x], sums[band][2] + error**2]
    for name, (pixels, relative, squared) in sums.items():
        assert found[name][0] == pixels
        if pixels:
            np.testing.assert_allclose(found[name][1:], (relative / pixels, np.sqrt(squared / pixels)), rtol=1e-5)


def test_depth_beyond_the_last_border_is_in_no_band_of_distance():
    gt, where = np.array([[90, 80, 10.5]], np.float32), np.arange(3)
    sums = statistics.band_sums(gt, where, np.array([90, 80, 10.5]))
    assert sums[:4, 0].tolist() == [0, 1, 0, 1] and sums[4:8, 0].sum() == sums[8:, 0].sum() == 3


def test_bands_change_no_metric_and_are_made_on_request_alone():
    gt, disparity = np.full((37, 124), 5, np.float32), np.full((4, 4), 0.1, np.float32)
    plain, banded = (evaluate_image(gt, disparity, Protocol(), with_bands=each) for each in (False, True))
    assert plain.bands is None and plain[:3] == banded[:3]
    assert banded.bands[:4, 0].sum() == plain.pixels


def test_the_command_tells_and_writes_them(tmp_path, capsys):
    import evaluate_depth
    from tests.seeded_folders import write_drive, write_test_list, write_weights

    data, split = write_drive(tmp_path / "kitti"), write_test_list(tmp_path / "three")

    def flatten(_, decoder):
        decoder.decoder[6].conv.weight.data.mul_(0)

    one, other = write_weights(tmp_path / "one"), write_weights(tmp_path / "other", change=flatten)
    flags = ["--load_weights_folder", one, other, "--data_path", data, "--eval_split", split, "--device", "cpu"]
    assert evaluate_depth.main([str(each) for each in (*flags, "--statistics", "--json", tmp_path / "s.json")]) == 0
    said = capsys.readouterr().out
    assert "95% interval over images" in said and "abs_rel against one: " in said and "near depth edges" in said
    first, second = json.loads((tmp_path / "s.json").read_text())
    low, high = first["statistics"]["intervals"]["abs_rel"]
    assert low <= first["metrics"]["abs_rel"] <= high
    change = second["metrics"]["abs_rel"] - first["metrics"]["abs_rel"]
    assert second["statistics"]["against"]["difference"] == pytest.approx(change)
