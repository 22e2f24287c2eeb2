"""Videos out of test_simple.py: what they show and when, that they are whole, and what goes wrong."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import test_simple
from inference.colour import ADAPTATION, SteadyRange, colour_by_table, colour_disparity, colour_table
from inference.images import frame_values, network_values
from inference.video import LAYOUTS, Look, predict_video
from inference.video_file import video_file
from system.errors import UserError
from system.parallel import Consumer, ahead
from tests.conftest import ROOT
from tests.seeded_folders import write_weights
from tests.videos import HEIGHT, WIDTH, ride, write_video

av = pytest.importorskip("av")
LIMIT = 120  # seconds that a command may take


class StandIn:
    """A predictor whose disparity is the red channel, from 0.1 to 1.1."""

    model, height, width = "stand-in", 64, 96

    def scaled_disparity(self, values):
        return values[:, :1] + np.float32(0.1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("weights") / "weights_0")


def source(path):
    from datasets.frames_preparation.sources import Video

    return Video(str(path))


def decoded(path):
    """Return (times, frames (n, H, W, 3), the stream's facts)."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(stream)]
        facts = stream.codec_context.name, stream.codec_context.pix_fmt, container.duration / av.time_base
    times, images = zip(*frames, strict=True)
    return np.array(times), np.array(images), facts


def test_a_video_comes_out_as_browsers_play_it(weights, tmp_path, capsys):
    write_video(tmp_path / "ride.mkv", ride(0, 12), fps=12)
    flags = ["--load_weights_folder", weights, "--image_path", tmp_path / "ride.mkv", "--no_cuda"]
    assert test_simple.main(list(map(str, flags))) == 0
    assert "(12 frames, " in capsys.readouterr().out
    assert sorted(os.listdir(tmp_path)) == ["ride.mkv", "ride_disp.mp4"]
    times, images, (codec, pixels, length) = decoded(tmp_path / "ride_disp.mp4")
    assert (codec, pixels) == ("h264", "yuv420p") and images.shape == (12, HEIGHT, 2 * WIDTH, 3)
    np.testing.assert_allclose(times, np.arange(12) / 12, atol=2e-3)
    assert length == pytest.approx(1.0, abs=0.01)
    raw = (tmp_path / "ride_disp.mp4").read_bytes()
    assert raw.index(b"moov") < raw.index(b"mdat")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_show_frame_and_depth_in_their_colours(tmp_path, layout):
    grey = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    grey[:, WIDTH // 2 :] = 200
    write_video(tmp_path / "a.mp4", [grey] * 4)
    predict_video(source(tmp_path / "a.mp4"), str(tmp_path / "b.mp4"), StandIn(), Look(layout, "viridis", (1, 5)),
                  quiet=True)  # fmt: skip
    _, images, _ = decoded(tmp_path / "b.mp4")
    depth = colour_disparity(grey[..., 0] / np.float32(255) + np.float32(0.1), (0.2, 1.0), "viridis")
    wanted = {
        "side_by_side": np.concatenate([grey, depth], 1),
        "stacked": np.concatenate([grey, depth], 0),
        "depth": depth,
        "overlay": np.rint(0.6 * depth + 0.4 * grey),
    }[layout]
    assert images[2].shape == wanted.shape
    difference = np.abs(images[2].astype(float) - wanted)
    assert np.median(difference) <= 4 and np.mean(difference) < 6  # what encoding takes


def test_times_of_an_uneven_video_stay_and_odd_sizes_become_even(tmp_path):
    times = [0, 0.1, 0.5, 0.55, 1.3]
    write_video(tmp_path / "a.mkv", ride(1, 5), times=times)
    predict_video(source(tmp_path / "a.mkv"), str(tmp_path / "b.mp4"), StandIn(), quiet=True)
    np.testing.assert_allclose(decoded(tmp_path / "b.mp4")[0], times, atol=2e-3)
    with video_file(str(tmp_path / "odd.mp4")) as writer:
        for number in range(3):
            writer.write(number / 10, np.zeros((33, 51, 3), np.uint8))
    assert decoded(tmp_path / "odd.mp4")[1].shape == (3, 32, 50, 3)
    with video_file(str(tmp_path / "large.mp4")) as writer:
        writer.write(0, np.zeros((64, 8192, 3), np.uint8))
    assert decoded(tmp_path / "large.mp4")[1].shape == (1, 32, 4096, 3)


def test_batches_give_the_same_frames(tmp_path):
    write_video(tmp_path / "a.mp4", ride(2, 7))
    for size in (1, 3):
        predict_video(source(tmp_path / "a.mp4"), str(tmp_path / f"{size}.mp4"), StandIn(), batch_size=size, quiet=True)
    np.testing.assert_array_equal(decoded(tmp_path / "1.mp4")[1], decoded(tmp_path / "3.mp4")[1])


class Looped:
    """A source of `count` small frames; notes the process's resident memory in MB by frame."""

    path, notices, length, rate, endless = "loop", (), None, 25.0, False

    def __init__(self, count):
        self.count, self.memory = count, {}

    def frames(self):
        some = [frame[:64, :96] for frame in ride(7, 8)]
        for number in range(self.count):
            if number % 500 == 0:
                with open("/proc/self/statm") as file:
                    self.memory[number] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
            yield number / 25, some[number % 8]


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="tells no resident memory")
def test_memory_does_not_grow_with_the_length(tmp_path):
    looped = Looped(3001)
    assert predict_video(looped, str(tmp_path / "long.mp4"), StandIn(), quiet=True).frames == 3001
    assert looped.memory[3000] - looped.memory[1000] < 5, looped.memory


def test_the_range_follows_a_change_exponentially_and_limits_hold_it():
    steady = SteadyRange()
    assert steady.follow(np.full((40, 40), 2.0), 0) == (2, 2)
    low, high = steady.follow(np.full((40, 40), 3.0), ADAPTATION)
    assert low == high == pytest.approx(3 - np.exp(-1))
    assert steady.follow(np.full((40, 40), 3.0), 100 * ADAPTATION)[0] == pytest.approx(3)
    assert SteadyRange((2, 4)).follow(np.full((4, 4), 9.0), 0) == (0.25, 0.5)


@pytest.mark.parametrize("size", [(375, 1242), (96, 64), (64, 200), (400, 90)])
def test_a_frame_comes_to_the_network_as_an_image_does(size):
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    wanted = network_values(Image.fromarray(frame), 64, 96)
    found = frame_values(frame, 64, 96)
    assert found.dtype == np.float32 and np.array_equal(found, wanted)


def test_the_table_of_colours_is_the_map():
    disparity = np.linspace(-0.5, 1.5, 4000, dtype=np.float32).reshape(40, 100)
    for name in ("magma", "turbo"):
        table = colour_by_table(disparity, 0.0, 1.0, colour_table(name))
        exact = colour_disparity(disparity, (0.0, 1.0), name)
        assert np.abs(table.astype(int) - exact).max() <= 12  # half a step of 256


def test_a_thread_reads_ahead_but_not_far():
    read = []

    def items():
        for number in range(100):
            read.append(number)
            yield number

    reader = ahead(items(), 3)
    assert [next(reader) for _ in range(5)] == list(range(5))
    time.sleep(0.3)
    assert len(read) <= 5 + 3 + 1
    reader.close()
    assert len(read) <= 5 + 3 + 2


def test_what_threads_raise_arrives():
    def broken():
        yield 1
        raise UserError("a", "b", "c")

    with pytest.raises(UserError, match="a; b; c"):
        list(ahead(broken()))

    def consume(items):
        next(items)
        raise UserError("full", "b", "c")

    with pytest.raises(UserError, match="full"), Consumer(consume, 2) as consumer:
        for number in range(100):
            consumer.give(number)
            time.sleep(0.01)


# ------------------------------------------------------------------------------------------------------------- failing


def refused(code, capsys):
    told = capsys.readouterr().err
    assert code == 2 and told.startswith("error: ") and told.count("\n") == 1, told
    return told


def run(weights, *flags):
    return test_simple.main(list(map(str, ("--load_weights_folder", weights, "--no_cuda", *flags))))


def test_a_video_that_is_cut_off_gives_a_part_that_says_so(weights, tmp_path, capsys):
    write_video(tmp_path / "a.mp4", ride(3, 40), options={"movflags": "+faststart"})
    whole = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    told = refused(run(weights, "--image_path", tmp_path / "cut.mp4"), capsys)
    assert "damaged or cut off" in told and "cut_disp_partial.mp4" in told
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "cut.mp4", "cut_disp_partial.mp4"]
    assert 5 < len(decoded(tmp_path / "cut_disp_partial.mp4")[0]) < 40


def test_what_is_no_video_leaves_nothing(weights, tmp_path, capsys):
    for name, content in (("no.mp4", b"nonsense"), ("empty.avi", b"")):
        (tmp_path / name).write_bytes(content)
        assert name in refused(run(weights, "--image_path", tmp_path / name), capsys)
    assert "no such image, video" in refused(run(weights, "--image_path", tmp_path / "gone.mp4"), capsys)
    assert sorted(os.listdir(tmp_path)) == ["empty.avi", "no.mp4"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--camera", 61), "no such camera"),
        (("--camera", 0, "--save_depth"), "--save_depth is for images"),
        (("--image_path", "VIDEO", "--point_cloud"), "--point_cloud is for images"),
        (("--image_path", "VIDEO", "--limits", 5, 2), "not near and far"),
        (("--image_path", "VIDEO", "--colour_map", "rainbows"), "no such colour map"),
        (("--image_path", "VIDEO", "--metric", "--pred_depth_scale_factor", 2), "two scales"),
        (("--image_path", "VIDEO", "--metric"), "no metric scale"),
        (("--image_path", "VIDEO", "--fov", 60), "--fov is for point clouds"),
        (("--image_path", "VIDEO", "--display"), "--display"),
    ],
)
def test_mistakes_are_one_line(weights, tmp_path, capsys, monkeypatch, flags, words):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    write_video(tmp_path / "a.mp4", ride(4, 3))
    flags = [tmp_path / "a.mp4" if flag == "VIDEO" else flag for flag in flags]
    assert words in refused(run(weights, *flags), capsys)
    assert os.listdir(tmp_path) == ["a.mp4"]


def started(weights, video, out, limit_kb=None):
    words = [sys.executable, "test_simple.py", "--load_weights_folder", weights, "--image_path", video,
             "--output_dir", out, "--no_cuda"]  # fmt: skip
    if limit_kb:
        words = ["sh", "-c", f'ulimit -f {limit_kb}; exec "$@"', "sh", *words]
    return subprocess.Popen(list(map(str, words)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_leaves_a_whole_file_or_none(weights, tmp_path, signum):
    noise = [np.roll(ride(5, 1)[0], 5 * number, 1) for number in range(30)]
    write_video(tmp_path / "long.mp4", noise * 60)
    out = tmp_path / "out"
    process = started(weights, tmp_path / "long.mp4", out)
    ends = time.monotonic() + LIMIT
    while not (out.exists() and os.listdir(out)) and time.monotonic() < ends:
        time.sleep(0.02)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signum)
    _, told = process.communicate(timeout=LIMIT)
    names = os.listdir(out)
    if signum == signal.SIGKILL:
        assert process.returncode == -signum and not [name for name in names if not name.startswith(".")]
        return
    assert process.returncode == 128 + signum and told.count("\n") == 1
    assert names == ["long_disp.mp4"]
    assert 0 < len(decoded(out / "long_disp.mp4")[0]) < 1800


def test_a_file_that_cannot_grow_is_one_line_and_leaves_nothing(weights, tmp_path):
    write_video(tmp_path / "a.mp4", ride(6, 60))
    process = started(weights, tmp_path / "a.mp4", tmp_path / "out", limit_kb=8)
    _, told = process.communicate(timeout=LIMIT)
    assert process.returncode == 2 and told.count("\n") == 1 and "a_disp.mp4" in told
    assert os.listdir(tmp_path / "out") == []
