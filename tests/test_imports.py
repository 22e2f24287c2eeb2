"""Imports go one way, in no circle; commands answer --help without torch; nothing but the trainer trains."""

import ast
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT

ENTRIES = ("train", "evaluate_depth", "test_simple", "export_gt_depth", "prepare_kitti", "weights", "reproduce",
           "evaluate_pose", "export_onnx", "evaluate_robustness",
           "prepare_frames", "report_run", "calibrate_scale", "make_pseudo_depth")  # fmt: skip
# The rooms from the bottom up, one floor each: a module imports from its own room and from rooms below, at the top of
# the file or inside a function. Commands stand above all rooms.
FLOORS = (
    "system", "kitti_utils", "layers", "cpu", "networks", "losses", "fetching", "datasets", "checkpointing",
    "inference", "evaluation", "reports", "exporting", "robustness", "teaching", "training", "options", "trainer",
    "pretraining", "demo", "benchmark",
)  # fmt: skip
COMMANDS = {"train", "evaluate_depth", "test_simple", "export_gt_depth", "prepare_kitti", "weights", "reproduce",
            "hubconf", "evaluate_pose", "export_onnx", "evaluate_robustness",
            "prepare_frames", "report_run", "calibrate_scale", "make_pseudo_depth"}  # fmt: skip
PRETRAINING = "lite-mono-pretrain-code"  # a folder of scripts: its modules import each other by their bare names


def sources():
    """Return {module name: path} of the project without its tests; those of pre-training are named pretraining.x."""
    skipped = {"tests", "tmp", "docs", "node_modules"}
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] not in skipped and not parts[0].startswith("."):
            parts = ("pretraining", *parts[1:]) if parts[0] == PRETRAINING else parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


SOURCES = sources()


def imports(name, deep=False):
    """Return the project's modules that a module imports at its top, or anywhere in it."""
    tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"))
    package = name if SOURCES[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree) if deep else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            home = ".".join(filter(None, (package if node.level else "", node.module or "")))
            found |= {home} | {f"{home}.{alias.name}" for alias in node.names}
    if name.startswith("pretraining."):
        found |= {f"pretraining.{each}" for each in found}
    return {each for each in found if each in SOURCES} - {name}


def named_modules(name):
    """Return the modules of rooms that a module's imports name: `room.module` of `from room.module import ...`."""
    tree = ast.parse(SOURCES[name].read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    return {each for each in found if each.split(".")[0] in FLOORS}


def floor(name):
    room = name.split(".")[0]
    return len(FLOORS) if room in COMMANDS else FLOORS.index(room)


def reachable(name, deep):
    seen, waiting = set(), [name]
    while waiting:
        for each in imports(waiting.pop(), deep) - seen:
            seen.add(each)
            waiting.append(each)
    return seen


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_no_module_imports_itself_by_a_detour(name):
    assert name not in reachable(name, deep=False)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_imports_point_downwards(name):
    assert not {each for each in imports(name, deep=True) if floor(each) > floor(name)}


def test_only_commands_defer_imports():
    scripts = {"pretraining.main", "pretraining.export_encoder"}
    rooms = {name for name in SOURCES if name not in COMMANDS | scripts and not name.endswith("__main__")}
    assert not {name: late for name in rooms if (late := imports(name, deep=True) - imports(name))}


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_imported_modules_are_there(name):
    assert named_modules(name) <= SOURCES.keys()


def test_every_file_is_a_command_or_in_a_room():
    assert {name.split(".")[0] for name in SOURCES} == {*FLOORS, *COMMANDS}


@pytest.mark.parametrize("name", ["evaluate_depth", "test_simple", "export_gt_depth"])
def test_evaluation_and_prediction_reach_no_trainer(name):
    reached = reachable(name, deep=True)
    plain = {"training.schedule", "training.recipes"}  # numbers and tables, which options read
    assert not {each for each in reached if each == "trainer" or each.startswith("training.")} - plain


def test_no_star_imports_and_no_vague_names():
    vague = {"utils", "helpers", "common", "misc"}
    for name, path in SOURCES.items():
        assert not vague & set(name.split(".")), name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)), name


def test_modules_say_what_they_own():
    assert not [name for name, path in SOURCES.items() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]


def test_no_module_shadows_the_standard_library():
    assert not {name.split(".")[0] for name in SOURCES} & sys.stdlib_module_names


@pytest.mark.parametrize("name", [name for name in ENTRIES if name in SOURCES])
def test_help_comes_without_torch(name):
    code = (f"import sys; sys.argv = ['{name}.py', '--help']; import {name}\n"
            f"try: {name}.main(['--help'])\nexcept SystemExit as end: assert not end.code\n"
            "assert 'torch' not in sys.modules")  # fmt: skip
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert "usage:" in ended.stdout
    assert time.monotonic() - began < 10  # well below a second on an idle machine
