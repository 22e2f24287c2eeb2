"""evaluate_depth.py --report and --plots: what the page holds, how it behaves in a browser, mistakes."""

import re

import numpy as np
import pytest
from PIL import Image

import evaluate_depth
from evaluation import make3d
from evaluation.metrics import ImageResult, Protocol
from evaluation.panels import GREY, WIDTH, panel
from inference.colour import colour_disparity, colour_error
from reports.evaluation_page import chosen_images, protocol_text
from tests.seeded_folders import write_drive, write_test_list, write_weights
from tests.test_make3d import write_pair
from tests.web_pages import broken_images, fits, ground, opened

HOSTILE = "weights_<img src=x onerror=alert(1)>&'\""


def arguments(top, *weights):
    words = [
        "--load_weights_folder",
        *weights,
        "--data_path",
        top / "kitti",
        "--eval_split",
        top / "three",
        "--no_cuda",
    ]
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a page about two weights, one of an unpleasant name, and plots."""
    top = tmp_path_factory.mktemp("page")
    write_drive(top / "kitti"), write_test_list(top / "three")
    write_weights(top / HOSTILE)
    write_weights(top / "other")
    assert evaluate_depth.main([*arguments(top, top / HOSTILE, top / "other"), "--report", str(top / "page.html"),
                                "--plots", str(top / "plots"), "--json", str(top / "summary.json")]) == 0  # fmt: skip
    return top


def test_the_page_needs_nothing_else_and_escapes_names(made):
    text = (made / "page.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text) and "http" not in text and "@import" not in text
    assert "<img src=x" not in text and "weights_&lt;img src=x" in text


def test_the_page_in_a_browser(made, browser):
    with opened(browser, made / "page.html") as tab:
        assert fits(tab) and broken_images(tab) == 0
        assert tab.locator("h3 >> text=Best").count() == 1 and tab.locator(".shot").count() == 3
        assert tab.locator("svg").count() == 6
        slider = tab.locator(".cut input").first
        slider.focus()
        for _ in range(5):
            tab.keyboard.press("ArrowRight")
        assert tab.evaluate("document.querySelector('.shot').style.getPropertyValue('--cut')") == "55%"
        assert tab.locator(".shot").first.locator("img[data-over]").count() == 2
        tab.select_option("#right", "0")  # the same on both sides: only one picture of each pair is left
        assert tab.locator(".shot").first.locator(".compare img:visible").count() == 2
        assert tab.locator("[data-names=right]").first.text_content() == HOSTILE
    for scheme, bright in (("light", True), ("dark", False)):
        with opened(browser, made / "page.html", 1280, scheme) as tab:
            assert (min(ground(tab)) > 200) == bright and fits(tab)


def test_plots_are_png_and_pdf(made):
    names = {path.name for path in (made / "plots").iterdir()}
    assert {"error_by_distance.png", "error_by_distance.pdf", "examples.pdf", "comparison.png"} <= names
    with Image.open(made / "plots" / "error_by_distance.png") as image:
        assert np.asarray(image.convert("L")).std() > 20
    assert (made / "plots" / "examples.pdf").read_bytes().startswith(b"%PDF")


def test_stored_disparities_without_photographs(made, tmp_path):
    np.save(tmp_path / "d.npy", np.random.default_rng(0).uniform(0.02, 0.2, (3, 8, 12)).astype(np.float32))
    words = ["--ext_disp_to_eval", tmp_path / "d.npy", "--eval_split", made / "three", "--data_path", tmp_path,
             "--report", tmp_path / "page.html"]  # fmt: skip
    assert evaluate_depth.main([str(word) for word in words]) == 0
    assert (tmp_path / "page.html").read_text().count("not at hand") == 3


def test_make3d_has_a_page_without_bands(tmp_path):
    write_pair(tmp_path / "make3d", "a", np.random.default_rng(2).uniform(1, 90, (55, 305)))
    weights = write_weights(tmp_path / "weights_0")
    words = ["--load_weights_folder", weights, "--dataset", "make3d", "--data_path", tmp_path / "make3d", "--no_cuda",
             "--report", tmp_path / "page.html"]  # fmt: skip
    assert evaluate_depth.main([str(word) for word in words]) == 0
    text = (tmp_path / "page.html").read_text()
    assert all(name in text for name in make3d.METRICS) and "distance" not in text


@pytest.mark.parametrize("flags, what", [
    (["--report", "page.png"], "another kind"),
    (["--report", "{top}"], "a folder stands"),
    (["--plots", "{top}/three/test_files.txt"], "a folder is to be"),
    (["--plots", "{top}/plots", "--no_eval"], "nothing to show"),
    (["--report", "{top}/a.html", "--json", "{top}/a.html"], "one file"),
])  # fmt: skip
def test_mistakes_are_found_before_the_work(made, tmp_path, capsys, flags, what):
    words = [flag.format(top=made) for flag in flags]
    assert evaluate_depth.main([*arguments(made, tmp_path / "no weights"), *words]) == 2
    told = capsys.readouterr()
    assert what in told.err and told.err.count("\n") == 1 and not told.out


# ------------------------------------------------------------------------------------------------------- pictures


def test_a_perfect_prediction_looks_like_the_truth():
    disparity = np.linspace(0.02, 0.5, 40 * WIDTH, dtype=np.float32).reshape(40, WIDTH)
    gt = (1 / disparity).astype(np.float32)
    for alignment in ("median", "scale", "scale_shift"):
        wrong = 3 * disparity + (0.4 if alignment == "scale_shift" else 0)
        protocol = Protocol(garg_crop=False, alignment=alignment)
        shown = panel(None, gt, wrong, protocol)
        assert np.abs(shown.truth.astype(int) - shown.prediction).max() < 12
        assert np.abs(shown.error.astype(int) - colour_error(np.zeros(1))[0]).max() < 12


def test_pixels_without_truth_are_grey_and_errors_have_a_sign():
    gt = np.zeros((40, WIDTH), np.float32)
    gt[10, 100:400:20] = 10
    gt[30, 100:400:20] = 20
    shown = panel(None, gt, np.full((4, 5), 1 / 15, np.float32), Protocol(garg_crop=False, alignment="none"))
    assert (shown.truth[0, 0] == GREY).all() and (shown.error[20] == GREY).all()
    assert shown.error[10, 100, 0] > shown.error[10, 100, 2] + 50  # predicted 15 m for 10 m: too far, red
    assert shown.error[30, 100, 2] > shown.error[30, 100, 0] + 50


def test_limits_of_colours_can_be_shared():
    disparity = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    np.testing.assert_array_equal(colour_disparity(disparity), colour_disparity(disparity, (0.0, 0.95)))
    assert (colour_disparity(disparity * 2, (0.0, 1.9)) == colour_disparity(disparity)).all()


def test_best_median_and_worst_images_are_chosen_once_each():
    def results(*errors):
        return [ImageResult((error,), 1.0, 0 if np.isnan(error) else 5) for error in errors]

    many = chosen_images(results(*np.random.default_rng(1).permutation(21) / 10, np.nan))
    assert [kind for kind, _ in many] == ["Best"] * 3 + ["Median"] * 3 + ["Worst"] * 3
    assert len({index for _, index in many}) == 9 and 21 not in [index for _, index in many]
    assert chosen_images(results(0.3, 0.1, 0.2)) == [("Best", 1), ("Median", 2), ("Worst", 0)]
    assert chosen_images(results(0.3)) == [("Best", 0)]


def test_the_protocol_in_words():
    scaled = "Garg's crop, ground truth below 80 m, each prediction multiplied by the ratio of the medians"
    plain = "no crop, predictions compared as they are, after a factor of 5.4"
    assert protocol_text(Protocol()) == scaled
    assert protocol_text(Protocol.for_improved_maps(alignment="none", scale_factor=5.4)) == plain
