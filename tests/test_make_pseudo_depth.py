"""make_pseudo_depth.py: every kind of teacher, averages by hand, resumed and shared work, mistakes in one line."""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import make_pseudo_depth
import train
from datasets.labels import PseudoLabels
from inference.images import network_values, read_image
from inference.predictor import Predictor
from teaching import labelling
from teaching.labelling import label_of
from tests.conftest import ROOT
from tests.seeded_folders import write_weights
from tests.short_runs import files_below, one_line


class Told:
    """A teacher that says what it was told: `answers(image as an array)`."""

    def __init__(self, kind, answers):
        self.name, self.kind, self.answers = kind, kind, answers

    def predict(self, image):
        return self.answers(np.asarray(image, np.float32))


def brightness(image):
    return 1 + image[..., 0] / 10


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8))


def test_one_teacher_of_depth_is_written_as_it_is(picture):
    label = label_of(picture, [Told("metric", brightness)], flip=False)
    assert label.dtype == np.float16
    np.testing.assert_allclose(label, brightness(np.asarray(picture, np.float32)), rtol=1e-3)


def test_the_mirror_image_is_averaged_in_logarithms(picture):
    def answers(image):  # twice as far on the left, wherever that is
        return brightness(image) * np.linspace(2, 1, 8)

    ramp = np.linspace(2, 1, 8)
    expected = brightness(np.asarray(picture, np.float32)) * np.sqrt(ramp * ramp[::-1])
    np.testing.assert_allclose(label_of(picture, [Told("scale", answers)]), expected, rtol=2e-3)


def test_an_ensemble_of_depth_is_scaled_to_the_first(picture):
    teachers = [Told("scale", brightness), Told("metric", lambda image: 5 * brightness(image) ** 3)]
    assert labelling.common_kind(teachers) == "scale"
    first = brightness(np.asarray(picture, np.float32))
    second = first**3
    second *= np.exp(np.median(np.log(first)) - np.median(np.log(second)))
    np.testing.assert_allclose(label_of(picture, teachers, flip=False), np.sqrt(first * second), rtol=2e-3)
    metres = [Told("metric", brightness), Told("metric", lambda image: 4 * brightness(image))]
    np.testing.assert_allclose(label_of(picture, metres, flip=False), 2 * first, rtol=2e-3)


def test_an_ensemble_of_disparity_forgets_scale_and_shift(picture):
    plain = label_of(picture, [Told("affine", brightness)], flip=False)
    assert plain.min() == np.float16(0.01) and plain.max() == 1
    moved = [Told("affine", brightness), Told("affine", lambda image: 7 * brightness(image) - 100)]
    np.testing.assert_allclose(label_of(picture, moved), plain, rtol=2e-3)
    assert label_of(picture, [Told("affine", lambda image: np.full((6, 8), 3.0))]).max() == np.float16(0.01)


# --- as a command ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "weights"
    write_weights(folder, height=32, width=64)
    return folder


@pytest.fixture(scope="module")
def depth_transformer(tmp_path_factory):
    """A folder with a tiny random DPT and its image processor."""
    transformers = pytest.importorskip("transformers", reason="requirements-teacher.txt is not installed")
    folder = tmp_path_factory.mktemp("dpt")
    torch.manual_seed(0)
    config = transformers.DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8,
        reassemble_factors=[4, 2, 1, 0.5], is_hybrid=False,
    )  # fmt: skip
    transformers.DPTForDepthEstimation(config).save_pretrained(folder)
    processor = transformers.DPTImageProcessor(size={"height": 32, "width": 32}, keep_aspect_ratio=False)
    processor.save_pretrained(folder)
    return folder


def words(data, out, *teachers, more=()):
    given = ["--teacher", *teachers, "--data_path", data, "--split", data / "splits" / "synthetic", "--out", out]
    return [str(each) for each in (*given, "--no_cuda", *more)]


def test_our_own_weights_label_and_the_labels_train(synthetic_drive, weights, tmp_path, capsys, short_run):
    out = tmp_path / "labels"
    assert make_pseudo_depth.main(words(synthetic_drive, out, weights)) == 0
    assert "labels of kind scale: 20 written, 0 were there" in capsys.readouterr().out
    names = files_below(out)
    assert {"labels.json", "contact_sheet.png"} < set(names) and sum(name.endswith(".npz") for name in names) == 20
    name = next(name for name in names if name.endswith(".npz"))
    image = read_image(str(synthetic_drive / name.replace(".npz", ".jpg")))
    predictor = Predictor(str(weights), device="cpu")

    def depth(each):
        return 1 / predictor.scaled_disparity(network_values(each, 32, 64))[0, 0]

    expected = np.sqrt(depth(image) * depth(ImageOps.mirror(image))[:, ::-1])
    np.testing.assert_allclose(np.load(out / name)["depth"], expected, rtol=2e-3)
    assert train.main(short_run("--pseudo_depth", out, "--max_steps", 1)) == 0
    capsys.readouterr()
    assert train.main(short_run("--pseudo_depth", out, "--pseudo_kind", "affine")) == 2
    assert "labels of another kind" in one_line(capsys)


def test_work_is_resumed_and_shared(synthetic_drive, weights, tmp_path, capsys, monkeypatch):
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    assert make_pseudo_depth.main(words(synthetic_drive, whole, weights)) == 0
    for rank in ("0", "1", "2"):
        monkeypatch.setenv("WORLD_SIZE", "3")
        monkeypatch.setenv("RANK", rank)
        assert make_pseudo_depth.main(words(synthetic_drive, shared, weights)) == 0
    assert files_below(shared) == files_below(whole)
    for name in files_below(whole):
        if name.endswith(".npz"):
            assert (shared / name).read_bytes() == (whole / name).read_bytes()
    gone = next(name for name in files_below(whole) if name.endswith(".npz"))
    kept = {name: os.stat(whole / name).st_mtime_ns for name in files_below(whole) if name.endswith(".npz")}
    (whole / gone).unlink()
    monkeypatch.delenv("WORLD_SIZE"), monkeypatch.delenv("RANK")
    capsys.readouterr()
    assert make_pseudo_depth.main(words(synthetic_drive, whole, weights)) == 0
    assert "1 written, 19 were there" in capsys.readouterr().out
    assert all(os.stat(whole / name).st_mtime_ns == stamp for name, stamp in kept.items() if name != gone)


def test_a_depth_transformer_gives_affine_labels(synthetic_drive, depth_transformer, tmp_path, short_run):
    out = tmp_path / "labels"
    assert make_pseudo_depth.main(words(synthetic_drive, out, depth_transformer, more=("--no_flip",))) == 0
    assert json.loads((out / "labels.json").read_text())["kind"] == "affine"
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForDepthEstimation.from_pretrained(depth_transformer).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(depth_transformer)
    name = next(name for name in files_below(out) if name.endswith(".npz"))
    image = read_image(str(synthetic_drive / name.replace(".npz", ".jpg")))
    with torch.no_grad():
        raw = model(**processor(images=image, return_tensors="pt")).predicted_depth[0].numpy()
    share = (raw - raw.min()) / (raw.max() - raw.min())
    np.testing.assert_allclose(np.load(out / name)["depth"], 0.01 + 0.99 * share, rtol=2e-3, atol=1e-3)
    affine = ("--pseudo_kind", "affine", "--pseudo_schedule", "warmup")
    assert train.main(short_run("--pseudo_depth", out, *affine, "--max_steps", 1)) == 0


def test_an_onnx_file_says_what_its_weights_say(synthetic_drive, weights, tmp_path):
    pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")
    import export_onnx

    assert export_onnx.main(["--load_weights_folder", str(weights), "--out", str(tmp_path / "m.onnx")]) == 0
    for name, teacher in (("one", weights), ("other", tmp_path / "m.onnx")):
        assert make_pseudo_depth.main(words(synthetic_drive, tmp_path / name, teacher)) == 0
    for name in files_below(tmp_path / "one"):
        if name.endswith(".npz"):
            one, other = (np.load(tmp_path / each / name)["depth"] for each in ("one", "other"))
            np.testing.assert_allclose(one, other, rtol=3e-3)


def test_mistakes_are_one_line(synthetic_drive, weights, depth_transformer, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    for teachers, says in (
        (["nothing_of_this_name"], "no such teacher"),
        ([tmp_path / "none.onnx"], "no such ONNX file"),
        ([tmp_path / "empty"], "the folder holds no weights"),
        ([tmp_path / "broken"], "not a depth model of Hugging Face"),
        ([weights, depth_transformer], "cannot be averaged"),
    ):
        assert make_pseudo_depth.main(words(synthetic_drive, tmp_path / "out", *teachers)) == 2
        assert says in one_line(capsys)
    assert not (tmp_path / "out").exists()
    assert make_pseudo_depth.main(words(synthetic_drive, tmp_path / "out", weights)) == 0
    capsys.readouterr()
    assert make_pseudo_depth.main(words(synthetic_drive, tmp_path / "out", weights, more=("--no_flip",))) == 2
    assert "made otherwise" in one_line(capsys)


def test_a_missing_package_is_one_line(synthetic_drive, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    given = words(synthetic_drive, tmp_path / "out", tmp_path / "model")
    code = (f"import sys; sys.modules['transformers'] = None; import make_pseudo_depth\n"
            f"sys.exit(make_pseudo_depth.main({given!r}))")  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    assert ended.stderr.strip().splitlines()[-1].startswith("error: a package is missing")
    assert "requirements-teacher.txt" in ended.stderr


def test_every_frame_of_the_sheet_is_image_and_label(synthetic_drive, weights, tmp_path):
    out = tmp_path / "labels"
    assert make_pseudo_depth.main(words(synthetic_drive, out, weights, more=("--parts", "val"))) == 0
    sheet = cv2.imread(str(out / "contact_sheet.png"))
    assert sheet.shape == (2 * 208, 2 * 416, 3)
    assert len(PseudoLabels(out).folder) and sheet.std() > 5
