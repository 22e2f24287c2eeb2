"""The project from other people's programs: torch.hub, notebooks, and packages that share a name with one of ours."""

import subprocess
import sys

import pytest
import torch
from PIL import Image

from tests.conftest import ROOT
from tests.seeded_folders import picture, write_weights


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with weights, an image, and another project's package named datasets."""
    top = tmp_path_factory.mktemp("world")
    write_weights(top / "weights_0")
    Image.fromarray(picture(50, 90)).save(top / "a.png")
    (top / "site" / "datasets").mkdir(parents=True)
    (top / "site" / "datasets" / "__init__.py").write_text("from datasets import splits\nIS_THEIRS = True\n")
    (top / "site" / "datasets" / "splits.py").write_text("class Split: pass\n")
    return top


def python(world, code, *command, path=""):
    """Run code (or a command) in another folder, with another project's packages on the path."""
    arguments = [sys.executable, "-c", code] if code else [sys.executable, *map(str, command)]
    environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(path), "HOME": str(world)}
    return subprocess.run(arguments, cwd=world, env=environment, capture_output=True, text=True, timeout=120)


def test_torch_hub_leaves_no_names_behind(world):
    code = f"""
import sys, torch, datasets
path, before = list(sys.path), set(sys.modules)
weights = {str(world / "weights_0")!r}
model = torch.hub.load({str(ROOT)!r}, "lite_mono_tiny", source="local", weights=weights, device="cpu")
depth = model.depth("a.png")
assert depth.shape == (50, 90) and depth.dtype.name == "float32", depth.shape
assert model(torch.rand(2, 3, model.height, model.width)).shape == (2, 1, model.height, model.width)
assert sys.path == path and datasets.IS_THEIRS and sys.modules["datasets"] is datasets
left = {{name.partition(".")[0] for name in set(sys.modules) - before}}
assert not left & {{"system", "inference", "networks", "layers", "options", "checkpointing", "cpu", "evaluation"}}, left
import datasets.splits
assert not hasattr(datasets.splits, "resolve_split")
"""
    ended = python(world, code, path=world / "site")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("shape", [(1, 3, 33, 64), (3, 32, 64), (1, 1, 32, 64)])
def test_images_of_another_shape_are_refused(world, shape):
    import hubconf

    model = hubconf.lite_mono_tiny(str(world / "weights_0"), device="cpu")
    with pytest.raises(ValueError, match="multiples of 32"):
        model(torch.zeros(shape))


def test_every_model_has_an_entry():
    import hubconf
    from networks.model_table import MODELS

    assert all(callable(getattr(hubconf, name.replace("-", "_"))) for name in MODELS)


def test_three_lines_give_depth(world):
    code = f"""
import sys; sys.path.append({str(ROOT)!r})
from inference import Predictor
print(Predictor({str(world / "weights_0")!r}).depth("a.png").shape)
"""
    ended = python(world, code, path=world / "site")  # the other datasets stands before ours on the path
    assert ended.stdout == "(50, 90)\n", ended.stderr


@pytest.mark.parametrize("name", ["trainer", "evaluate_depth", "test_simple"])
def test_a_name_that_is_taken_is_told_in_one_line(world, name):
    code = f"import datasets, sys; sys.path.insert(0, {str(ROOT)!r}); import {name}"
    ended = python(world, code, path=world / "site")
    last = ended.stderr.splitlines()[-1]
    assert ended.returncode == 1 and "ImportError" in last and "named datasets is imported already" in last


def test_commands_run_from_anywhere_whatever_else_is_installed(world):
    flags = ["--load_weights_folder", "weights_0", "--image_path", "a.png", "--output_dir", "out", "--device", "cpu"]
    ended = python(world, None, ROOT / "test_simple.py", *flags, path=world / "site")
    assert ended.returncode == 0 and (world / "out" / "a_disp.npy").is_file(), ended.stderr


def test_a_command_in_whose_process_the_name_is_taken_says_so(world):
    (world / "taken").mkdir()
    early = f"import sys; sys.path.insert(0, {str(world / 'site')!r})\nimport datasets\n"
    (world / "taken" / "sitecustomize.py").write_text(early)
    ended = python(world, None, ROOT / "evaluate_depth.py", "--help", path=world / "taken")
    assert ended.returncode == 2 and ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1, ended.stderr
