"""What the right camera file is worth: two trainings on one film of a camera unlike KITTI's.

    python -m demo.other_camera --out DIR

The camera sees 90 degrees, its principal point is off the middle, and its lens bends straight lines. One network
learns from frames straightened by the camera's own file, the other from the same film with KITTI's intrinsics, as
someone does who changes nothing. Both see the same frames for as many steps, and are tested in another street along
the same rays.
"""

import json
import os
import subprocess
import sys

import cv2
import numpy as np
from PIL import Image

from datasets import cameras
from datasets.cameras import Camera
from datasets.frames_preparation.geometry import Geometry
from demo.street.film import Film
from evaluation import METRICS
from evaluation.metrics import compute_errors
from inference.predictor import Predictor
from system import files
from system.command_line import Parser, command, positive, whole
from system.errors import UserError
from system.progress import Progress

WIDTH, HEIGHT = 160, 96
CAMERA = Camera(80.0, 80.0, 67.0, 53.0, WIDTH, HEIGHT, (-0.25, 0.05, 0.0, 0.0, 0.0))
KITTI = Camera(0.58 * WIDTH, 1.92 * HEIGHT, 0.5 * WIDTH, 0.5 * HEIGHT, WIDTH, HEIGHT)
FILES = {"right": CAMERA, "kitti": KITTI}
WORLDS, TEST_WORLD = (1, 2, 3), 9
FARTHEST = 80.0  # metres, as in KITTI's evaluation
NETWORKS = ("--model", "lite-mono-tiny", "--pose_model_type", "posecnn", "--weights_init", "scratch", "--drop_path", 0,
            "--min_depth", 0.03, "--width", WIDTH, "--height", HEIGHT)  # fmt: skip


def parser():
    """The command line."""
    made = Parser(prog="-m demo.other_camera", description=__doc__.splitlines()[0])
    add = made.add_argument
    add("--out", required=True, metavar="DIR", help="folder to work in; a film that is there is used again")
    add("--steps", type=positive, default=300, help="of each training")
    add("--frames", type=positive, default=100, help="of each of the three streets")
    add("--batch_size", type=positive, default=6, help="of each training")
    add("--seed", type=whole, default=0, help="of each training")
    add("--json", metavar="FILE", help="write the figures here")
    return made


@command
def main(argv=None):
    """Film, prepare, train twice, compare."""
    opt = parser().parse_args(argv)
    files.refuse_as_output(opt.json, (".json",), "--json")
    films = [_film(opt, world) for world in WORLDS]
    weights = {}
    for name, camera in FILES.items():
        path, data = os.path.join(opt.out, f"{name}.json"), os.path.join(opt.out, name)
        files.write_text(path, json.dumps(camera.as_dict()))
        _run("prepare_frames.py", *films, "--every", 1, "--min_motion", 0, "--camera", path, "--out", data,
             "--test_share", 0)  # fmt: skip
        run = f"run_{name}_{opt.seed}"
        _run("train.py", "--dataset", "frames", "--data_path", data, "--split", data, "--log_dir", opt.out,
             "--model_name", run, *NETWORKS, "--batch_size", opt.batch_size, "--max_steps", opt.steps,
             "--num_epochs", 1000, "--lr", 2e-4, 2e-4, 1001, 5e-4, 5e-4, 1001, "--seed", opt.seed,
             "--save_frequency", 1000, "--num_workers", 1)  # fmt: skip
        weights[name] = _last_weights(os.path.join(opt.out, run, "models"))
    figures = compare(weights, opt.frames)
    for name, errors in figures.items():
        print(f"{name:9}" + "".join(f"  {metric} {value:.3f}" for metric, value in errors.items()))
    if opt.json:
        files.write_json(opt.json, figures)
    return 0


def compare(weights, frames):
    """Return {"right", "kitti", "constant": {metric: mean over frames of a street that no training saw}}.

    Args:
        weights: {"right", "kitti": weights folder}.
        frames: of the street; every fourth is looked at.
    """
    straight, *maps = cameras.undistortion(CAMERA)
    geometry = Geometry(WIDTH, HEIGHT, CAMERA, None, None, HEIGHT, "the camera")
    bent, true = Film(CAMERA, TEST_WORLD, frames), Film(straight, TEST_WORLD, frames)
    predictors = {name: Predictor(folder, device="cpu") for name, folder in weights.items()}
    errors = {name: [] for name in (*weights, "constant")}
    for frame in range(0, frames, 4):
        picture, truth = bent.picture(frame), true.depth(frame)
        seen_bent = predictors["kitti"].depth(picture)
        depths = {
            "right": predictors["right"].depth(geometry.apply(picture)),
            "kitti": cv2.remap(seen_bent, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
            "constant": np.ones_like(truth),
        }
        known = truth < FARTHEST
        for name, depth in depths.items():
            scaled = depth[known] * np.median(truth[known]) / np.median(depth[known])
            errors[name].append(compute_errors(truth[known], scaled))
    means = {name: np.mean(each, 0).tolist() for name, each in errors.items()}
    return {name: dict(zip(METRICS, mean, strict=True)) for name, mean in means.items()}


def _film(opt, world):
    """Write a street's frames as images unless they are there; return their folder."""
    folder = os.path.join(opt.out, f"film_{world}_{opt.frames}")
    if os.path.isdir(folder):
        return folder
    film = Film(CAMERA, world, opt.frames)
    with files.replacing_folder(folder) as partial, Progress("filming", opt.frames, "frames") as progress:
        for frame in progress.over(range(opt.frames)):
            Image.fromarray(film.picture(frame)).save(os.path.join(partial, f"{frame:06d}.png"))
    return folder


def _run(*words):
    words = [str(word) for word in words]
    print("$ python", *words, flush=True)
    code = subprocess.run([sys.executable, *words], check=False).returncode
    if code:
        raise UserError(f"{words[0]} failed", f"code {code}", "its own message stands above")


def _last_weights(models):
    epochs = [name for name in os.listdir(models) if name.removeprefix("weights_").isdecimal()]
    return os.path.join(models, max(epochs, key=lambda name: int(name.removeprefix("weights_"))))


if __name__ == "__main__":
    sys.exit(main())
