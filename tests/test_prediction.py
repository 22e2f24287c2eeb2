"""test_simple.py end to end: every kind of image, the files it leaves, and its mistakes."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import test_simple
from inference import images, jobs
from inference.colour import colour_disparity
from inference.predictor import Predictor
from layers import disp_to_depth
from system.errors import UserError
from tests.seeded_folders import HEIGHT, MODEL, WIDTH, picture, seeded_networks, write_weights


@pytest.fixture(scope="module")
def predictor(weights):
    return Predictor(weights, MODEL)


def run(weights, *image_path_and_more):
    flags = ["--load_weights_folder", weights, "--model", MODEL, "--no_cuda", "--image_path", *image_path_and_more]
    return test_simple.main([str(flag) for flag in flags])


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def expected(image):
    """Scaled disparity of a PIL image by the plain networks, (1, 1, H, W)."""
    resized = np.array(image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)).astype(np.float32) / 255
    encoder, decoder = seeded_networks()
    with torch.no_grad():
        disparity = decoder(encoder(torch.from_numpy(resized).permute(2, 0, 1)[None]))[("disp", 0)]
    return disp_to_depth(disparity, 0.1, 100)[0].numpy()


def test_one_image_gives_the_two_published_files(weights, tmp_path):
    Image.fromarray(picture(75, 130)).save(tmp_path / "street.png")
    assert run(weights, tmp_path / "street.png") == 0
    assert names(tmp_path) == ["street.png", "street_disp.jpeg", "street_disp.npy"]
    disparity = np.load(tmp_path / "street_disp.npy", allow_pickle=False)
    assert disparity.shape == (1, 1, HEIGHT, WIDTH) and disparity.dtype == np.float32
    np.testing.assert_allclose(disparity, expected(Image.fromarray(picture(75, 130))), rtol=1e-5)
    with Image.open(tmp_path / "street_disp.jpeg") as shown:
        assert shown.size == (130, 75) and shown.format == "JPEG"


def test_a_folder_is_read_by_ending_and_its_own_pictures_are_skipped(weights, tmp_path, capsys):
    for name in ("a.jpg", "B.JPG", "c.png"):
        Image.fromarray(picture(64, 96)).save(tmp_path / name)
    assert run(weights, tmp_path) == 0
    made = names(tmp_path)
    assert made == ["B.JPG", "B_disp.jpeg", "B_disp.npy", "a.jpg", "a_disp.jpeg", "a_disp.npy", "c.png"]
    assert run(weights, tmp_path, "--ext", "jpeg") == 2  # only our own pictures end so
    assert "no .jpeg images" in capsys.readouterr().err
    assert run(weights, tmp_path) == 0 and names(tmp_path) == made


def test_a_list_names_images_relative_to_itself(weights, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    Image.fromarray(picture(64, 96)).save(tmp_path / "in" / "deep" / "a b.png")
    Image.fromarray(picture(64, 96)).save(tmp_path / "in" / "c.jpg")
    (tmp_path / "in" / "list.txt").write_text(f"deep/a b.png\n\n{tmp_path / 'in' / 'c.jpg'}\n")
    assert run(weights, tmp_path / "in" / "list.txt", "--test", "--output_dir", tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a b_disp.jpeg", "a b_disp.npy", "c_disp.jpeg", "c_disp.npy"]


def test_depth_is_written_at_the_images_own_size(weights, tmp_path):
    Image.fromarray(picture(50, 90)).save(tmp_path / "a.png")
    assert run(weights, tmp_path / "a.png", "--save_depth", "--save_depth_png") == 0
    depth = np.load(tmp_path / "a_depth.npy")
    assert depth.shape == (50, 90) and depth.dtype == np.float32
    with Image.open(tmp_path / "a_depth.png") as stored:
        levels = np.asarray(stored)
    assert levels.dtype == np.uint16 and levels.shape == (50, 90)
    np.testing.assert_allclose(levels / 256, depth, atol=0.5 / 256 + 1e-6)
    disparity = np.load(tmp_path / "a_disp.npy")
    assert 1 / disparity.max() - 1e-6 <= depth.min() <= depth.max() <= 1 / disparity.min() + 1e-3


def _grey(path):
    Image.fromarray(picture(64, 96)[..., 0]).save(path)
    return Image.fromarray(picture(64, 96)[..., 0]).convert("RGB")


def _rgba(path):
    image = Image.fromarray(picture(64, 96)).convert("RGBA")
    image.save(path)
    return image.convert("RGB")


def _palette(path):
    image = Image.fromarray(picture(64, 96)).quantize(64)
    image.save(path)
    return image.convert("RGB")


def _sixteen_bits(path):
    grey = picture(64, 96)[..., 0].astype(np.uint16)
    Image.fromarray(grey * 257).save(path)
    return Image.fromarray(grey.astype(np.uint8)).convert("RGB")


def _dark_sixteen_bits(path):
    Image.fromarray(np.full((64, 96), 250, np.uint16)).save(path)
    return Image.fromarray(np.full((64, 96, 3), 1, np.uint8))


def _exif_rotated(path):
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright: turn by 90 degrees to show it
    sideways = Image.fromarray(picture(64, 96)).transpose(Image.Transpose.ROTATE_90)
    sideways.save(path, exif=turned)
    return Image.fromarray(picture(64, 96))


def _exif_rotated_grey(path):
    turned = Image.Exif()
    turned[0x0112] = 3
    grey = Image.fromarray(picture(64, 96)[..., 0])
    grey.transpose(Image.Transpose.ROTATE_180).save(path, exif=turned)
    return grey.convert("RGB")


@pytest.mark.parametrize(
    "make", [_grey, _rgba, _palette, _sixteen_bits, _dark_sixteen_bits, _exif_rotated, _exif_rotated_grey]
)
def test_every_kind_of_image_is_seen_as_8_bit_rgb(make, tmp_path):
    shown = make(tmp_path / "image.png")
    read = images.read_image(tmp_path / "image.png")
    assert read.mode == "RGB"
    np.testing.assert_array_equal(np.array(read), np.array(shown))


def test_names_beyond_ascii_work(weights, tmp_path):
    folder = tmp_path / "Straße 東京"
    folder.mkdir()
    Image.fromarray(picture(64, 96)).save(folder / "übung é.jpg")
    assert run(weights, folder) == 0
    assert names(folder) == ["übung é.jpg", "übung é_disp.jpeg", "übung é_disp.npy"]


def test_images_of_one_stem_do_not_overwrite_each_other(weights, tmp_path):
    images = [tmp_path / "x" / "a.jpg", tmp_path / "x" / "a.png", tmp_path / "y" / "a.jpg", tmp_path / "x" / "b.jpg"]
    for index, path in enumerate(images):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.roll(picture(64, 96), 9 * index, axis=1)).save(path)
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in images))
    assert run(weights, tmp_path / "list.txt", "--test", "--output_dir", tmp_path / "out") == 0
    made = [name for name in names(tmp_path / "out") if name.endswith(".npy")]
    assert made == ["a.png_disp.npy", "b_disp.npy", "x_a.jpg_disp.npy", "y_a.jpg_disp.npy"]
    assert len({np.load(tmp_path / "out" / name).tobytes() for name in made}) == 4


def test_names_that_meet_after_all_are_numbered(tmp_path):
    paths = [str(tmp_path / name) for name in ("p/x/a.jpg", "q/x/a.jpg")]
    outputs = [job.output for job in jobs._named(paths, str(tmp_path))]
    assert outputs == [str(tmp_path / "x_a.jpg"), str(tmp_path / "x_a.jpg_2")]


def test_a_long_list_is_planned_in_linear_time(tmp_path):
    planned = jobs._named([f"/data/{i // 100}/{i:06d}.jpg" for i in range(20000)], str(tmp_path))
    assert len({job.output for job in planned}) == 20000


def test_colours_run_from_the_minimum_to_the_95th_percentile():
    from matplotlib import colormaps

    disparity = np.linspace(0.1, 2, 1001, dtype=np.float32)[None]
    shown = colour_disparity(disparity)
    dark, bright = ((np.array(colormaps["magma"](value)[:3]) * 255).astype(int) for value in (0.0, 1.0))
    np.testing.assert_allclose(shown[0, 0], dark, atol=1)
    np.testing.assert_allclose(shown[0, 951:], np.broadcast_to(bright, (50, 3)), atol=1)
    assert (shown[0, 900] != bright).any()


def test_a_constant_disparity_can_be_shown():
    assert colour_disparity(np.ones((4, 5), np.float32)).shape == (4, 5, 3)


def test_prediction_is_usable_from_python(predictor, tmp_path):
    Image.fromarray(picture(70, 100)).save(tmp_path / "a.jpg")
    found = jobs.find_jobs(str(tmp_path), output_dir=str(tmp_path / "out"))
    images.predict_files(found, predictor, quiet=True)
    assert names(tmp_path / "out") == ["a_disp.jpeg", "a_disp.npy"]


# ------------------------------------------------------------------------------------------------ mistakes


def refused(code, capsys):
    assert code == 2
    err = capsys.readouterr().err
    assert err.count("error: ") == 1 and "Traceback" not in err
    return err


def test_a_broken_image_is_named_and_leaves_nothing(weights, tmp_path, capsys):
    Image.fromarray(picture(64, 96)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    assert "cut.jpg" in refused(run(weights, tmp_path), capsys)
    (tmp_path / "cut.jpg").write_bytes(b"no image at all")
    assert "cut.jpg" in refused(run(weights, tmp_path / "cut.jpg"), capsys)
    assert names(tmp_path) == ["cut.jpg"]


def test_missing_inputs_are_named(weights, tmp_path, capsys):
    assert "nowhere.jpg" in refused(run(weights, tmp_path / "nowhere.jpg"), capsys)
    assert "no .jpg images" in refused(run(weights, tmp_path), capsys)
    assert "list.txt" in refused(run(weights, tmp_path / "list.txt", "--test"), capsys)
    (tmp_path / "list.txt").write_text("\ngone.jpg\n")
    assert "line 2: gone.jpg" in refused(run(weights, tmp_path / "list.txt", "--test"), capsys)
    (tmp_path / "list.txt").write_bytes(b"\xff\xd8\xff\xe0")
    assert "not a list" in refused(run(weights, tmp_path / "list.txt", "--test"), capsys)
    (tmp_path / "list.txt").write_text("\n")
    assert "names no image" in refused(run(weights, tmp_path / "list.txt", "--test"), capsys)


def test_wrong_weights_are_named(weights, tmp_path, capsys):
    Image.fromarray(picture(64, 96)).save(tmp_path / "a.jpg")
    assert "no_weights" in refused(run(tmp_path / "no_weights", tmp_path), capsys)
    assert "lite-mono-tiny" in refused(run(weights, tmp_path, "--model", "lite-mono-8m"), capsys)
    assert names(tmp_path) == ["a.jpg"]


def test_an_output_folder_that_is_a_file_is_named(weights, tmp_path, capsys):
    Image.fromarray(picture(64, 96)).save(tmp_path / "a.jpg")
    (tmp_path / "out").write_text("")
    assert "out" in refused(run(weights, tmp_path / "a.jpg", "--output_dir", tmp_path / "out"), capsys)


def test_required_flags_are_asked_for(capsys):
    assert "load_weights_folder" in refused(test_simple.main(["--image_path", "a.jpg"]), capsys)


def test_help_does_not_import_torch():
    code = "import sys, test_simple\ntry: test_simple.main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


# ------------------------------------------------------------------------------------------------ what else people give


def test_a_folder_without_jpgs_is_taken_as_it_is(weights, tmp_path):
    for name in ("a.png", "b.bmp"):
        Image.fromarray(picture(64, 96)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    assert run(weights, tmp_path, "--save_depth_png") == 0
    made = names(tmp_path)
    assert [name for name in made if name.endswith(".npy")] == ["a_disp.npy", "b_disp.npy"]
    assert run(weights, tmp_path, "--save_depth_png") == 0 and names(tmp_path) == made  # a_depth.png is no input


def test_several_images_and_patterns_are_taken(weights, tmp_path, capsys):
    for name in ("a.png", "b.png", "c.jpg"):
        Image.fromarray(picture(64, 96)).save(tmp_path / name)
    out = tmp_path / "out"
    assert run(weights, tmp_path / "a.png", tmp_path / "b.png", "--output_dir", out) == 0
    assert names(out) == ["a_disp.jpeg", "a_disp.npy", "b_disp.jpeg", "b_disp.npy"]
    assert "2 images" in capsys.readouterr().out
    assert run(weights, tmp_path / "*.png", "--output_dir", tmp_path / "more") == 0
    assert names(tmp_path / "more") == names(out)
    assert run(weights, tmp_path / "a.png") == 0 and ": 1 image\n" in capsys.readouterr().out


def test_batches_of_any_size_give_the_same_files(weights, tmp_path):
    for index in range(5):
        Image.fromarray(np.roll(picture(64, 96 + index), 9 * index, axis=1)).save(tmp_path / f"{index}.jpg")
    for size in (1, 2, 8):
        assert run(weights, tmp_path, "--output_dir", tmp_path / str(size), "--batch_size", size) == 0
        for index in range(5):
            one, other = (np.load(tmp_path / str(each) / f"{index}_disp.npy") for each in (1, size))
            np.testing.assert_allclose(other, one, rtol=1e-5)


def test_the_model_is_what_the_weights_are(weights, tmp_path, capsys):
    Image.fromarray(picture(64, 96)).save(tmp_path / "a.jpg")
    flags = ["--load_weights_folder", weights, "--image_path", tmp_path / "a.jpg", "--device", "cpu"]
    assert test_simple.main([str(flag) for flag in flags]) == 0
    assert capsys.readouterr().out.startswith(f"{MODEL}, {WIDTH}x{HEIGHT}, on cpu: ")


def test_a_coarse_depth_png_is_told_and_a_scale_mends_it(weights, tmp_path, capsys):
    Image.fromarray(picture(64, 96)).save(tmp_path / "a.jpg")
    assert run(weights, tmp_path / "a.jpg", "--save_depth_png") == 0
    assert "--pred_depth_scale_factor" in capsys.readouterr().out
    before = np.asarray(Image.open(tmp_path / "a_depth.png")).astype(float)
    assert run(weights, tmp_path / "a.jpg", "--save_depth_png", "--pred_depth_scale_factor", "30") == 0
    after = np.asarray(Image.open(tmp_path / "a_depth.png")).astype(float)
    np.testing.assert_allclose(after / 30, before, atol=0.6)


def test_a_depth_array_comes_from_a_path_an_array_or_a_pil_image(predictor, tmp_path):
    shown = Image.fromarray(picture(70, 100))
    shown.save(tmp_path / "a.png")
    depth = predictor.depth(tmp_path / "a.png")
    assert depth.shape == (70, 100) and depth.dtype == np.float32
    for image in (str(tmp_path / "a.png"), shown, np.asarray(shown), np.asarray(shown) / 255.0):
        np.testing.assert_array_equal(predictor.depth(image), depth)
    np.testing.assert_allclose(predictor.disparity(shown), 1 / depth, rtol=1e-6)
    scaled = torch.from_numpy(expected(shown))
    enlarged = torch.nn.functional.interpolate(scaled, (70, 100), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(1 / depth, enlarged, rtol=1e-5)
    assert predictor.depth(np.asarray(shown)[..., 0]).shape == (70, 100)


@pytest.mark.parametrize("wrong", [np.zeros((3, 4, 5)), np.zeros((4, 5, 3)) + 2.0, np.zeros((0, 4, 3)), np.zeros(7)])
def test_an_array_that_is_no_image_is_refused(predictor, wrong):
    with pytest.raises(UserError, match="not an image"):
        predictor.depth(wrong)


def test_weights_that_are_not_finite_are_refused(tmp_path, capsys):
    def poison(encoder, _):
        encoder.stages[0][0].bn1.running_mean[3] = float("nan")

    folder = write_weights(tmp_path / "weights_0", change=poison)
    Image.fromarray(picture(64, 96)).save(tmp_path / "a.jpg")
    assert "not finite" in refused(run(folder, tmp_path / "a.jpg"), capsys)
    assert [name for name in names(tmp_path) if "disp" in name] == []


def test_predictions_that_overflow_are_refused(tmp_path, capsys):
    def swell(encoder, _):
        encoder.stages[0][0].pwconv2.weight.data.fill_(1e38)

    folder = write_weights(tmp_path / "weights_0", change=swell)
    Image.fromarray(picture(64, 96)).save(tmp_path / "a.jpg")
    assert "not finite" in refused(run(folder, tmp_path / "a.jpg"), capsys)


def test_what_is_no_image_is_told_apart(weights, tmp_path, capsys):
    import os

    (tmp_path / "clip.mp4").write_bytes(b"x")
    assert "not a video" in refused(run(weights, tmp_path / "clip.mp4"), capsys)
    assert "camera" in refused(run(weights, "0"), capsys)
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "pipe or device" in refused(run(weights, tmp_path / "pipe.jpg"), capsys)
    assert "*.gif" in refused(run(weights, tmp_path / "*.gif"), capsys)
    Image.fromarray(picture(64, 96)).save(tmp_path / "a.png")
    assert "it has .png: give --ext png" in refused(run(weights, tmp_path, "--ext", "tif"), capsys)


def test_devices_are_named_or_refused(weights, tmp_path, capsys):
    Image.fromarray(picture(64, 96)).save(tmp_path / "a.jpg")
    flags = ["--load_weights_folder", weights, "--image_path", tmp_path / "a.jpg"]
    wrong = {"gpu": "no such kind", "cuda:x": "no such kind", "cuda:77": "CUDA device", "mps": "Apple"}
    for device, words in wrong.items():
        if device == "mps" and torch.backends.mps.is_available():
            continue
        assert words in refused(test_simple.main([str(flag) for flag in (*flags, "--device", device)]), capsys)
    assert "drop one" in refused(run(weights, tmp_path / "a.jpg", "--device", "mps"), capsys)
