"""What a file says about itself: plain texts, stored as metadata and read by `inference.onnx_runner` and the page."""

import hashlib
import os

from system.revision import revision


def facts(form, opt, network, folder):
    """Return {key: text} for a file's metadata.

    Args:
        form: an `exporting.network.Form`.
        opt: the command line's options.
        network: the `checkpointing.folders.DepthNetwork`.
        folder: where the weights came from.
    """
    height, width = form.size
    count = "B" if form.any_batch else "1"
    values = f"float32 ({count}, 3, H, W), RGB in [0, 1]" if form.given == "float" else f"uint8 ({count}, H, W, 3), RGB"
    size = "resized to the network's size inside" if form.resize else "the network's size"
    size = "multiples of 32" if form.any_size else size
    sides = "H, W" if form.any_size else f"{height}, {width}"
    unit = "metres" if form.depth else "1/metres"
    return {
        "model": network.model,
        "width": str(width),
        "height": str(height),
        "input": form.given,
        "any_size": str(form.any_size).lower(),
        "resize": str(form.resize).lower(),
        "output": form.output,
        "min_depth": repr(float(network.depth_range[0])),
        "max_depth": repr(float(network.depth_range[1])),
        "metric_scale": repr(float(form.metric_scale)),
        "precision": opt.precision,
        "preprocessing": f"{values}; H and W: {size}; normalisation is inside",
        "meaning": f"{form.output}, float32 ({count}, 1, {sides}), in {unit}",
        "weights_sha256": _digest(folder),
        "revision": revision() or "unknown",
    }


def _digest(folder):
    whole = hashlib.sha256()
    for name in ("encoder.pth", "depth.pth"):
        with open(os.path.join(folder, name), "rb") as file:
            whole.update(file.read())
    return whole.hexdigest()
