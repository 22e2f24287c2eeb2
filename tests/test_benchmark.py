"""benchmark.py: what it writes, what it says, and that plain and fast versions do the same thing."""

import json

import numpy as np
import pytest

from benchmark import __main__ as benchmark
from benchmark import parts, timing


def test_a_tiny_run_prints_a_table_and_writes_numbers_and_picture(tmp_path, capsys):
    words = ["--parts", "cost", "ground_truth", "--rounds", "2", "--no_cuda", "--out", str(tmp_path)]
    assert benchmark.main(words) == 0
    printed = capsys.readouterr().out
    assert "| ground truth | one scan | fast |" in printed and "lite-mono-8m 1024x320" in printed
    written = json.loads((tmp_path / "benchmark.json").read_text())
    assert written["rounds"] == 2 and written["machine"]["torch"]
    fast = next(row for row in written["rows"] if row["version"] == "fast")
    assert fast["low"] <= fast["median"] <= fast["high"] and fast["gain"] > 0
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")


def test_what_grows_with_the_work_is_told():
    settings = benchmark.Settings(True, 1, 1, 1, "lite-mono-tiny", True, False, ())
    found = {(row.what, row.unit): row.median for row in parts.growth(settings)}
    assert found["data set and cache table, 10000 lines", "MB"] < 10
    assert found["scoring 100 images", "MB"] < found["scoring 10 images", "MB"] + 5


def test_a_worker_takes_steps_and_tells_their_cost():
    from benchmark.worker import Worker

    with Worker("benchmark.training_step", "fast", ("lite-mono-tiny", 1, 64, 96, True)) as worker:
        seconds = [worker.run() for _ in range(2)]
    assert [answer["seconds"] for answer in worker.answers] == seconds
    assert all(answer["peak_gb"] > 0.1 and answer["cpu_seconds"] > 0 for answer in worker.answers)


@pytest.mark.parametrize("part", ["loader", "inference"])
def test_parts_measure_every_version(part):
    passes = (("lite-mono-tiny", (64, 96), 1),)
    settings = benchmark.Settings(True, 1, 1, 1, "lite-mono-tiny", True, False, passes)
    found = parts.PARTS[part](settings)
    assert {row.version for row in found} >= {"plain"} and all(row.median > 0 for row in found)
    assert [row.gain is None for row in found] == [row.version == "plain" for row in found]


def test_steps_of_every_version_start_with_the_same_loss():
    from benchmark.training_step import make

    losses = [make(version, "lite-mono-tiny", 1, 64, 96, True)[0]() for version in ("plain", "fast")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # drop path draws by itself, the noise is tiny


def test_quick_measures_less():
    assert len(benchmark.forward_passes(quick=True)) < len(benchmark.forward_passes(quick=False)) == 12


def test_an_unknown_part_is_one_line(capsys):
    assert benchmark.main(["--parts", "coffee"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "coffee" in error and error.count("\n") == 1


def test_versions_run_in_turn_after_a_warm_up():
    order = []
    seconds = timing.in_turn({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert "".join(order) == "ababab" and [len(each) for each in seconds.values()] == [2, 2]


def test_gain_is_against_the_first_version():
    slow, fast = timing.rows("p", "w", "ms", {"plain": [2.0, 4.0, 6.0], "fast": [1.0, 2.0, 3.0]}, per=1000)
    assert slow.gain is None and slow.median == 4000 and fast.gain == 2
    slow, fast = timing.rows("p", "w", "items/s", {"plain": [2.0], "fast": [1.0]}, rate=8)
    assert (slow.median, fast.median, fast.gain) == (4, 8, 2)


def test_plain_projection_equals_the_fast_one():
    from benchmark.plain.ground_truth import depth_map
    from kitti_utils import project_points

    points = np.random.default_rng(0).uniform((-2, -9, -4, 1), (12, 9, 4, 1), (3000, 4)).astype(np.float32)
    P = np.array([[20, 0, 30, 1], [0, 20, 10, 0], [0, 0, 1, 0]]) @ np.array(
        [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -0.3], [0, 0, 0, 1.0]]
    )
    fast = project_points(points[points[:, 0] >= 0], P, 20, 60, vel_depth=True)
    np.testing.assert_array_equal(depth_map(points, P, 20, 60).astype(np.float32), fast)


def test_plain_and_fast_read_the_same_scan_alike(tmp_path):
    from benchmark import projection

    projection.write_scan(tmp_path)
    plain, fast = (projection.make(version, str(tmp_path))[0]() for version in projection.VERSIONS)
    assert (plain > 0).sum() > 5000
    np.testing.assert_array_equal(plain.astype(np.float32), fast)


def test_exported_versions_give_what_torch_gives(tmp_path):
    from benchmark import exported
    from exporting import checks
    from exporting.network import Form

    network, form = exported.networks("lite-mono-tiny", 64, 96), Form((64, 96))
    pixels = np.random.default_rng(0).integers(0, 255, (2, 64, 96, 3), dtype=np.uint8)
    sizes = exported.write_models(str(tmp_path), network, pixels)
    assert sizes["int8"] < sizes["float16"] < sizes["float32"]
    image = checks.as_input(form, pixels[0])
    wanted = checks.expected(network, form, image)
    for version in exported.VERSIONS:
        found = exported.predictor(version, network, str(tmp_path), 1)(image.numpy())
        exact = version in ("plain", "folded") or version.endswith("float32")
        np.testing.assert_allclose(found, wanted, rtol=1e-4 if exact else 0.05, err_msg=version)
