"""PNG to JPEG as the published data were made: the bytes of ImageMagick, in processes that end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.preparation import convert
from tests import tiny_kitti

ROOT = Path(__file__).resolve().parent.parent

# Annex K of the JPEG standard (ITU T.81), scaled for quality 92 as libjpeg does: (base * 16 + 50) / 100.
LUMINANCE = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""
CHROMINANCE = """17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99
99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99 99"""


def test_the_jpeg_has_the_published_tables_and_subsampling(tmp_path):
    (tmp_path / "a.png").write_bytes(tiny_kitti.png(3, 2))
    with Image.open(convert.png_to_jpeg(str(tmp_path / "a.png"))) as image:
        for number, base in enumerate((LUMINANCE, CHROMINANCE)):
            assert sorted(image.quantization[number]) == sorted((int(q) * 16 + 50) // 100 for q in base.split())
        assert [(h, v) for _, h, v, _ in image.layer] == [(2, 2), (1, 1), (1, 1)]
        assert not image.info.get("progressive")
    assert not (tmp_path / "a.png").exists()


def imagemagick():
    for name in ("/usr/bin/convert", "/usr/local/bin/convert", "/opt/homebrew/bin/convert"):
        if os.path.exists(name):
            version = subprocess.run([name, "-version"], capture_output=True, text=True)
            if "ImageMagick" in version.stdout:
                return name
    return pytest.skip("ImageMagick's convert is not installed")


@pytest.fixture
def street_pngs(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(8):
        coarse = Image.fromarray(rng.integers(0, 255, (24, 78, 3), dtype=np.uint8))
        coarse.resize((1242, 375), Image.Resampling.BICUBIC).save(tmp_path / f"{number:010d}.png")
    return [str(tmp_path / f"{number:010d}.png") for number in range(8)]


def test_the_jpeg_is_that_of_imagemagick_and_costs_less(street_pngs):
    command, before = imagemagick(), os.times()
    for png in street_pngs:
        how = ["-quality", "92", "-sampling-factor", "2x2,1x1,1x1"]
        subprocess.run([command, png, *how, f"{png[:-4]}_im.jpg"], check=True)
    between = os.times()
    convert.convert_all(street_pngs, keep_png=True, workers=1)
    after = os.times()
    for png in street_pngs[:4]:
        with Image.open(png[:-4] + ".jpg") as mine, Image.open(png[:-4] + "_im.jpg") as published:
            assert mine.quantization == published.quantization and mine.layer == published.layer
            assert np.array_equal(np.asarray(mine), np.asarray(published))
    # processor time, since the clock also measures what else the machine does
    theirs = between.children_user + between.children_system - before.children_user - before.children_system
    ours = after.user + after.system - between.user - between.system
    assert ours < theirs


def test_many_images_are_shared_among_processes(tmp_path):
    pngs = []
    for number in range(70):
        (tmp_path / f"{number:010d}.png").write_bytes(tiny_kitti.png(number, 2))
        pngs.append(str(tmp_path / f"{number:010d}.png"))
    (tmp_path / "0000000005.png").write_bytes(b"\x89PNG nonsense")
    done = []
    with pytest.raises(convert.UserError, match="0000000005.png"):
        convert.convert_all(pngs, workers=2, each=lambda: done.append(1))
    assert len(done) == 70 and len(list(tmp_path.glob("*.jpg"))) == 69
    assert [path.name for path in tmp_path.glob("*.png")] == ["0000000005.png"]


def test_workers_end_when_their_parent_is_killed(tmp_path):
    pngs = []
    for number in range(80):
        (tmp_path / f"{number:010d}.png").write_bytes(tiny_kitti.png(number, 2))
        pngs.append(str(tmp_path / f"{number:010d}.png"))
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, time\nfrom datasets.preparation import convert\nif __name__ == '__main__':\n"
        f"    convert.convert_all({pngs!r}, workers=2, each=lambda: time.sleep(9))\n"
    )
    run = subprocess.Popen(
        [sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.02)
    run.kill()
    run.wait()
    while time.monotonic() < deadline:
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGKILL)
    pytest.fail("the workers outlived their parent")
