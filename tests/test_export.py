"""export_onnx.py: every kind of file equals torch, reduced precision is measured, mistakes are one line."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import export_onnx
from exporting import checks, precision
from exporting.network import ATTENTIONS, PIXEL_NETWORKS, ExportedNetwork, Form
from inference.onnx_runner import OnnxRunner
from layers import disp_to_depth
from networks.model_table import MODELS
from system.errors import UserError
from tests.conftest import ROOT
from tests.seeded_folders import HEIGHT, MODEL, WIDTH, picture, seeded_networks

pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")
onnx = pytest.importorskip("onnx", reason="requirements-export.txt is not installed")
SIZE = HEIGHT, WIDTH


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for index in range(3):
        Image.fromarray(np.roll(picture(75, 130), 20 * index, 1)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def exported(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    assert run(weights, "--out", path) == 0
    return path


def run(weights, *more):
    words = ["--load_weights_folder", weights, "--model", MODEL, *more]
    return export_onnx.main([str(word) for word in words])


def network(model=MODEL, height=HEIGHT, width=WIDTH):
    from checkpointing.folders import DepthNetwork

    encoder, decoder = seeded_networks(model, height, width)
    return DepthNetwork(encoder, decoder, height, width, encoder.dilations)


def by_torch(image):
    """Scaled disparity of a float image (B, 3, H, W) by the networks as they are trained."""
    encoder, decoder = seeded_networks(MODEL, HEIGHT, WIDTH)
    with torch.no_grad():
        return disp_to_depth(decoder(encoder(image))[("disp", 0)], 0.1, 100)[0].numpy()


def one_error(capsys, *parts):
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in error
    assert all(part in lines[0] for part in parts), lines[0]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("pixel_networks", PIXEL_NETWORKS)
def test_every_form_of_every_model_is_the_same_function(model, attention, pixel_networks):
    net, form = network(model), Form(SIZE, pixel_networks=pixel_networks, attention=attention)
    [image] = checks.trial_images(form)
    with torch.inference_mode():
        found = ExportedNetwork(net, form).eval()(image).numpy()
    np.testing.assert_allclose(found, checks.expected(net, form, image), rtol=1e-5)


@pytest.mark.parametrize("given", [{}, {"any_size": True}, {"resize": True}, {"given": "uint8", "depth": True}])
def test_what_goes_in_and_out_follows_the_form(given):
    net, form = network(), Form(SIZE, metric_scale=5.4, **given)
    module = ExportedNetwork(net, form).eval()
    for image in checks.trial_images(form, [picture(*SIZE)]):
        plain = image if image.dtype == torch.float32 else image.permute(0, 3, 1, 2) / 255
        if form.resize:
            plain = torch.nn.functional.interpolate(plain, SIZE, mode="bilinear", antialias=True)
        wanted = 5.4 / by_torch(plain) if form.depth else by_torch(plain) / 5.4
        with torch.inference_mode():
            np.testing.assert_allclose(module(image).numpy(), wanted, rtol=1e-5)


def test_the_default_file_says_what_it_is_and_equals_torch(exported):
    model = onnx.load(exported)
    given, gives = model.graph.input[0], model.graph.output[0]
    assert (given.name, [d.dim_value for d in given.type.tensor_type.shape.dim]) == ("image", [1, 3, *SIZE])
    assert (gives.name, [d.dim_value for d in gives.type.tensor_type.shape.dim]) == ("disparity", [1, 1, *SIZE])
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 20)]
    facts = {each.key: each.value for each in model.metadata_props}
    assert facts["model"] == MODEL and facts["max_depth"] == "100.0" and len(facts["weights_sha256"]) == 64
    assert {"revision", "metric_scale", "preprocessing", "precision"} <= facts.keys()
    assert facts["preprocessing"].startswith("float32 (1, 3, H, W)") and "(1, 1, " in facts["meaning"]
    assert str(ROOT).encode() not in exported.read_bytes()  # the exporter's notes hold paths of source files
    image = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(5))
    np.testing.assert_allclose(OnnxRunner(exported).run(image.numpy()), by_torch(image), rtol=1e-4)


def test_any_size_any_batch_and_uint8_in_one_file(weights, tmp_path):
    path = tmp_path / "free.onnx"
    assert run(weights, "--out", path, "--any_size", "--any_batch", "--input", "uint8", "--opset", 18) == 0
    pixels = np.stack([picture(96, 160), picture(96, 160)[::-1]])
    found = OnnxRunner(path).run(pixels)
    np.testing.assert_allclose(found, by_torch(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255), rtol=1e-4)
    with pytest.raises(UserError, match="another size"):
        OnnxRunner(path).run(pixels[:, :70])


def test_resizing_and_depth_in_one_file(weights, tmp_path):
    path = tmp_path / "depth.onnx"
    assert run(weights, "--out", path, "--resize", "--depth", "--metric_scale", 2) == 0
    runner, image = OnnxRunner(path), picture(90, 201)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    small = torch.nn.functional.interpolate(tensor, SIZE, mode="bilinear", antialias=True)
    np.testing.assert_allclose(runner.run(tensor.numpy()), 2 / by_torch(small), rtol=1e-4)
    np.testing.assert_allclose(runner.predict(Image.fromarray(image)), by_torch(small) / 2, rtol=1e-4)


def test_openvino_and_torch_files_equal_torch(weights, images, tmp_path):
    openvino = pytest.importorskip("openvino", reason="requirements-export.txt is not installed")
    for kind, name in (("openvino", "a.xml"), ("torch", "a.pt2"), ("torchscript", "a.pt")):
        assert run(weights, "--format", kind, "--out", tmp_path / name, "--images", images) == 0
    image = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(6))
    wanted = by_torch(image)
    compiled = openvino.Core().compile_model(tmp_path / "a.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(image.numpy())[0], wanted, rtol=1e-4)
    extra = {"facts.json": ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extra)
    np.testing.assert_allclose(program.module()(image).detach().numpy(), wanted, rtol=1e-4)
    assert json.loads(extra["facts.json"])["model"] == MODEL
    np.testing.assert_allclose(torch.jit.load(tmp_path / "a.pt")(image).numpy(), wanted, rtol=1e-4)


def test_reduced_precision_prints_its_error_and_is_smaller(weights, images, exported, tmp_path, capsys):
    assert run(weights, "--out", tmp_path / "half.onnx", "--precision", "float16") == 0
    words = ("--precision", "int8", "--images", images, "--limit", 0.2)
    assert run(weights, "--out", tmp_path / "int8.onnx", *words) == 0
    printed = capsys.readouterr().out
    assert "in int8 alone" in printed and "stages.2.5" in printed and "change of depth" in printed
    sizes = [path.stat().st_size for path in (tmp_path / "int8.onnx", tmp_path / "half.onnx", exported)]
    assert sizes[0] < 0.4 * sizes[2] and sizes[1] < 0.6 * sizes[2]
    kinds = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    image = Image.open(images / "1.png")
    full, half, int8 = (OnnxRunner(path).predict(image) for path in (exported, *sorted(tmp_path.iterdir())))
    assert np.abs(half / full - 1).mean() < 0.005 and np.abs(int8 / full - 1).mean() < 0.2
    assert OnnxRunner(tmp_path / "int8.onnx").facts["precision"] == "int8"


def test_a_precision_beyond_the_limit_is_refused_unless_forced(weights, tmp_path, capsys):
    words = ("--out", tmp_path / "half.onnx", "--precision", "float16", "--limit", 1e-9)
    assert run(weights, *words) == 2
    one_error(capsys, "changes the result too much", "--force")
    assert not list(tmp_path.iterdir())
    assert run(weights, *words, "--force") == 0
    assert (tmp_path / "half.onnx").is_file()


def test_a_file_that_fails_its_check_is_not_left(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(checks, "expected", lambda *_: np.ones((1, 1, *SIZE), np.float32))
    assert run(weights, "--out", tmp_path / "model.onnx") == 2
    one_error(capsys, "fails its check", "relative difference")
    assert not list(tmp_path.iterdir())


def test_groups_of_convolutions_are_the_blocks(exported):
    found = precision.groups(onnx.load(exported))
    assert {"stem.0", "joins.2", "stages.0.0", "stages.2.6"} <= found.keys()
    assert sum(map(len, found.values())) == sum(node.op_type == "Conv" for node in onnx.load(exported).graph.node)


def test_difference_by_hand():
    found, wanted = np.array([[1.0, 2.0]]), np.array([[1.25, 2.0]])
    assert checks.difference(found, wanted) == pytest.approx((0.2, 0.25, 0.125, 0.125))
    with pytest.raises(ValueError, match="not finite"):
        checks.difference(np.array([np.nan]), np.array([1.0]))


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ((), ("nothing to write", "--out")),
        (("--out", "model.txt"), (".onnx", "model.txt")),
        (("--out", "model.onnx", "--opset", "99"), ("opset", "99", "18 to 23")),
        (("--out", "model.onnx", "--width", "100"), ("multiple of 32", "100")),
        (("--out", "model.onnx", "--any_size", "--resize"), ("--any_size and --resize",)),
        (("--out", "model.onnx", "--precision", "int8"), ("no --images", "--images FOLDER")),
        (("--out", "model.onnx", "--metric_scale", "0"), ("--metric_scale",)),
        (("--out", "model.onnx", "--metric_scale", "inf"), ("--metric_scale", "inf")),
        (("--out", "model.onnx", "--height", "8192", "--width", "8192"), ("too large", "8192x8192", "pixels at most")),
        (("--out", "model.onnx", "--any_size", "--height", "32"), ("--any_size with", "--height and --width of 64")),
        (("--out", "model.onnx", "--images", "nowhere"), ("no such folder of images", "nowhere")),
    ],
)
def test_mistakes_are_one_line(weights, tmp_path, monkeypatch, capsys, words, parts):
    monkeypatch.chdir(tmp_path)
    assert run(weights, *words) == 2
    one_error(capsys, *parts)
    assert not list(tmp_path.iterdir())


def test_one_broken_image_among_those_to_calibrate_with_is_named(weights, images, tmp_path, capsys):
    for path in images.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "1.png").write_bytes((images / "1.png").read_bytes()[:500])
    assert run(weights, "--out", tmp_path / "out" / "m.onnx", "--precision", "int8", "--images", tmp_path) == 2
    one_error(capsys, "damaged", "1.png")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime", "openvino"])
def test_a_missing_package_is_named_with_the_command(weights, tmp_path, package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    kind, name = ("openvino", "m.xml") if package == "openvino" else ("onnx", "m.onnx")
    assert run(weights, "--format", kind, "--out", tmp_path / name) == 2
    one_error(capsys, package, "pip install -r requirements-export.txt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["missing", "cut off", "text", "foreign", "future"])
def test_a_file_that_cannot_be_run_is_one_line(exported, tmp_path, kind):
    path = tmp_path / "model.onnx"
    content = exported.read_bytes()
    if kind == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "text":
        path.write_text("hello")
    elif kind in ("foreign", "future"):
        model = onnx.load(exported)
        model.opset_import[0].version = 99 if kind == "future" else 20
        model.graph.node[0].name += "2"
        if kind == "foreign":
            del model.metadata_props[:]
        path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError) as caught:
        OnnxRunner(path)
    parts = {"missing": "no such ONNX file", "foreign": "another program", "future": "version of ONNX"}
    assert parts.get(kind, "not a readable ONNX file") in str(caught.value)


def test_files_predict_where_torch_cannot_be_imported(exported, tmp_path):
    image = picture(75, 130)
    Image.fromarray(image).save(tmp_path / "a.png")
    code = (
        "import sys; sys.modules['torch'] = None; model, image, out = sys.argv[1:]\n"
        "import numpy as np; from PIL import Image; from inference.onnx_runner import OnnxRunner\n"
        "np.save(out, OnnxRunner(model).predict(Image.open(image)))\n"
        "import test_simple; sys.exit(test_simple.main(['--onnx', model, '--image_path', image, '--save_depth']))\n"
    )
    words = [sys.executable, "-c", code, exported, tmp_path / "a.png", tmp_path / "a.npy"]
    subprocess.run(words, cwd=ROOT, check=True, timeout=60)
    small = np.array(Image.fromarray(image).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    wanted = by_torch(torch.from_numpy(small).permute(2, 0, 1)[None] / 255)
    for name in ("a.npy", "a_disp.npy"):
        np.testing.assert_allclose(np.load(tmp_path / name), wanted, rtol=1e-3)
    native = torch.nn.functional.interpolate(torch.from_numpy(wanted), (75, 130), mode="bilinear")
    np.testing.assert_allclose(1 / np.load(tmp_path / "a_depth.npy"), native[0, 0], rtol=1e-3)
    assert (tmp_path / "a_disp.jpeg").is_file()


def test_a_broken_file_for_test_simple_is_one_line(tmp_path, capsys):
    import test_simple

    Image.fromarray(picture(32, 64)).save(tmp_path / "a.png")
    (tmp_path / "model.onnx").write_text("hello")
    assert test_simple.main(["--onnx", str(tmp_path / "model.onnx"), "--image_path", str(tmp_path / "a.png")]) == 2
    one_error(capsys, "not a readable ONNX file", "model.onnx")


def test_an_image_of_another_size_is_one_line(exported):
    with pytest.raises(UserError, match="another size.*1x3x32x96.*--resize"):
        OnnxRunner(exported).run(np.zeros((1, 3, 32, 96), np.float32))
