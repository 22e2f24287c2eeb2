"""Submissions to KITTI's depth benchmark: what is stored, names and sizes, whole folders only, mistakes."""

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate_depth
from datasets import splits
from datasets.images import planes, read_depth_png
from evaluation import submission
from evaluation.metrics import Protocol
from layers import disp_to_depth
from system.errors import UserError
from tests.seeded_folders import HEIGHT, WIDTH, picture, seeded_networks

METRES = Protocol(alignment="none", scale_factor=5.4)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Three images of two sizes where KITTI's archive puts them, and a benchmark that lists no more."""
    home = tmp_path / "kitti" / submission.HOMES[0]
    home.mkdir(parents=True)
    for number, size in enumerate(((36, 120), (40, 96), (36, 120))):
        Image.fromarray(np.roll(picture(*size), 5 * number, 1)).save(home / f"{number:010d}.png")
    whole = splits.published_lines
    few = ("image 0", "image 1", "image 2")
    monkeypatch.setattr(splits, "published_lines", lambda name, part: few if part == "test" else whole(name, part))
    return tmp_path / "kitti"


def run(weights, data, *more):
    words = ["--load_weights_folder", weights, "--data_path", data, "--eval_split", "benchmark", "--device", "cpu"]
    return evaluate_depth.main([str(word) for word in (*words, *more)])


def test_depth_is_stored_in_256ths_of_a_metre_up_to_80_and_never_as_unknown():
    disparity = np.full((2, 2), 5.4 / 10, np.float32)
    assert (submission.as_stored(disparity, (6, 8), METRES) == 2560).all()
    assert submission.as_stored(disparity / 100, (3, 3), METRES).max() == 80 * 256
    assert submission.as_stored(disparity * 1e5, (3, 3), METRES).min() == 1
    with pytest.raises(UserError, match="no depth"):
        submission.as_stored(disparity * np.nan, (3, 3), METRES)


def test_the_folder_holds_a_map_of_each_image_in_its_size(weights, data, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert run(weights, data, "--submission", tmp_path / "out", "--eval_stereo") == 0
    assert "3 depth maps written" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["0000000000.png", "0000000001.png", "0000000002.png"]
    encoder, decoder = seeded_networks()
    for name in names:
        photo = Image.open(data / submission.HOMES[0] / name)
        with Image.open(tmp_path / "out" / name) as stored:
            assert stored.mode.startswith("I;16") and stored.size == photo.size
        image = torch.from_numpy(planes(photo, HEIGHT, WIDTH) / 255)[None]
        with torch.no_grad():
            disparity = disp_to_depth(decoder(encoder(image))[("disp", 0)], 0.1, 100)[0]
        full = torch.nn.functional.interpolate(disparity, photo.size[::-1], mode="bilinear")[0, 0].numpy()
        np.testing.assert_allclose(read_depth_png(tmp_path / "out" / name), 5.4 / full, atol=1 / 512 + 1e-3)


def test_an_older_submission_is_replaced_as_a_whole_and_kept_when_the_new_one_fails(weights, data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(weights, data, "--submission", out, "--pred_depth_scale_factor", 20) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    image = data / submission.HOMES[0] / "0000000001.png"
    image.write_bytes(image.read_bytes()[:200])
    capsys.readouterr()
    assert run(weights, data, "--submission", out, "--eval_stereo") == 2
    assert capsys.readouterr().err.startswith("error: a damaged image")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kitti", "out"]


@pytest.mark.parametrize("flags, words", [
    ((), "ground truth is not public"),
    (("--submission", "{out}"), "needs depth in metres"),
    (("--submission", "{out}", "--eval_stereo", "--csv", "{out}.csv"), "--csv with --submission"),
    (("--submission", "{out}", "--eval_stereo", "--eval_split", "eigen"), "is of KITTI's benchmark"),
    (("--submission", "{top}", "--eval_stereo"), "a folder with other files"),
    (("--submission", "{out}", "--eval_stereo", "--data_path", "{top}/none"), "3 of 3 images of the benchmark"),
    (("--submission", "{out}", "--eval_stereo", "--load_weights_folder", "{top}"), "no such weights file"),
])  # fmt: skip
def test_mistakes_are_one_line_before_the_work(weights, data, tmp_path, capsys, flags, words):
    assert run(weights, data, *(flag.format(out=tmp_path / "out", top=tmp_path) for flag in flags)) == 2
    out, err = capsys.readouterr()
    assert words in err and err.count("\n") == 1 and not out
    assert not (tmp_path / "out").exists()
