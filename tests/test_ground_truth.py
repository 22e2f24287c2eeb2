"""Ground-truth files: built from scans or improved maps, read back exactly, hostile and broken ones refused."""

import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

import export_gt_depth
import kitti_utils
from evaluation import ground_truth
from evaluation.ground_truth_file import load_ground_truth
from system.errors import UserError
from tests.bomb import Bomb

DRIVE = "2011_09_26/2011_09_26_drive_0002_sync"
CAMERAS = "S_rect_02: {} {}\nR_rect_00: 1 0 0 0 1 0 0 0 1\nP_rect_02: 60 0 30 5 0 60 10 0 0 0 1 0\n"
VELODYNE = "R: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 -0.3\n"


@pytest.fixture
def data(tmp_path):
    """Two days of different image sizes with three scans each, and a split folder that names them."""
    lines = []
    for number, (day, width) in enumerate((("2011_09_26", 60), ("2011_09_28", 64))):
        folder = tmp_path / "raw" / day / f"{day}_drive_0002_sync" / "velodyne_points" / "data"
        folder.mkdir(parents=True)
        (tmp_path / "raw" / day / "calib_cam_to_cam.txt").write_text(CAMERAS.format(width, 20))
        (tmp_path / "raw" / day / "calib_velo_to_cam.txt").write_text(VELODYNE)
        for frame in (3, 1, 2):
            points = np.random.default_rng(10 * number + frame).uniform((1, -3, -1, 0), (9, 3, 1, 1), (200, 4))
            points.astype("<f4").tofile(folder / f"{frame:010d}.bin")
            lines.append(f"{day}/{day}_drive_0002_sync {frame} l\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "test_files.txt").write_text("".join(lines))
    return tmp_path


def expected(data, line, **options):
    folder, frame, _ = line.split()
    scan = data / "raw" / folder / "velodyne_points" / "data" / f"{int(frame):010d}.bin"
    return kitti_utils.generate_depth_map(data / "raw" / folder.split("/")[0], scan, **options)


def run(*arguments):
    return export_gt_depth.main([str(argument) for argument in arguments])


def published_file(path, depths):
    content = np.empty(len(depths), dtype=object)
    content[:] = depths
    np.savez_compressed(path, data=content)
    return path


def pickle_file(path, stream, shape=(1,)):
    """A file whose object array is an arbitrary pickle stream."""
    header = {"descr": "|O", "fortran_order": False, "shape": shape}
    with zipfile.ZipFile(path, "w") as archive, archive.open("data.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, header)
        member.write(stream)
    return path


@pytest.mark.parametrize("workers", [1, 3])
def test_export_writes_list_order_and_reads_back(data, workers, capsys):
    assert run("--data_path", data / "raw", "--split", data / "mine", "--num_workers", workers) == 0
    path = data / "mine" / "gt_depths.npz"
    assert f"{path}: 6 images" in capsys.readouterr().out
    lines = (data / "mine" / "test_files.txt").read_text().splitlines()
    depths = load_ground_truth(path, lines)
    assert len(depths) == 6 and {depth.shape for depth in depths} == {(20, 60), (20, 64)}
    for line, depth in zip(lines, depths, strict=True):
        assert depth.dtype == np.float32
        np.testing.assert_array_equal(depth, expected(data, line, vel_depth=True))


def test_file_needs_no_pickle_and_leaves_no_halves(data):
    path = ground_truth.build(data / "raw", data / "mine", quiet=True)
    with np.load(path, allow_pickle=False) as content:
        assert list(content) == [f"depth_{number:05d}" for number in range(6)]
        assert all(content[name].dtype == np.float32 for name in content)
    assert sorted(os.listdir(data / "mine")) == ["gt_depths.npz", "test_files.txt"]


def test_camera_depth_is_an_option(data):
    out = data / "out" / "depth.npz"
    assert run("--data_path", data / "raw", "--split", data / "mine", "--camera_depth", "--output", out) == 0
    line = (data / "mine" / "test_files.txt").read_text().splitlines()[4]
    np.testing.assert_array_equal(load_ground_truth(out)[4], expected(data, line))


def test_real_frames_equal_the_reference(kitti_sample, tmp_path):
    with np.load(os.path.join(os.path.dirname(__file__), "reference", "ground_truth.npz")) as figures:
        lines = [f"{figures[f'name_{i}']} l" for i in range(5)]
        path = ground_truth.build(
            kitti_sample / "kitti_raw", "eigen", lines, output=tmp_path / "gt_depths.npz", quiet=True
        )
        for number, depth in enumerate(load_ground_truth(path, lines)):
            prefix = f"velodyne_depth_{number}_"
            assert np.count_nonzero(depth) == figures[prefix + "count"]
            np.testing.assert_allclose(depth.ravel()[figures[prefix + "index"]], figures[prefix + "depth"], atol=1e-3)


def test_eigen_benchmark_takes_the_improved_maps(data):
    values = np.zeros((30, 40), np.uint16)
    values[3, 4] = 512
    folder = data / "raw" / DRIVE / "proj_depth" / "groundtruth" / "image_02"
    folder.mkdir(parents=True)
    Image.fromarray(values).save(folder / "0000000001.png")
    out = data / "depth.npz"
    ground_truth.build(data / "raw", "eigen_benchmark", [f"{DRIVE} 1 l"], output=out, quiet=True)
    depth = load_ground_truth(out)[0]
    assert depth.shape == (30, 40) and depth[3, 4] == depth.sum() == 2
    Image.fromarray(values.astype(np.uint8)).save(folder / "0000000001.png")
    with pytest.raises(UserError, match="no 16-bit PNG"):
        ground_truth.build(data / "raw", "eigen_benchmark", [f"{DRIVE} 1 l"], output=out, quiet=True)
    with pytest.raises(UserError, match="1 of 1 improved depth maps .*test entry 1"):
        ground_truth.build(data / "raw", "eigen_benchmark", [f"{DRIVE} 2 l"], output=out, quiet=True)


def test_paths_of_published_and_own_splits(data):
    assert ground_truth.ground_truth_path("eigen").endswith(os.path.join("splits", "eigen", "gt_depths.npz"))
    assert ground_truth.ground_truth_path(data / "mine") == str(data / "mine" / "gt_depths.npz")


@pytest.mark.parametrize("kind", ["scan missing", "scan cut off", "calibration missing", "not npz", "no such split"])
def test_mistakes_take_one_line_and_leave_nothing(data, capsys, kind):
    arguments = ["--data_path", data / "raw", "--split", data / "mine"]
    scan = data / "raw" / DRIVE / "velodyne_points" / "data" / "0000000002.bin"
    if kind == "scan missing":
        scan.unlink()
    elif kind == "scan cut off":
        scan.write_bytes(scan.read_bytes()[:-1])
    elif kind == "calibration missing":
        (data / "raw" / "2011_09_28" / "calib_cam_to_cam.txt").unlink()
    elif kind == "not npz":
        arguments += ["--output", data / "mine" / "depth.txt"]
    else:
        arguments[-1] = data / "nowhere"
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    if "scan" in kind:
        assert "0000000002.bin" in captured.err and "test_files.txt line 3" in captured.err
    assert os.listdir(data / "mine") == ["test_files.txt"]


# --- the published form --------------------------------------------------------------------------------------------

DEPTHS = [np.arange(12.0).reshape(3, 4), np.arange(10, dtype=">f4").reshape(2, 5), np.eye(3, dtype=np.uint16)]


def test_published_object_array_is_read(tmp_path):
    depths = load_ground_truth(published_file(tmp_path / "gt.npz", DEPTHS))
    assert len(depths) == 3
    for depth, original in zip(depths, DEPTHS, strict=True):
        assert depth.dtype == np.float32 and depth.flags.writeable
        np.testing.assert_array_equal(depth, original)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol_and_memory_order_is_read(tmp_path, protocol):
    content = np.empty(2, dtype=object)
    content[:] = [DEPTHS[0], np.asfortranarray(DEPTHS[0][:2])]
    stream = pickle.dumps(content, protocol=protocol)
    depths = load_ground_truth(pickle_file(tmp_path / "gt.npz", stream, (2,)))
    np.testing.assert_array_equal(depths[0], DEPTHS[0])
    np.testing.assert_array_equal(depths[1], DEPTHS[0][:2])


def test_plain_array_of_equal_sizes_is_read(tmp_path):
    np.savez(tmp_path / "gt.npz", data=np.ones((3, 4, 5)))
    depths = load_ground_truth(tmp_path / "gt.npz")
    assert len(depths) == 3 and depths[0].shape == (4, 5) and depths[0].dtype == np.float32


BOMBS = [(os.system, "touch {}"), (open, "{}", "w"), (eval, "open('{}', 'w')"), (np.save, "{}", 1)]


@pytest.mark.parametrize("bomb", BOMBS)
def test_pickle_bomb_does_not_go_off(tmp_path, bomb):
    mark = tmp_path / "went_off"
    function, *arguments = bomb
    content = Bomb(function, *(a.format(mark) if isinstance(a, str) else a for a in arguments))
    path = pickle_file(tmp_path / "gt.npz", pickle.dumps(content))
    with pytest.raises(UserError, match="not a ground-truth file; .*gt.npz: UnpicklingError: it asks for"):
        load_ground_truth(path)
    assert os.listdir(tmp_path) == ["gt.npz"]


@pytest.mark.parametrize("content", ["text", 7, None, [1, 2], {"a": 1}, np.array(["text"]), np.array([None, 3, "a"])])
def test_pickles_of_other_things_are_refused(tmp_path, content):
    with pytest.raises(UserError):
        load_ground_truth(pickle_file(tmp_path / "gt.npz", pickle.dumps(content)))


# --- broken files --------------------------------------------------------------------------------------------------


def test_cut_off_and_foreign_files_are_refused(data, tmp_path):
    path = ground_truth.build(data / "raw", data / "mine", quiet=True)
    whole = pathlib.Path(path).read_bytes()
    broken = tmp_path / "broken.npz"
    for content in (whole[: len(whole) // 2], b"", b"nonsense" * 100):
        broken.write_bytes(content)
        with pytest.raises(UserError, match="not a ground-truth file, or one cut off"):
            load_ground_truth(broken)
    np.savez(broken, other=np.ones(3))
    with pytest.raises(UserError, match="without ground truth"):
        load_ground_truth(broken)
    np.savez(broken, depth_00000=np.ones(3))
    with pytest.raises(UserError, match="no depth map"):
        load_ground_truth(broken)[0]
    with pytest.raises(UserError, match="missing ground truth"):
        load_ground_truth(tmp_path / "none.npz")
    damaged = bytearray(whole)
    damaged[len(whole) // 3 : len(whole) // 3 + 40] = bytes(40)
    broken.write_bytes(damaged)
    with pytest.raises(UserError, match="damaged ground truth"):
        list(load_ground_truth(broken))


def test_file_of_another_list_is_refused(data):
    path = ground_truth.build(data / "raw", data / "mine", quiet=True)
    lines = (data / "mine" / "test_files.txt").read_text().splitlines()
    with pytest.raises(UserError, match="6 images for a list of 5"):
        load_ground_truth(path, lines[:5])
    with pytest.raises(UserError, match="made for another list"):
        load_ground_truth(path, [*lines[:5], f"{DRIVE} 9 l"])


def test_sequence_travels_to_another_process(data):
    depths = load_ground_truth(ground_truth.build(data / "raw", data / "mine", quiet=True))
    first = depths[0]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(depths))[0], first)
    with pytest.raises(IndexError):
        depths[6]


def test_damage_anywhere_is_one_line_whatever_numpy_makes_of_it(tmp_path):
    """A thousand damaged files, bits flipped in headers and in compressed data."""
    import random

    from evaluation.predictions import stored_disparities

    generator = random.Random(1)
    array, archive = tmp_path / "d.npy", tmp_path / "gt_depths.npz"
    np.save(array, np.ones((3, 4, 5), np.float32))
    np.savez_compressed(archive, depth_00000=np.random.default_rng(1).random((40, 50), np.float32))
    whole = {array: array.read_bytes(), archive: archive.read_bytes()}

    def read_all(path):
        depths = load_ground_truth(path)
        return [depths[index] for index in range(len(depths))]

    outcomes = set()
    for path, read in ((array, lambda path: stored_disparities(path, 3)), (archive, read_all)):
        for _ in range(500):
            content = bytearray(whole[path])
            for _ in range(generator.randint(1, 4)):
                place = generator.randrange(140 if path == array else len(content))
                content[place] = generator.randrange(256)
            path.write_bytes(content)
            try:
                read(path)
                outcomes.add("read")
            except UserError:
                outcomes.add("refused")
    assert outcomes == {"read", "refused"}
