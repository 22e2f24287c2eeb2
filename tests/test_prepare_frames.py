"""From videos and folders of images to sequences and lists: what is kept, what is dropped, and every bad input."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av", reason="videos need the package av: pip install -r requirements-video.txt")

import prepare_frames
from datasets.frames_preparation.lists import shared_out
from datasets.frames_preparation.selection import CUT, DROP, KEEP, Rules
from datasets.motion import Change, change, small_grey
from system.files import is_partial
from tests.conftest import ROOT
from tests.videos import HEIGHT, WIDTH, ride, turned, write_folder, write_video


def prepare(tmp_path, *inputs, fov=True, out="data"):
    more = ["--fov", "60"] if fov else []
    return prepare_frames.main([*more, "--out", str(tmp_path / out), "--num_workers", "1", *map(str, inputs)])


def images(tmp_path, name, sequence="000"):
    paths = sorted((tmp_path / "data" / name / sequence / "frames").iterdir())
    assert [path.name for path in paths] == [f"{number:06d}.jpg" for number in range(len(paths))]
    return [np.asarray(Image.open(path)).astype(int) for path in paths]


def lines(tmp_path, part):
    return (tmp_path / "data" / f"{part}_files.txt").read_text().splitlines()


def close(image, frame):
    return np.abs(image - frame.astype(int)).mean() < 8


def refused(capsys, code):
    error = capsys.readouterr().err
    assert code == 2 and error.startswith("error: ") and error.count("\n") == 1, error
    return error


def test_a_video_becomes_its_frames_with_a_camera_and_three_lists(tmp_path, capsys):
    frames = ride(0, 40)
    assert prepare(tmp_path, write_video(tmp_path / "a.mp4", frames)) == 0
    kept = images(tmp_path, "a")
    assert len(kept) == 40 and all(map(close, kept, frames))
    assert '"width": 160' in (tmp_path / "data" / "a" / "camera.json").read_text()
    numbers = {part: [int(line.split()[1]) for line in lines(tmp_path, part)] for part in ("train", "val", "test")}
    assert numbers == {"train": [*range(1, 31)], "val": [33, 34], "test": [36, 37, 38, 39]}
    said = capsys.readouterr().out
    assert "40 frames read, 40 kept in 1 sequence" in said and "a guessed camera" in said
    assert "--dataset frames" in said and "--width" in said


def test_a_stride_of_neighbours_keeps_the_lists_further_apart(tmp_path, capsys):
    from datasets import FramesDataset

    assert prepare(tmp_path, "--frame_stride", 3, write_video(tmp_path / "a.mp4", ride(0, 60))) == 0
    assert "--frame_stride 3 --check_data" in capsys.readouterr().out
    numbers = {part: [int(line.split()[1]) for line in lines(tmp_path, part)] for part in ("train", "val", "test")}
    touched = {part: {frame + offset for frame in numbers[part] for offset in (-3, 0, 3)} for part in ("train", "val")}
    assert not touched["train"] & (touched["val"] | set(numbers["test"])) and not touched["val"] & set(numbers["test"])
    dataset = FramesDataset(tmp_path / "data", lines(tmp_path, "train"), 96, 160, [0, -1, 1], 1, frame_stride=3)
    assert len(dataset) == len(numbers["train"])  # no line lacks a neighbour


def test_frames_a_second_go_by_the_times_of_the_frames(tmp_path):
    frames = ride(0, 60, step=2)
    times = np.cumsum([0.02, 0.02, 0.1] * 20)
    assert prepare(tmp_path, write_video(tmp_path / "a.mp4", frames, fps=50, times=times)) == 0
    kept = images(tmp_path, "a")
    chosen = [min(range(60), key=lambda k: np.abs(image - frames[k]).mean()) for image in kept]
    gaps = np.diff(times[chosen])
    assert 20 <= len(kept) <= 29 and gaps.min() >= 0.05 and gaps.max() <= 0.2


def test_each_nth_frame_instead(tmp_path):
    frames = ride(0, 40, step=2)
    assert prepare(tmp_path, write_video(tmp_path / "a.mp4", frames), "--every", "4") == 0
    kept = images(tmp_path, "a")
    assert len(kept) == 10 and all(map(close, kept, frames[::4]))


@pytest.mark.parametrize("degrees, turns", [(90, 1), (180, 2), (270, 3)])
def test_a_video_on_its_side_is_set_upright(tmp_path, degrees, turns):
    frames = ride(0, 12)
    lying = [np.rot90(frame, turns) for frame in frames]
    assert prepare(tmp_path, turned(write_video(tmp_path / "a.mp4", lying), degrees)) == 0
    assert all(map(close, images(tmp_path, "a"), frames))


def test_a_folder_of_images_goes_by_numbers(tmp_path):
    frames = ride(0, 12)
    assert prepare(tmp_path, write_folder(tmp_path / "shots", frames)) == 0
    assert all(map(close, images(tmp_path, "shots"), frames))


def test_still_stretches_are_dropped_and_told(tmp_path, capsys):
    frames = ride(0, 24)
    rng = np.random.default_rng(0)
    noisy = [np.clip(frames[11] + rng.normal(0, 3, frames[11].shape), 0, 255).astype(np.uint8) for _ in range(15)]
    assert prepare(tmp_path, write_video(tmp_path / "a.mp4", frames[:12] + noisy + frames[12:])) == 0
    assert len(images(tmp_path, "a")) == 24
    assert "15 dropped: too little motion" in capsys.readouterr().out


def test_slow_stretches_are_thinned_out(tmp_path):
    frames = ride(0, 60, step=1)  # one pixel of 160 is four of 640
    assert prepare(tmp_path, write_video(tmp_path / "a.mp4", frames), "--min_motion", "10") == 0
    assert 18 <= len(images(tmp_path, "a")) <= 22


def test_sequences_end_at_scene_changes_and_too_much_motion(tmp_path, capsys):
    first, second = ride(0, 15), ride(9, 15)
    jump = ride(5, 40)
    assert prepare(tmp_path, write_video(tmp_path / "a.mp4", first + second)) == 0
    assert len(images(tmp_path, "a", "000")) == len(images(tmp_path, "a", "001")) == 15
    assert "1 cuts: scene change, at 1.5" in capsys.readouterr().out
    video = write_video(tmp_path / "b.mp4", jump[:12] + jump[15:])
    assert prepare(tmp_path, video, "--max_motion", "30") == 0
    assert len(images(tmp_path, "b", "000")) == 12 and len(images(tmp_path, "b", "001")) == 25


def test_crop_scale_and_camera(tmp_path):
    frames = ride(0, 12)
    (tmp_path / "K.txt").write_text("150 0 80\n0 150 48\n0 0 1\n")
    video = write_video(tmp_path / "a.mp4", frames)
    more = ["--camera", tmp_path / "K.txt", "--crop", 10, 0, 120, 80, "--height", 40]
    assert prepare(tmp_path, video, *more, fov=False) == 0
    assert images(tmp_path, "a")[0].shape == (40, 60, 3)
    from datasets.camera_files import read_camera

    camera = read_camera(tmp_path / "data" / "a" / "camera.json")
    assert (camera.fx, camera.fy, camera.width) == (75, 75, 60)
    assert np.isclose(camera.cx, (80 - 10 + 0.5) / 2 - 0.5) and np.isclose(camera.cy, (48 + 0.5) / 2 - 0.5)


def test_what_is_done_is_not_done_again_and_more_joins_the_lists(tmp_path, capsys):
    a, b = (write_video(tmp_path / f"{name}.mp4", ride(seed, 30)) for seed, name in enumerate("ab"))
    assert prepare(tmp_path, a) == 0
    before = os.stat(tmp_path / "data" / "a" / "report.json").st_mtime_ns
    assert prepare(tmp_path, a, b) == 0
    assert os.stat(tmp_path / "data" / "a" / "report.json").st_mtime_ns == before
    assert "done already" in capsys.readouterr().out
    assert {line.split("/")[0] for line in lines(tmp_path, "train")} == {"a", "b"}
    assert prepare(tmp_path, a, "--height", "48") == 0
    assert images(tmp_path, "a")[0].shape[0] == 48


def test_inputs_of_one_name_get_folders_of_their_own(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / "my ride.mp4", ride(0, 12))
    assert prepare(tmp_path, tmp_path / "x" / "my ride.mp4", tmp_path / "y" / "my ride.mp4") == 0
    assert {path.name for path in (tmp_path / "data").iterdir() if path.is_dir()} == {"my_ride", "my_ride_2"}
    before = (tmp_path / "data" / "my_ride" / "report.json").read_bytes()
    assert prepare(tmp_path, tmp_path / "y" / "my ride.mp4") == 0  # alone it keeps the folder that it had
    assert (tmp_path / "data" / "my_ride" / "report.json").read_bytes() == before
    assert not (tmp_path / "data" / "my_ride_3").exists()


def cut_short(tmp_path, options, share):
    path = write_video(tmp_path / "a.mp4", ride(0, 60), options=options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


def test_a_video_cut_short_gives_what_it_has_and_says_so(tmp_path, capsys):
    assert prepare(tmp_path, cut_short(tmp_path, {"movflags": "+faststart"}, 0.6)) == 0
    assert 20 <= len(images(tmp_path, "a")) <= 50
    assert "as if cut off" in (said := capsys.readouterr().out) or "damaged after" in said


BAD = {
    "an index cut off": (lambda t: [cut_short(t, None, 0.5)], "not a video, or a damaged one"),
    "text": (lambda t: [put(t / "a.mp4", b"hello")], "not a video"),
    "an empty file": (lambda t: [put(t / "a.mp4", b"")], "not a video"),
    "nothing": (lambda t: [t / "none.mp4"], "no such video"),
    "an empty folder": (lambda t: [folder(t / "none")], "a folder without images"),
    "three frames": (lambda t: [write_video(t / "a.mp4", ride(0, 3))], "too few frames for a val list"),
    "two frames": (lambda t: [write_video(t / "a.mp4", ride(0, 2))], "no frame worth keeping"),
    "a still camera": (lambda t: [write_video(t / "a.mp4", ride(0, 1) * 20)], "the camera stands still"),
    "images of two sizes": (
        lambda t: [write_folder(t / "a", [*ride(0, 2), np.zeros((20, 30, 3), np.uint8)])], "different sizes",
    ),
    "a broken image": (lambda t: [put(t / "a" / "1.png", b"\x89PNG")], "1.png"),
    "crop": (lambda t: [write_video(t / "a.mp4", ride(0, 9)), "--crop", 100, 0, 100, 90], "--crop leaves the frames"),
    "no camera file": (lambda t: [write_video(t / "a.mp4", ride(0, 9)), "--camera", t / "K"], "one of --camera"),
    "fov": (lambda t: ["x", "--fov", 200], "--fov is out of range"),
    "fps": (lambda t: ["x", "--fps", 5, "--every", 2], "contradictory options"),
    "shares": (lambda t: ["x", "--val_share", 1.5], "--val_share is out of range"),
    "shares of all": (lambda t: ["x", "--val_share", 0.5, "--test_share", 0.5], "nothing is left to train on"),
}  # fmt: skip


def put(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def folder(path):
    path.mkdir()
    return path


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing_half_written(tmp_path, capsys, case):
    make, words = BAD[case]
    code = prepare(tmp_path, *make(tmp_path))
    assert words in refused(capsys, code)
    assert not [path for path in tmp_path.rglob("*") if is_partial(path.name) or path.name.endswith("_files.txt")]


def test_a_camera_of_other_images_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "K.json").write_text('{"width": 640, "height": 480, "fx": 500, "fy": 500, "cx": 320, "cy": 240}')
    video = write_video(tmp_path / "a.mp4", ride(0, 9))
    error = refused(capsys, prepare(tmp_path, video, "--camera", tmp_path / "K.json", fov=False))
    assert "a camera of 640x480 images for images of 160x96" in error and "K.json" in error


def test_a_folder_of_something_else_is_not_replaced(tmp_path, capsys):
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / "mine.txt").write_text("mine")
    assert "holds something else" in refused(capsys, prepare(tmp_path, write_video(tmp_path / "a.mp4", ride(0, 9))))
    assert (tmp_path / "data" / "a" / "mine.txt").read_text() == "mine"


def test_without_av_folders_still_work_and_videos_say_what_to_install(tmp_path, capsys, monkeypatch):
    video, shots = write_video(tmp_path / "a.mp4", ride(0, 9)), write_folder(tmp_path / "shots", ride(0, 12))
    monkeypatch.setitem(sys.modules, "av", None)
    assert "pip install -r requirements-video.txt" in refused(capsys, prepare(tmp_path, video))
    assert prepare(tmp_path, shots) == 0


def test_killed_it_goes_on_with_what_is_not_done(tmp_path):
    a, b = (write_video(tmp_path / f"{name}.mp4", ride(seed, 30)) for seed, name in enumerate("ab"))
    slow = (
        "import sys, time, prepare_frames\n"
        "from datasets.frames_preparation import sequences\nfrom datasets import motion\n"
        "def later(*a):\n    time.sleep(0.3 if done else 0)\n    return motion.change(*a)\n"
        "done, write = [], sequences.write_sequences\nsequences.change = later\n"
        "from datasets.frames_preparation import prepare\n"
        "prepare.write_sequences = lambda *a: (write(*a), done.append(1))[0]\n"
        "sys.exit(prepare_frames.main(sys.argv[1:]))"
    )
    argv = [str(a), str(b), "--out", str(tmp_path / "data"), "--fov", "60", "--num_workers", "1"]
    run = subprocess.Popen([sys.executable, "-c", slow, *argv], cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "data").glob(".b*/000")) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not (tmp_path / "data" / "b").exists() and (tmp_path / "data" / "a").exists()
    assert prepare(tmp_path, a, b) == 0
    assert len(images(tmp_path, "a")) == len(images(tmp_path, "b")) == 30
    assert not [path for path in (tmp_path / "data").iterdir() if is_partial(path.name)]


# --- the parts -----------------------------------------------------------------------------------------------------


def test_motion_is_told_in_pixels_of_an_image_640_wide():
    for step in (1, 3, 6):
        first, second = ride(0, 2, step)
        seen = change(small_grey(first), small_grey(second))
        assert abs(seen.motion - step * 640 / WIDTH) < 0.15 * step * 640 / WIDTH and seen.likeness > 0.7
    brighter = np.clip(ride(0, 1)[0] * 0.6 + 90, 0, 255).astype(np.uint8)
    assert change(small_grey(ride(0, 1)[0]), small_grey(brighter)).likeness > 0.9
    assert change(small_grey(ride(0, 1)[0]), small_grey(ride(9, 1)[0])).likeness < 0.4
    assert small_grey(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).shape == (192, 320)
    black = np.zeros((60, 320), np.uint8)
    assert change(black, black) == Change(0.0, 1.0)


def test_rules():
    rules = Rules(min_motion=1, max_motion=50, scene=0.4)
    assert rules.judge(Change(0.5, 0.1)) == (DROP, "too little motion")
    assert rules.judge(Change(5, 0.1)) == (CUT, "scene change")
    assert rules.judge(Change(60, 0.9)) == (CUT, "too much motion")
    assert rules.judge(Change(5, 0.9)) == (KEEP, "")


@pytest.mark.parametrize("lengths", [[200], [40, 7, 3], [3] * 12, [9, 9], [7, 3, 3], [500, 3, 100, 12, 30]])
@pytest.mark.parametrize("margin", [1, 2])
def test_no_frame_or_neighbour_is_in_two_lists(lengths, margin):
    sequences = [(f"s{number}", max(length, 2 * margin + 1)) for number, length in enumerate(lengths)]
    lists = shared_out(sequences, {"val": 0.1, "test": 0.1}, margin)
    touched = {}
    for part, entries in lists.items():
        edge = 0 if part == "test" else margin
        touched[part] = set()
        for line in entries:
            name, number, side = line.split()
            assert side == "l" and int(number) - edge >= 0 and int(number) + edge < dict(sequences)[name]
            touched[part] |= {(name, int(number) + offset) for offset in range(-edge, edge + 1)}
    assert not touched["train"] & touched["val"] and not touched["train"] & touched["test"]
    assert not touched["val"] & touched["test"] and lists["train"]
    if len(lengths) > 2 or sum(lengths) >= 40:
        assert lists["val"] and lists["test"]


def test_parts_of_no_share_are_left_out():
    assert set(shared_out([("a", 30)], {"val": 0.2, "test": 0}, 1)) == {"train", "val"}


def test_a_help_needs_neither_torch_nor_opencv():
    code = ("import sys, prepare_frames\ntry:\n    prepare_frames.main(['--help'])\nexcept SystemExit:\n    pass\n"
            "assert not {'torch', 'cv2', 'av'} & set(sys.modules)")  # fmt: skip
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
