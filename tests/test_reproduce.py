"""The published table from end to end, with weights of a local server and seeded numbers; names where folders stand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import evaluate_depth
import reproduce
import test_simple
import train
from checkpointing import published
from networks import LiteMono
from tests import tiny_kitti
from tests.http_site import Site
from tests.test_weights import depth_files, packed, path_of, saved
from tests.tiny_kitti import TEST

ROOT = Path(__file__).resolve().parent.parent
TINY, SMALL = "lite-mono-tiny_640x192", "lite-mono-small_640x192"


@pytest.fixture(scope="module")
def served():
    return {path_of(TINY): packed(depth_files())}


@pytest.fixture
def site(monkeypatch, tmp_path, served):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("LITE_MONO_CACHE", str(tmp_path / "cache"))
    with Site(served) as running:
        monkeypatch.setenv("LITE_MONO_SHARES", running.url)
        yield running


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A tiny KITTI as prepare_kitti.py leaves it, with its split folder."""
    import prepare_kitti

    top = tmp_path_factory.mktemp("prepared")
    tiny_kitti.write_split(top / "mini")
    with Site(tiny_kitti.server_files()) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        arguments = ["--data_path", str(top / "kitti"), "--split", str(top / "mini"), "--base_url", server.url]
        assert prepare_kitti.main([*arguments, "--num_workers", "1", "--delete_archives"]) == 0
    return top


def options(prepared, *more):
    return [
        "--data_path",
        str(prepared / "kitti"),
        "--eval_split",
        str(prepared / "mini"),
        "--no_cuda",
        "--num_workers",
        "0",
        *more,
    ]


def test_a_row_is_what_evaluate_depth_measures_by_name(site, prepared, tmp_path, capsys):
    assert reproduce.main(options(prepared, "--models", TINY, SMALL, "--json", str(tmp_path / "rows.json"))) == 0
    said = capsys.readouterr().out
    told = json.loads((tmp_path / "rows.json").read_text())
    here, skipped = told["rows"]
    assert (
        evaluate_depth.main(
            options(
                prepared,
                "--load_weights_folder",
                TINY,
                "--model",
                "lite-mono-tiny",
                "--json",
                str(tmp_path / "one.json"),
            )
        )
        == 0
    )
    alone = json.loads((tmp_path / "one.json").read_text())["metrics"]
    assert here["measured"] == [alone[name] for name in told["metrics"]]
    np.testing.assert_allclose(np.add(here["published"], here["difference"]), here["measured"], rtol=1e-12)
    assert here["published"] == list(published.WEIGHTS[TINY].results)
    assert skipped["measured"] is None and "404" in skipped["skipped"] and published.page(SMALL) in skipped["skipped"]
    assert "1 of 2 rows measured" in said and f"{here['measured'][0]:9.3f}" in said and "skipped    " in said
    assert len(site.asked(path_of(TINY))) == 1


def test_when_every_row_fails_the_command_fails(site, prepared, capsys):
    assert reproduce.main(options(prepared, "--models", SMALL)) == 2
    error = capsys.readouterr().err
    assert "no row could be reproduced" in error and published.page(SMALL) in error and error.count("\n") == 1


def test_missing_images_are_told_before_weights_are_fetched(site, prepared, tmp_path, capsys):
    assert reproduce.main([*options(prepared), "--data_path", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "2 of 2 images" in error and "prepare_kitti.py" in error and error.count("\n") == 1
    assert site.requests == []


@pytest.mark.parametrize("more", [["--models", "no-such"], ["--eval_split", "no-such"], ["--batch_size", "x"]])
def test_user_mistakes_are_one_line(site, prepared, capsys, more):
    assert reproduce.main(options(prepared, *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_help_comes_without_torch():
    code = (
        "import sys, reproduce\ntry:\n    reproduce.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_prediction_takes_a_name(site, prepared, tmp_path):
    image = prepared / "kitti" / TEST / "image_02" / "data" / "0000000001.jpg"
    assert (
        test_simple.main(
            [
                "--load_weights_folder",
                TINY,
                "--model",
                "lite-mono-tiny",
                "--image_path",
                str(image),
                "--output_dir",
                str(tmp_path),
                "--no_cuda",
            ]
        )
        == 0
    )
    assert np.load(tmp_path / "0000000001_disp.npy").shape == (1, 1, 192, 640)


@pytest.mark.parametrize("flag, name", [("--load_weights_folder", TINY), ("--mypretrain", "lite-mono-small_imagenet")])
def test_training_takes_a_name(site, prepared, tmp_path, monkeypatch, flag, name):
    seen = []

    class Trainer:
        def __init__(self, opt):
            seen.append(opt)

        def train(self):
            pass

    monkeypatch.setattr("trainer.Trainer", Trainer)
    encoder = LiteMono("lite-mono-small", 192, 640)
    site.files[path_of("lite-mono-small_imagenet")] = saved({"model": encoder.state_dict()})
    assert train.main(["--data_path", str(prepared / "kitti"), flag, name]) == 0
    assert getattr(seen[0], flag[2:]) == published.place(name) and published.is_there(name)


def test_real_frames_from_end_to_end(site, kitti_sample, tmp_path, monkeypatch, capsys):
    """The sample's Eigen frames with the seeded network: any numbers, but the whole way."""
    split = tmp_path / "few"
    split.mkdir()
    lines = (kitti_sample / "splits" / "kitti_sample" / "test_files.txt").read_text().splitlines()[:3]
    (split / "test_files.txt").write_text("\n".join(lines) + "\n")
    assert (
        reproduce.main(
            [
                "--data_path",
                str(kitti_sample / "kitti_raw"),
                "--eval_split",
                str(split),
                "--models",
                TINY,
                "--no_cuda",
                "--num_workers",
                "0",
                "--json",
                str(tmp_path / "rows.json"),
            ]
        )
        == 0
    )
    row = json.loads((tmp_path / "rows.json").read_text())["rows"][0]
    assert 0.2 < row["measured"][0] < 1 and os.path.isfile(split / "gt_depths.npz")
