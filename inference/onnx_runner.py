"""Depth prediction with an exported ONNX file: numpy, Pillow and onnxruntime, and no torch.

from inference.onnx_runner import OnnxRunner
disparity = OnnxRunner("model.onnx").predict(Image.open("street.jpg"))
"""

import os

import numpy as np

from system.errors import UserError

INPUT, OUTPUTS = "image", ("disparity", "depth")


class OnnxRunner:
    """An ONNX file as `export_onnx.py` writes it, on onnxruntime.

    Args:
        path: the file.
        threads: that onnxruntime uses; 0: one a core.

    Attributes:
        facts: {key: text}, what the file says about itself.
        height, width: of the network's image.

    Raises:
        UserError: onnxruntime is missing, or the file is missing, broken, too new for it, or of another program.
    """

    def __init__(self, path, threads=0):
        runtime = _onnxruntime()
        path = os.path.expanduser(path)
        if not os.path.isfile(path):
            raise UserError("no such ONNX file", path, "write one with python export_onnx.py")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        try:
            self.session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own exceptions have no common class but this one
            raise _unreadable(path, error) from error
        self.path, self.facts = path, self.session.get_modelmeta().custom_metadata_map
        (self._given, *more), outputs = self.session.get_inputs(), [each.name for each in self.session.get_outputs()]
        known = {"model", "width", "height", "input", "output"} <= self.facts.keys() and self.facts["output"] in OUTPUTS
        if more or self._given.name != INPUT or outputs != [self.facts.get("output")] or not known:
            raise UserError("an ONNX file of another program", path, "give one that export_onnx.py wrote")
        self.model = self.facts["model"]
        self.height, self.width = int(self.facts["height"]), int(self.facts["width"])

    def __repr__(self):
        facts = self.facts
        return (
            f"{facts.get('model')}, {self.width}x{self.height}, {facts.get('precision')}, {os.path.basename(self.path)}"
        )

    def predict(self, image):
        """Return the scaled disparity of one image, (1, 1, H, W) float32 in 1/metres, also where the file gives depth.

        Args:
            image: a PIL image of any size; it is resized to the network's with Lanczos, unless the file resizes itself.
        """
        output = self.run(self.as_input(image))
        return 1 / output if self.facts["output"] == "depth" else output

    def scaled_disparity(self, images):
        """Return the scaled disparity of float32 images (B, 3, H, W) in [0, 1]: (B, 1, H, W) float32, in 1/metres."""
        if self.facts["input"] == "uint8":
            images = np.rint(255 * images.transpose(0, 2, 3, 1)).astype(np.uint8)
        parts = np.split(images, len(images)) if self._given.shape[0] == 1 else [images]
        output = np.concatenate([self.run(np.ascontiguousarray(part)) for part in parts])
        scaled = 1 / output if self.facts["output"] == "depth" else output
        if not np.isfinite(scaled).all():
            raise UserError("the predicted disparity is not finite", self.path, "export again")
        return scaled

    def as_input(self, image):
        """Return a PIL image as the file takes it: float32 (1, 3, H, W) in [0, 1], or uint8 (1, H, W, 3)."""
        from PIL import Image

        image = image.convert("RGB")
        if self.facts.get("resize") != "true" and image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), Image.Resampling.LANCZOS)
        values = np.array(image)[None]
        if self.facts["input"] == "uint8":
            return values
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)

    def run(self, images):
        """Return the file's output for images as it takes them.

        Raises:
            UserError: their size or type is another than the file's.
        """
        wanted = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}[self._given.type]
        fixed = [(side, size) for side, size in zip(self._given.shape, images.shape, strict=False) if side != size]
        wrong = images.ndim != 4 or images.dtype != wanted or any(isinstance(side, int) for side, _ in fixed)
        sides = images.shape[2:4] if wanted is np.float32 else images.shape[1:3]
        if wrong or (self.facts.get("any_size") == "true" and any(side % 32 for side in sides)):
            shape = "x".join(str(side) if isinstance(side, int) else "any" for side in self._given.shape)
            fix = f"give {np.dtype(wanted)} {shape} (any: multiples of 32), or export with --resize"
            which = f"{images.dtype} {'x'.join(map(str, images.shape))}"
            raise UserError("an image of another size or type than the file takes", which, fix)
        return self.session.run(None, {INPUT: images})[0]


def _onnxruntime():
    try:
        import onnxruntime
    except ImportError:
        raise UserError("a package is missing", "onnxruntime", "run pip install -r requirements-export.txt") from None
    return onnxruntime


def _unreadable(path, error):
    text = " ".join(str(error).split())
    if "opset" in text.lower() or "IR version" in text:
        return UserError("this onnxruntime does not know the file's version of ONNX", f"{path}: {text[-160:]}",
                         "export again with a lower --opset, or install a newer onnxruntime")  # fmt: skip
    return UserError("not a readable ONNX file", f"{path}: {text[-160:]}", "copy it again, or export it again")
