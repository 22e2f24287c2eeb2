"""Exporting a weights folder: load, write down, check, convert, check again, write."""

import os
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from checkpointing.fetched import weights_folder
from checkpointing.files import check_finite
from checkpointing.folders import load_depth_network
from datasets.images import read_rgb
from exporting import checks, formats, precision, web
from exporting.facts import facts
from exporting.network import ExportedNetwork, Form
from exporting.onnx_file import onnx_model
from networks.model_table import LARGEST_IMAGE
from system import files, memory
from system.errors import UserError, UserErrors
from system.progress import Progress

LEAST_OF_ANY_SIZE = 64  # pixels of a side: the tracer takes a free dimension of one block of 32 as fixed
LARGE = 2**21  # pixels of an image that takes long
BYTES_A_PIXEL = 200  # that an export takes at the very least; lite-mono-tiny measured 250
LARGEST_SCALE = 1e9  # metres per unit of depth; float32 numbers stay far from their limits
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")


class Row(NamedTuple):
    """A line of the table: what, its size in bytes, milliseconds an image, the `checks.Difference` from float32."""

    name: str
    size: int
    milliseconds: float
    difference: checks.Difference


def export(opt):
    """Export as the command line's options say; print what was done.

    Raises:
        UserError: options that contradict each other, weights or images that cannot be used, a missing package, a file
            that fails its check.
    """
    problems = [UserError(*problem) for problem in _contradictions(opt)]
    if problems:
        raise UserErrors(problems)
    if opt.web:
        web.runtime_files(opt.onnxruntime_web)
        web.refuse_foreign(opt.web)
    folder = weights_folder(opt.load_weights_folder)
    network = load_depth_network(folder, opt.model, dilations=opt.dilations)
    check_finite(folder, network.encoder, network.decoder)
    if 0 not in network.decoder.scales:
        raise UserError("the weights predict no disparity at full size", folder, "train with scale 0 in --scales")
    form = _form(opt, network)
    if opt.any_size and min(form.size) < LEAST_OF_ANY_SIZE:
        fix = f"add --height and --width of {LEAST_OF_ANY_SIZE} or more, or leave it out"
        raise UserError("graphs for any size begin at 64 pixels", f"--any_size with {form.size[1]}x{form.size[0]}", fix)
    pixels = read_images(opt.images, form, opt.calibration_images) if opt.images else []
    trials = checks.trial_images(form, pixels[:: max(1, len(pixels) // checks.REAL_IMAGES)][: checks.REAL_IMAGES])
    about = facts(form, opt, network, folder)
    height, width = form.size
    print(f"{network.model}, {width}x{height}, {opt.precision}: {about['preprocessing']} -> {about['meaning']}")
    if height * width > LARGE:
        print(f"an image of {height * width / 1e6:.0f} million pixels: this takes minutes", flush=True)
    wanted = [checks.expected(network, form, image) for image in trials]
    module = ExportedNetwork(network, form).eval()
    content, rows = _made(opt, module, form, about, pixels, trials, wanted)
    if rows:
        print(table(rows))
        _refuse_what_is_too_far(opt, rows[-1])
    if opt.web:
        web.write_page(opt.web, content[".onnx"], about, opt.onnxruntime_web)
        print(f"written: {opt.web}; show it with python -m http.server --directory {opt.web}")
    if opt.out:
        for path in formats.write(opt.out, content):
            print(f"written: {path}, {files.size_text(os.path.getsize(path))}")


def _contradictions(opt):
    half = opt.precision != "float32"
    if not opt.out and not opt.web:
        yield "nothing to write", "neither --out nor --web", "add --out FILE"
    if opt.out and not opt.out.endswith(formats.ENDINGS[opt.format]):
        yield f"a file of format {opt.format} ends in {formats.ENDINGS[opt.format]}", f"--out {opt.out}", "rename it"
    for name in ("height", "width"):
        value = getattr(opt, name)
        if value is not None and value % 32:
            yield "a size that is no multiple of 32", f"--{name} {value}", "choose a multiple of 32"
    if opt.any_size and opt.resize:
        yield "two ways to treat the image's size", "--any_size and --resize", "drop one"
    if half and opt.format.startswith("torch"):
        yield f"{opt.format} files are written in float32", f"--precision {opt.precision}", "choose --format onnx"
    if opt.precision == "int8" and not opt.images:
        yield "int8 is calibrated on images of yours", "no --images", "add --images FOLDER"
    if opt.web and (opt.format != "onnx" or opt.input != "float" or opt.any_size or opt.any_batch or opt.resize):
        which = "--web with another --format or --input, --any_size, --any_batch or --resize"
        yield "the page takes the plain graph", which, "drop those"
    if not 1 / LARGEST_SCALE <= opt.metric_scale <= LARGEST_SCALE:
        yield "a scale that is out of range", f"--metric_scale {opt.metric_scale}", "give metres per unit of depth"


def _form(opt, network):
    size = opt.height or network.height, opt.width or network.width
    pixels, what = size[0] * size[1], f"{size[1]}x{size[0]}"
    if pixels > LARGEST_IMAGE:
        fix = f"height times width may be {LARGEST_IMAGE} pixels at most"
        raise UserError("the graph's image is too large", what, fix)
    memory.refuse_beyond(pixels * BYTES_A_PIXEL, f"tracing at {what}", "lower --height and --width")
    return Form(size, opt.input, opt.resize, opt.any_size, opt.any_batch, opt.depth, opt.metric_scale)


def read_images(folder, form, count):
    """Return up to `count` images of a folder, spread over it: (H, W, 3) uint8 arrays of the form's size.

    Raises:
        UserError: no such folder, no images in it, or one of them is damaged (named).
    """
    folder = os.path.expanduser(folder)
    if not os.path.isdir(folder):
        raise UserError("no such folder of images", folder, "check --images")
    names = sorted(name for name in os.listdir(folder) if name.lower().endswith(IMAGE_ENDINGS))
    names = [name for name in names if not os.path.splitext(name)[0].endswith("_disp") and not files.is_partial(name)]
    if not names:
        raise UserError("no images in the folder", folder, f"give one with {', '.join(IMAGE_ENDINGS)} files")
    height, width = form.size
    pixels = []
    for index in np.unique(np.linspace(0, len(names) - 1, min(count, len(names))).astype(int)):
        image = ImageOps.exif_transpose(read_rgb(os.path.join(folder, names[index])))
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.LANCZOS)
        pixels.append(np.array(image))
    return pixels


def _made(opt, module, form, about, pixels, trials, wanted):
    """Return ({ending: bytes}, rows of the table) of the file asked for, checked."""
    if opt.format.startswith("torch"):
        make = formats.torch_files if opt.format == "torch" else formats.torchscript_files
        content, run = make(module, form, about)
        _told(checks.demand(run, form, trials, wanted, f"{opt.format} file"), trials, opt.format)
        return content, []
    model = onnx_model(module, form, opt.opset, about)
    run = checks.onnxruntime_function(model)
    found = checks.demand(run, form, trials, wanted, "ONNX file on onnxruntime")
    _told(found, trials, f"opset {opt.opset}, {len(model.graph.node)} operators, onnxruntime")

    def finished(made, name):
        content, run = formats.onnx_files(made)
        if opt.format == "openvino":
            content, run = formats.openvino_files(made, name, about)
        return content, run

    content, run = finished(model, "float32")
    if opt.format == "openvino":
        _told(checks.demand(run, form, trials, wanted, "OpenVINO file"), trials, "OpenVINO")
    if opt.precision == "float32":
        return content, []
    real = trials[-min(len(pixels), checks.REAL_IMAGES) :] if pixels else trials
    targets = wanted[-len(real) :]
    rows = [_row("float32", content, run, form, real, targets)]
    reduced = _reduced(opt, model, form, pixels, real, targets)
    for key in list(about):
        if key not in {each.key for each in reduced.metadata_props}:
            reduced.metadata_props.add(key=key, value=about[key])
    content, run = finished(reduced, opt.precision)
    return content, [*rows, _row(opt.precision, content, run, form, real, targets)]


def _told(found, trials, what):
    count = "1 image" if len(trials) == 1 else f"{len(trials)} images"
    print(f"checked against torch on {count}: {what}: relative difference {found.relative:.1e}")


def _row(name, content, run, form, images, wanted):
    try:
        moved = checks.compare(run, form, images, wanted)
    except ValueError as error:
        raise UserError(
            "the exported file fails its check", f"{name}: {error}", "choose another --precision"
        ) from error
    size = sum(map(len, content.values()))
    return Row(name, size, precision.milliseconds(run, images[0].numpy()), moved)


def _reduced(opt, model, form, pixels, real, targets):
    if opt.precision == "float16":
        return precision.to_float16(model)
    inputs = [checks.as_input(form, each).numpy() for each in pixels]
    print(f"calibrating on {len(inputs)} images", flush=True)
    quantiser = precision.Int8(model, inputs)
    with Progress("measuring", len(quantiser.groups), "groups") as progress:
        found = quantiser.sensitivities(form, real, targets, progress.advance)
    made, kept, _ = quantiser.within(opt.limit, found, form, real, targets)
    print(precision.sensitivity_table(found, kept))
    return made


def table(rows):
    """Return size, time and error of each precision beside each other."""
    lines = [
        f"{'precision':<11}{'file':>10}{'an image':>12}{'change of depth':>17}{'disparity: mean':>17}{'largest':>9}"
    ]
    for row in rows:
        moved = row.difference
        lines.append(f"{row.name:<11}{files.size_text(row.size):>10}{row.milliseconds:>9.1f} ms{moved.abs_rel:>17.5f}"
                     f"{moved.mean:>17.5f}{moved.largest:>9.4f}")  # fmt: skip
    return "\n".join(lines)


def _refuse_what_is_too_far(opt, row):
    if row.difference.abs_rel <= opt.limit:
        return
    which = f"{row.name}: depth changes by {row.difference.abs_rel:.4f} on average, the limit is {opt.limit:g}"
    if not opt.force:
        raise UserError("this precision changes the result too much", which, "nothing was written; give more --images "
                        "like those in use, raise --limit, or add --force")  # fmt: skip
    print(f"written all the same (--force): {which}")
