"""The body of test_simple.py: which predictor, and images, videos or a camera through it."""

import logging
import os

import numpy as np

import inference
from datasets.frames_preparation.sources import open_source
from datasets.trajectories import read_poses
from inference.arguments import FOR_IMAGES, PRECISION_OF
from inference.camera import Camera, open_window
from inference.colour import check_colour_map
from inference.images import enlarge, predict_files, read_image
from inference.intrinsics import Intrinsics
from inference.jobs import OUTPUT_MARK, is_video
from inference.point_cloud import moved, points_of, write_cloud
from inference.video import Look, predict_video, told
from system.devices import choose_device
from system.errors import UserError
from system.parallel import map_in_order

COARSE_LEVELS = 256  # a depth PNG of fewer different values than these loses much of the depth
SEQUENCE_STEP = 4  # every so manyth row and column of a sequence's images becomes points
CLOUD = "_cloud.ply"

log = logging.getLogger(__name__)


def run(opt, jobs):
    """Predict the jobs, or a camera's pictures where `opt` names one, and write what `opt` asks for.

    Args:
        opt: the command's namespace.
        jobs: `inference.jobs.Job`s of images and videos.

    Raises:
        UserError: inputs that are missing, damaged or do not match; outputs that cannot be written.
    """
    poses = read_poses(opt.poses) if opt.poses else None  # with them the images are one sequence
    if opt.colour_map != "magma":
        check_colour_map(opt.colour_map)
    videos = [job for job in jobs if is_video(job.image)]
    images = [job for job in jobs if not is_video(job.image)]
    for name in (*FOR_IMAGES, "poses"):
        if videos and getattr(opt, name):
            raise UserError(f"--{name} is for images", videos[0].image, "take a video apart with prepare_frames.py")
    if opt.display and images:
        raise UserError("--display is for videos and cameras", images[0].image, "leave it out")
    if poses is not None and len(poses) != len(images):
        raise UserError("images and poses differ in number", f"{len(images)} and {len(poses)}", f"correct {opt.poses}")
    window = open_window("depth") if opt.display else None
    camera = None if opt.camera is None else Camera(opt.camera)  # before the weights are loaded: it may not be there
    predictor, device = _predictor(opt)
    counts = [_count(images, "image"), _count(videos, "video"), _count([camera] if camera else [], "camera")]
    print(f"{predictor.model}, {predictor.width}x{predictor.height}, on {device}: {', '.join(filter(None, counts))}")
    if images:
        _run_images(opt, images, predictor, poses)
    for job in videos:
        _run_video(opt, open_source(job.image), job.output, predictor, window)
    if camera:
        _run_video(opt, camera, os.path.join(opt.output_dir or "", camera.path), predictor, window)


def _count(things, name):
    return f"{len(things)} {name}{'s' * (len(things) > 1)}" if things else None


def _predictor(opt):
    if opt.onnx:
        return inference.OnnxRunner(opt.onnx), "onnxruntime"
    device = choose_device(opt.no_cuda, opt.device)
    made = inference.Predictor(
        opt.load_weights_folder, opt.model, device, dilations=opt.dilations, metric=opt.metric,
        precision=PRECISION_OF.get(opt.amp, "float32"),
    )  # fmt: skip
    if made.metric_scale:
        print(f"depth in metres: {made.metric_scale.factor:.4g} to a unit ({made.metric_scale.method})")
    return made, device


def _run_images(opt, jobs, predictor, poses):
    outputs = {"save_depth": opt.save_depth, "save_depth_png": opt.save_depth_png}
    look = {"colour_map": opt.colour_map, "limits": opt.limits}
    scale = opt.pred_depth_scale_factor
    quiet = len(jobs) == 1
    levels = predict_files(jobs, predictor, **outputs, scale=scale, batch_size=opt.batch_size, quiet=quiet, **look)
    first = f"{jobs[0].output}{OUTPUT_MARK}.jpeg"
    print(f"written: {first}" + (f" and those of {len(jobs) - 1} more" if len(jobs) > 1 else ""))
    if levels is not None and levels < COARSE_LEVELS:
        print(f"a depth PNG has only {levels} different values, since the network's depth is relative: "
              "--pred_depth_scale_factor 30, about right for KITTI's weights, makes better use of it")  # fmt: skip
    if opt.point_cloud:
        _write_clouds(opt, jobs, poses)


def _write_clouds(opt, jobs, poses):
    """Make points of the disparities that `predict_files` has just written."""
    weights = os.path.expanduser(opt.load_weights_folder) if opt.load_weights_folder else None
    intrinsics = Intrinsics(opt.camera_file, opt.fov, weights)
    step = opt.cloud_step or (1 if poses is None else SEQUENCE_STEP)

    def points(job):
        image = read_image(job.image)
        disparity = np.load(f"{job.output}{OUTPUT_MARK}.npy", allow_pickle=False)[0, 0]
        depth = opt.pred_depth_scale_factor / enlarge(disparity, image.height, image.width)
        camera = intrinsics.camera(job.image, *image.size)
        return points_of(np.asarray(image), depth, camera, opt.limits, step)

    if poses is None:
        counts = list(map_in_order(lambda job: write_cloud(f"{job.output}{CLOUD}", [points(job)]), jobs))
        print(f"written: {jobs[0].output}{CLOUD} ({counts[0]} points)"
              + (f" and those of {len(jobs) - 1} more" if len(jobs) > 1 else ""))  # fmt: skip
        return
    if not opt.metric and opt.pred_depth_scale_factor == 1:
        log.info("depth is relative and poses are not: --metric or --pred_depth_scale_factor makes them fit")
    path = os.path.join(os.path.dirname(jobs[0].output), f"sequence{CLOUD}")
    parts = map_in_order(points, jobs)
    count = write_cloud(path, (moved(part, pose) for part, pose in zip(parts, poses, strict=True)))
    print(f"written: {path} ({count} points of {len(jobs)} images)")


def _run_video(opt, source, output, predictor, window):
    look = Look(opt.layout, opt.colour_map, opt.limits)
    scale = opt.pred_depth_scale_factor
    made = predict_video(source, f"{output}{OUTPUT_MARK}.mp4", predictor, look, scale, opt.batch_size, window)
    print(told(made))
