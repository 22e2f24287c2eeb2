"""A package of requirements.txt that is not there: one line and exit code 2 from every command."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

SITE = """
import os
import sys

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == os.environ["GONE"]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Gone())
"""


def without(package, folder, *words):
    """Run a command for which `package` is not installed; return (exit code, lines on stderr)."""
    (folder / "sitecustomize.py").write_text(SITE)
    own = {**os.environ, "GONE": package, "PYTHONPATH": str(folder)}
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("numpy", ("evaluate_depth.py", "--help")),
        ("numpy", ("reproduce.py",)),
        ("numpy", ("test_simple.py", "--help")),
        ("numpy", ("prepare_kitti.py", "--help")),
        ("numpy", ("weights.py", "check", "lite-mono")),
        ("numpy", ("-m", "demo.curve")),
        ("torch", ("-m", "benchmark", "--help")),
        ("torch", ("lite-mono-pretrain-code/export_encoder.py", "a.pth", "b.pth")),
        ("PIL", ("-m", "demo.contact_sheet")),
        ("cv2", ("-m", "demo.other_camera")),
    ],
)
def test_every_command_names_a_missing_package(package, words, tmp_path):
    code, lines = without(package, tmp_path, *words)
    assert (code, lines) == (2, [f"error: a package is missing; {package}; run pip install -r requirements.txt"])


def test_a_missing_module_of_the_projects_own_keeps_its_traceback(tmp_path):
    code, lines = without("inference", tmp_path, "test_simple.py", "--help")
    assert code == 1 and lines[0].startswith("Traceback") and lines[-1] == (
        "ModuleNotFoundError: No module named 'inference'"
    )
