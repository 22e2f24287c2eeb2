"""`--dataset frames`: own videos as training data, with every option, and what --check_data says of them."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import train
from datasets import FramesDataset, lanczos
from datasets.cache import FrameCache
from datasets.frames_layout import read_depth
from datasets.on_device import complete
from system.errors import UserError
from tests.short_runs import arguments, one_line
from tests.videos import HEIGHT, WIDTH, ride

CAMERA = {"width": WIDTH, "height": HEIGHT, "fx": 150.0, "fy": 140.0, "cx": 60.0, "cy": 50.0}


def write_images(folder, frames):
    folder.mkdir(parents=True)
    for number, image in enumerate(frames):
        Image.fromarray(image).save(folder / f"{number:06d}.png")


@pytest.fixture
def data(tmp_path):
    """Two sequences, the second one a stereo pair with a camera of its own, and lists."""
    root = tmp_path / "data"
    write_images(root / "walk" / "000" / "frames", ride(0, 12))
    write_images(root / "rig" / "left", ride(1, 8))
    write_images(root / "rig" / "right", ride(2, 8))
    (root / "camera.json").write_text(json.dumps(CAMERA))
    (root / "rig" / "camera.json").write_text(json.dumps(CAMERA | {"fx": 170.0, "baseline": 0.27}))
    (root / "train_files.txt").write_text("".join(f"walk/000 {number} l\n" for number in range(1, 9)))
    (root / "val_files.txt").write_text("walk/000 10 l\n")
    return root


def make(data, lines, frames=(0, -1, 1), height=64, width=96, **options):
    return FramesDataset(data, lines, height, width, frames, 3, **options)


def test_items_hold_the_frame_its_neighbours_and_the_camera_at_their_size(data):
    item = make(data, ["walk/000 5 l"])[0]
    for offset in (0, -1, 1):
        planes = ride(0, 12)[5 + offset].transpose(2, 0, 1).astype(np.float32)
        wanted = lanczos.resize(planes, 64, 96) / 255
        assert np.allclose(item["color", offset, 0].numpy(), wanted)
    K = item["K", 0].numpy()
    # a point in the middle of a pixel of the old image comes to the middle of the same place in the new one
    for x, y in ((60.0, 50.0), (0.0, 95.0)):
        ray = np.array([(x - 60) / 150, (y - 50) / 140, 1])
        wanted = (x + 0.5) * 96 / WIDTH - 0.5, (y + 0.5) * 64 / HEIGHT - 0.5
        assert np.allclose((K[:3, :3] @ ray)[:2], wanted, atol=1e-4)
    assert np.isclose(make(data, ["rig 3 l"])[0]["K", 0][0, 0], 170 * 96 / WIDTH)


def test_a_flip_mirrors_the_image_and_cx(data):
    dataset = make(data, ["walk/000 5 l"], is_train=True)
    plain = make(data, ["walk/000 5 l"])[0]
    item = next(dataset[epoch, 0] for epoch in range(50) if dataset.draw(epoch, 0)[0])
    assert torch.equal(item["color", 0, 0], plain["color", 0, 0].flip(-1))
    assert np.isclose(item["K", 0][0, 2], 96 - plain["K", 0][0, 2]) and item["K", 0][1, 2] == plain["K", 0][1, 2]


def test_a_stride_widens_the_neighbours_and_lines_without_them_are_left_out(data, caplog):
    with caplog.at_level("INFO"):
        dataset = make(data, [f"walk/000 {number} l" for number in range(12)], frame_stride=3)
    assert [line.frame for line in dataset.lines] == list(range(3, 9))
    assert "6 of 12 lines have no frame -3, +3" in caplog.text
    narrow = make(data, ["walk/000 8 l"])
    assert torch.equal(dataset[2]["color", 1, 0], narrow[0]["color", 0, 0])


def test_a_missing_frame_is_named(data):
    with pytest.raises(UserError, match="missing image; .*000/frames/000099"):
        make(data, ["walk/000 99 l"])[0]


def test_stereo_takes_the_right_folder_and_the_baseline_in_kittis_unit(data):
    item = make(data, ["rig 3 l"], frames=(0, "s"))[0]
    planes = ride(2, 8)[3].transpose(2, 0, 1).astype(np.float32)
    assert np.allclose(item["color", "s", 0].numpy(), lanczos.resize(planes, 64, 96) / 255)
    assert np.isclose(item["stereo_T"][0, 3], -0.27 / 5.4)
    with pytest.raises(UserError, match="no stereo baseline"):
        (data / "walk" / "000" / "right").mkdir()
        shutil.copy(data / "walk/000/frames/000003.png", data / "walk/000/right/000003.png")
        make(data, ["walk/000 3 l"], frames=(0, "s"))[0]


def test_images_may_lie_in_the_sequence_itself_with_any_number_of_digits(data):
    (data / "bare").mkdir()
    for number, image in enumerate(ride(0, 12)[:3]):
        Image.fromarray(image).save(data / "bare" / f"{number}.png")
    item = make(data, ["bare 1 l"])[0]
    assert torch.equal(item["color", 0, 0], make(data, ["walk/000 1 l"])[0]["color", 0, 0])


def test_a_cache_and_the_device_give_the_same_items(data, tmp_path):
    lines = [f"walk/000 {number} l" for number in range(2, 10)] + ["rig 3 l"]
    options = {"is_train": True, "frame_stride": 2}
    plain = make(data, lines, **options)
    cached, there = (make(data, lines, on_device=each, **options) for each in (False, True))
    FrameCache.open(str(tmp_path / "cache"), cached, quiet=True)
    for index in range(len(plain)):
        wanted, found = plain[index], cached[index]
        completed = complete(torch.utils.data.default_collate([there[index]]), there.wanted)
        for key in wanted:
            assert torch.equal(wanted[key], found[key]) and torch.allclose(completed[key][0], wanted[key], atol=1e-6)


def test_depth_comes_from_png_and_npz_in_one_size(data):
    depth = data / "walk" / "000" / "depth"
    depth.mkdir()
    truth = np.random.default_rng(0).uniform(1, 60, (30, 50)).astype(np.float32)
    truth[:5] = 0
    Image.fromarray(np.rint(truth * 256).astype(np.uint16)).save(depth / "000004.png")
    np.savez(depth / "000005.npz", depth=np.where(truth == 0, np.inf, truth))
    np.savez(depth / "000006.npz", depth=np.repeat(np.repeat(truth, 2, 0), 2, 1))
    dataset = make(data, [f"walk/000 {number} l" for number in (4, 5, 6, 7)])
    assert dataset.has_depth() and not make(data, ["rig 3 l"]).has_depth()
    found = [dataset[index]["depth_gt"].numpy() for index in range(4)]
    assert all(each.shape == (1, 30, 50) for each in found) and not found[3].any()
    assert np.abs(found[0][0] - truth).max() <= 1 / 512 and np.array_equal(found[1][0], truth)
    assert np.array_equal(found[2][0], truth)


@pytest.mark.parametrize("content", [{"a": np.zeros(3)}, {"a": np.array(["x"])}, {}, None])
def test_what_is_no_depth_map_is_refused(tmp_path, content):
    path = tmp_path / "1.npz"
    path.write_bytes(b"PK\x03\x04 broken") if content is None else np.savez(path, **content)
    with pytest.raises(UserError, match="depth map"):
        read_depth(str(path))


def test_sequences_without_a_camera_or_with_a_bad_one_are_refused(data):
    (data / "camera.json").write_text(json.dumps(CAMERA | {"distortion": [0.1, 0, 0, 0, 0]}))
    with pytest.raises(UserError, match="a camera with distortion"):
        make(data, ["walk/000 3 l"])[0]
    shutil.copytree(data, data.parent / "other")
    (data.parent / "other" / "camera.json").write_text(json.dumps(CAMERA | {"cx": 900}))
    with pytest.raises(UserError, match="principal point outside"):
        make(data.parent / "other", ["walk/000 3 l"])[0]
    shutil.copytree(data, data.parent / "third")
    (data.parent / "third" / "camera.json").unlink()
    with pytest.raises(UserError, match="a sequence without a camera"):
        make(data.parent / "third", ["walk/000 3 l"])[0]


# --- as commands ---------------------------------------------------------------------------------------------------


def command(data, *more):
    return [*arguments(data, data.parent / "runs"), "--dataset", "frames", "--split", str(data), *map(str, more)]


def test_it_trains(data):
    depth = data / "walk" / "000" / "depth"
    depth.mkdir()
    np.savez(depth / "000010.npz", depth=np.full((HEIGHT, WIDTH), 7.0))
    assert train.main(command(data, "--max_steps", 2, "--batch_size", 4)) == 0
    best = next((data.parent / "runs").rglob("weights_best/metrics.json"))
    assert json.loads(best.read_text())["chosen_by"] == "abs_rel"


def test_a_stride_needs_frames(data, capsys):
    assert train.main(command(data, "--dataset", "kitti", "--frame_stride", 2)) == 2
    assert "--frame_stride is for --dataset frames" in one_line(capsys)


def check(data, capsys, *more):
    assert train.main(command(data, "--check_data", "--height", 64, "--width", 96, *more)) == 0
    return capsys.readouterr().out


def rewrite(data, frames):
    shutil.rmtree(data / "walk" / "000")
    write_images(data / "walk" / "000" / "frames", frames)


def test_checking_shows_motion_and_a_sheet_and_has_nothing_to_warn_of(data, capsys):
    said = check(data, capsys)
    assert "complete" in said and "motion: median 12" in said and "the camera only turns" in said  # it pans a picture
    assert said.count("warning") == 1
    with Image.open(data / "contact_sheet.png") as sheet:
        assert sheet.size == (4 * 320, 8 * 192)
        pixels = np.asarray(sheet)
    assert pixels[:, :960].std() > 20 and pixels[:192, 960:].mean() > 5


def test_checking_warns_of_a_still_camera(data, capsys):
    rewrite(data, ride(0, 1) * 12)
    assert "warning: the camera stands still in 100% of the pairs" in check(data, capsys)


def test_checking_warns_of_jumping_exposure_and_scene_changes(data, capsys):
    rewrite(data, [np.clip(f * (0.6 if k % 2 else 1.0), 0, 255).astype(np.uint8) for k, f in enumerate(ride(0, 12))])
    assert "warning: brightness jumps in 100% of the pairs" in check(data, capsys)
    shutil.rmtree(data / "rig")
    shutil.copytree(data, data.parent / "second")
    rewrite(data.parent / "second", [ride(seed, 1)[0] for seed in range(12)])
    assert "warning: frames are unlike their neighbours" in check(data.parent / "second", capsys)


def test_checking_warns_of_portrait_frames_and_squeezed_ones(data, capsys):
    rewrite(data, [np.rot90(frame) for frame in ride(0, 12)])
    turned = CAMERA | {"width": HEIGHT, "height": WIDTH, "cx": 50.0, "cy": 60.0}
    (data / "camera.json").write_text(json.dumps(turned))
    said = check(data, capsys)
    assert "warning: portrait frames, 96x160 (walk/000)" in said and "squeezed to 96x64" in said


def test_a_parallax_is_no_rotation(data, capsys):
    near, far = ride(0, 12, step=6), ride(3, 12, step=2)
    rewrite(data, [np.concatenate([far[k][:48], near[k][48:]]) for k in range(12)])
    assert "warning" not in check(data, capsys)
