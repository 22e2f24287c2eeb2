"""A static web page that runs an exported model: our page, the model, and onnxruntime-web copied beside them."""

import json
import os
import shutil

from system import files
from system.errors import UserError

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
RUNTIME = (  # of onnxruntime-web's dist/: for WebGPU, and for processors
    "ort.webgpu.bundle.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
    "ort.wasm.bundle.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
)
FACTS = "model.json"


def runtime_files(package):
    """Return the paths of the engine's files in the folder of the npm package onnxruntime-web.

    Raises:
        UserError: it is not there, or of a version that has other files.
    """
    package = os.path.expanduser(package)
    paths = [os.path.join(package, "dist", name) for name in RUNTIME]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        fix = "run npm install onnxruntime-web, or name its folder with --onnxruntime_web"
        raise UserError("the page's engine is missing", missing[0] if os.path.isdir(package) else package, fix)
    return paths


def refuse_foreign(folder):
    """Raise UserError where `folder` holds something else than a page of ours, which would be lost."""
    if not os.path.lexists(folder):
        return
    if not os.path.isdir(folder) or (os.listdir(folder) and not os.path.isfile(os.path.join(folder, FACTS))):
        raise UserError("the folder exists and holds something else", folder, "choose another --web")


def write_page(folder, model, facts, package):
    """Write the page into `folder`, whole or not at all.

    Args:
        folder: to write; an older page there is replaced.
        model: bytes of the ONNX file.
        facts: what it says about itself.
        package: folder of the npm package onnxruntime-web.

    Raises:
        UserError: the package is missing, or the folder holds something else or cannot be written.
    """
    from matplotlib import colormaps

    runtime = runtime_files(package)
    folder = os.path.expanduser(folder)
    refuse_foreign(folder)
    colours = colormaps["magma"](range(256), bytes=True)[:, :3].tolist()
    told = facts | {"width": int(facts["width"]), "height": int(facts["height"]), "colours": colours}
    os.makedirs(os.path.dirname(os.path.abspath(folder)), exist_ok=True)
    with files.replacing_folder(folder) as partial:
        for name in os.listdir(PAGE):
            shutil.copyfile(os.path.join(PAGE, name), os.path.join(partial, name))
        files.write_bytes(os.path.join(partial, "model.onnx"), model)
        files.write_text(os.path.join(partial, FACTS), json.dumps(told))
        os.mkdir(os.path.join(partial, "ort"))
        for path in runtime:
            shutil.copyfile(path, os.path.join(partial, "ort", os.path.basename(path)))
