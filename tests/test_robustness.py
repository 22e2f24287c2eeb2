"""KITTI-C: scores against the published rows, corruptions against the package, the command with its interruptions."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import evaluate_robustness
from robustness import CORRUPTIONS, HEIGHT, SEVERITIES, WIDTH, images, scores
from robustness.corruptions import blurs, corrupt, image_seed, library, sensor
from tests.conftest import ROOT
from tests.seeded_folders import MODEL, picture, write_drive, write_weights
from tests.short_runs import one_line


def needs_package():
    return pytest.importorskip("imagecorruptions", reason="imagecorruptions-imaug (requirements-robustness.txt)")


# ------------------------------------------------------------------------------------------------ scores


def test_published_per_corruption_figures_give_the_published_scores():
    assert scores.mean_corruption_error(scores.LITE_MONO) == pytest.approx(93.16, abs=0.005)
    assert scores.mean_resilience_rate(scores.LITE_MONO, scores.LITE_MONO_CLEAN) == pytest.approx(85.99, abs=0.005)


def test_the_baseline_scores_100_against_itself():
    assert scores.mean_corruption_error(scores.BASELINE) == pytest.approx(100)
    assert scores.mean_resilience_rate(scores.BASELINE, 0.119) == pytest.approx(84.46, abs=0.05)


def test_severities_are_averaged_before_the_score():
    assert scores.mean_error([(0.1, 0.9), (0.3, 0.5)]) == pytest.approx((0.2 - 0.7 + 1) / 2)


def test_the_table_names_what_it_leaves_out():
    lines = "\n".join(scores.table({"fog": 0.144}, 0.110))
    assert "over these 1 corruptions" in lines and "lite-mono-8m 90.75 / 85.54" in lines


# ------------------------------------------------------------------------------------------------ corruptions


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", [(96, 160), (41, 77), (32, 32)])
def test_zoom_blur_is_the_package_s_to_the_last_bit(severity, size):
    package = needs_package()
    image = picture(*size)
    np.testing.assert_array_equal(blurs.zoom_blur(image, severity), package.corrupt(image, severity, "zoom_blur"))


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("size", [(48, 80), (33, 32)])
def test_glass_blur_is_the_package_s_to_the_last_bit(severity, size, monkeypatch):
    """The package's loop runs as plain Python here: compiling takes ten seconds and gives the same."""
    package = needs_package()
    from imagecorruptions import corruptions

    loop = corruptions._shuffle_pixels_njit_glass_blur
    monkeypatch.setattr(corruptions, "_shuffle_pixels_njit_glass_blur", getattr(loop, "py_func", loop))
    image = picture(*size)
    theirs = package.corrupt(image, severity, "glass_blur", seed=severity + 9)
    np.testing.assert_array_equal(blurs.glass_blur(image, severity, severity + 9), theirs)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_depends_on_its_arguments_alone(name):
    needs_package()
    image = picture(64, 96)
    first = corrupt(image.copy(), name, 3, 11)
    np.random.seed(99)  # what others did with the global generator
    np.random.normal(size=7)
    np.testing.assert_array_equal(first, corrupt(image, name, 3, 11))
    assert first.shape == image.shape and first.dtype == np.uint8
    assert (first != image).any()
    if name.endswith("noise") or name in ("dark", "fog", "frost", "snow", "glass_blur", "motion_blur"):
        assert (first != corrupt(image, name, 3, 12)).any()


@pytest.mark.parametrize("name", sorted({*CORRUPTIONS} - {"snow", "frost", "motion_blur", "glass_blur"}))
def test_severity_grows(name):
    needs_package()
    image = picture(96, 160)
    distances = [np.abs(corrupt(image, name, severity, 5).astype(float) - image).mean() for severity in SEVERITIES]
    assert distances[-1] > distances[0]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_colour_quantisation_keeps_the_upper_bits(severity):
    every = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    kept = sensor.color_quant(every, severity)
    assert len(np.unique(kept)) == 2 ** (6 - severity)
    width = 2 ** (2 + severity)
    np.testing.assert_array_equal(kept, every.astype(int) // width * width)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_sensor_noise_has_the_moments_of_its_definition(severity):
    """Far from black and white: mean kept, variance value / photons + deviation^2 (in units of full brightness)."""
    half = np.full((300, 300, 3), 102, np.uint8)
    deviation = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    iso = sensor.iso_noise(half, severity, 1) / 255
    if severity < 4:  # later ones are clipped at both ends
        assert iso.mean() == pytest.approx(0.4 - 0.5 / 255, abs=0.004)
        assert iso.var() == pytest.approx(0.4 / 25 + (0.7 * deviation) ** 2, rel=0.05)
    ends = np.zeros((300, 300, 3), np.uint8)
    ends[:, :150] = 255
    limit = (0.6, 0.5, 0.4, 0.3, 0.2)[severity - 1]
    bright = sensor.dark(ends, severity, 1)[:, :150] / 255
    photons = 10 * (60, 25, 12, 5, 3)[severity - 1]
    assert bright.mean() == pytest.approx(limit - 0.5 / 255, abs=0.004)
    assert bright.var() == pytest.approx(limit / photons + (0.1 * deviation) ** 2, rel=0.06)


def test_dark_has_gamma_two():
    ramp = np.linspace(0, 255, 256 * 200).reshape(200, 256).astype(np.uint8)[..., None].repeat(3, 2)
    middle = sensor.dark(ramp, 1, 3)[np.abs(ramp.astype(int) - 128) <= 1].mean() / 255
    assert middle == pytest.approx(0.6 * (128 / 255) ** 2, abs=0.005)


def test_image_seeds_differ():
    seeds = {image_seed(s, name, k, i) for s in (0, 1) for name in CORRUPTIONS for k in SEVERITIES for i in range(9)}
    assert len(seeds) == 2 * 18 * 5 * 9 and max(seeds) < 2**32


def test_the_number_of_processes_changes_nothing(tmp_path):
    needs_package()
    drive = write_drive(tmp_path / "kitti")
    sources = sorted(map(str, drive.glob("*/*/image_02/data/*.jpg")))
    jobs = [images.Job(source, name, 2, index, 4) for name in ("fog", "impulse_noise", "frost", "iso_noise")
            for index, source in enumerate(sources)]  # fmt: skip
    alone = list(images.make_all(jobs, 0))
    together = list(images.make_all(jobs, 2))
    assert alone[0].shape == (HEIGHT, WIDTH, 3)
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


# ------------------------------------------------------------------------------------------------ the command


def arguments(weights, tree, *more):
    every = ["--load_weights_folder", weights, "--data_path", tree[0], "--eval_split", tree[1], "--model", MODEL,
             "--no_cuda", "--num_workers", 0, "--severities", 1, 4, "--corruptions", "color_quant", "pixelate",
             *more]  # fmt: skip
    return [str(each) for each in every]


def test_the_command_keeps_its_results_and_goes_on(weights, tree, tmp_path, capsys):
    needs_package()
    whole, parts, cached = (tmp_path / name for name in ("whole.json", "parts.json", "cached.json"))
    assert evaluate_robustness.main(arguments(weights, tree, "--results", whole)) == 0
    printed = capsys.readouterr().out
    assert "mCE %" in printed and "over these 2 corruptions" in printed
    stored = json.loads(whole.read_text())
    assert len(stored["cells"]) == 5 and set(stored["DEE"]) == {"clean", "color_quant", "pixelate"}
    cells = [stored["cells"][f"pixelate/{severity}"] for severity in (1, 4)]
    means = [np.mean([cell[metric] for cell in cells]) for metric in ("abs_rel", "a1")]
    assert stored["DEE"]["pixelate"] == pytest.approx((means[0] - means[1] + 1) / 2)

    assert evaluate_robustness.main(arguments(weights, tree, "--results", parts, "--corruptions", "pixelate")) == 0
    assert evaluate_robustness.main(arguments(weights, tree, "--results", parts, "--cache", tmp_path / "cache")) == 0
    assert "3 of 5 cells are there already" in capsys.readouterr().out
    assert json.loads(parts.read_text()) == stored or _close(json.loads(parts.read_text()), stored)

    for _ in range(2):  # the cache is filled, then read
        assert evaluate_robustness.main(arguments(weights, tree, "--results", cached, "--restart",
                                                  "--cache", tmp_path / "cache")) == 0  # fmt: skip
        assert json.loads(cached.read_text())["cells"] == stored["cells"]
    assert len(list((tmp_path / "cache").rglob("*.png"))) == 2 * 2 * 3


def _close(one, other):
    return one["DEE"] == pytest.approx(other["DEE"]) and one["cells"].keys() == other["cells"].keys()


def test_clean_figures_are_those_of_the_depth_evaluation(weights, tree, tmp_path):
    """With a network of KITTI-C's own size, nothing is resized twice."""
    import evaluate_depth

    own = write_weights(tmp_path / "own", height=HEIGHT, width=WIDTH)
    results, summary = tmp_path / "clean.json", tmp_path / "depth.json"
    assert evaluate_robustness.main(arguments(own, tree, "--results", results, "--corruptions")) == 0
    assert evaluate_depth.main(["--load_weights_folder", str(own), "--data_path", str(tree[0]), "--eval_split",
                                str(tree[1]), "--model", MODEL, "--no_cuda", "--json", str(summary)]) == 0  # fmt: skip
    clean = json.loads(results.read_text())["cells"]["clean"]
    for metric, value in json.loads(summary.read_text())["metrics"].items():
        assert clean[metric] == pytest.approx(value, rel=1e-6), metric


def test_an_interrupted_evaluation_leaves_no_process_and_goes_on(weights, tree, tmp_path):
    needs_package()
    results = tmp_path / "results.json"
    words = [sys.executable, "evaluate_robustness.py", *arguments(weights, tree, "--results", results),
             "--num_workers", "1", "--severities", "1", "2", "3", "4", "5"]  # fmt: skip
    deadline = time.monotonic() + 120
    while True:  # again where, on a busy machine, all was done before the signal came
        results.unlink(missing_ok=True)
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not results.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
        if process.returncode or time.monotonic() > deadline:
            break
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert not _descendants_of(process.pid)
    before = len(json.loads(results.read_text())["cells"])
    assert 1 <= before < 11
    ended = subprocess.run([*words, "--num_workers", "0"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert f"{before} of 11 cells are there already" in ended.stdout


def _descendants_of(pid):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        try:
            with open(f"/proc/{entry}/stat") as file:
                found += [entry] if file.read().rpartition(")")[2].split()[1] == str(pid) else []
        except OSError:
            continue
    return found


# ------------------------------------------------------------------------------------------------ mistakes


def test_another_evaluation_s_results_are_refused(weights, tree, tmp_path, capsys):
    results = tmp_path / "results.json"
    begin = arguments(weights, tree, "--results", results, "--corruptions")  # clean images alone
    assert evaluate_robustness.main(begin) == 0
    capsys.readouterr()
    assert evaluate_robustness.main([*begin, "--seed", "1"]) == 2
    assert "seed 0 there, 1 here" in one_line(capsys)
    results.write_text("{}")
    assert evaluate_robustness.main(begin) == 2
    assert "not a results file" in one_line(capsys)
    assert evaluate_robustness.main([*begin, "--restart"]) == 0


def test_another_seed_s_cache_is_refused(weights, tree, tmp_path, capsys):
    from system.files import write_json

    write_json(tmp_path / "cache" / "kitti_c.json", {"seed": 7})
    assert evaluate_robustness.main(arguments(weights, tree, "--results", tmp_path / "r.json", "--corruptions",
                                              "--cache", tmp_path / "cache")) == 2  # fmt: skip
    assert "the cache holds other images" in one_line(capsys)


def test_missing_files_are_one_line_before_any_work(weights, tree, tmp_path, capsys):
    next(tree[0].glob("*/*/image_02/data/0000000003.jpg")).unlink()
    base = ("--results", tmp_path / "r.json", "--corruptions")
    assert evaluate_robustness.main(arguments(weights, tree, *base)) == 2
    assert "1 of 3 images of the split are missing" in one_line(capsys)
    assert evaluate_robustness.main(arguments(tmp_path, tree, *base)) == 2
    assert one_line(capsys)
    assert evaluate_robustness.main(arguments(weights, (tree[0], tmp_path / "nosplit"), *base)) == 2
    assert "nosplit" in one_line(capsys)
    assert not (tmp_path / "r.json").exists() and not (tree[1] / "gt_depths.npz").exists()


def test_the_missing_package_is_one_line(weights, tree, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecorruptions", None)
    library.package.cache_clear()
    assert evaluate_robustness.main(arguments(weights, tree, "--results", tmp_path / "r.json")) == 2
    assert "pip install -r requirements-robustness.txt" in one_line(capsys)
    library.package.cache_clear()


@pytest.mark.parametrize("more, named", [
    (("--corruptions", "rain"), "rain"),
    (("--severities", "6"), "6"),
    (("--load_weights_folder", "nowhere"), "nowhere"),
    (("--num_workers", "-1"), "-1"),
])  # fmt: skip
def test_mistakes_are_one_line(more, named, capsys):
    assert evaluate_robustness.main(["--load_weights_folder", "nowhere", *more]) == 2
    assert_one_line(capsys.readouterr().err, named)


def test_a_mistake_ends_the_process():
    words = [sys.executable, "evaluate_robustness.py", "--load_weights_folder", "nowhere"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert ended.returncode == 2
    assert_one_line(ended.stderr, "nowhere")


def assert_one_line(said, named):
    lines = said.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and named in lines[0], said
