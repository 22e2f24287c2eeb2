"""python -m benchmark --device: the whole of it on a CPU, its CUDA branches on fake tensors, its judgement on made-up
results that hold and that do not."""

import copy
import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from benchmark import __main__ as benchmark
from benchmark.gpu import apart, parity, report, run
from benchmark.gpu.meter import Meter
from benchmark.gpu.plan import PARTS, VERSIONS, plan_for
from benchmark.gpu.promises import BROKEN, HOLDS, PROMISES, UNKNOWN, judge
from benchmark.gpu.traffic import Traffic
from tests import gpu_on_paper
from tests.conftest import ROOT

TINY = ("--model", "lite-mono-tiny", "--quick", "--rounds", "1")


def command(*words, limit=300):
    return subprocess.run([sys.executable, "-m", "benchmark", *map(str, words)], cwd=ROOT, timeout=limit,
                          capture_output=True, text=True)  # fmt: skip


def test_the_whole_of_it_runs_on_a_cpu(tmp_path):
    ended = command("--device", "cpu", *TINY, "--json", tmp_path / "gpu.json", "--markdown", tmp_path / "gpu.md")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found, page = json.loads((tmp_path / "gpu.json").read_text()), (tmp_path / "gpu.md").read_text()
    assert "failed" not in page and "failed" not in ended.stdout
    assert all(row["error"] <= row["bound"] for row in found["parity"]) and len(found["parity"]) == 6
    assert set(found["step"]) == {"fp32", "bf16"}
    assert all(row["images_per_second"] > 0 and row["waits"] is None for row in found["step"].values())
    for stages in found["stages"].values():
        whole = stages["whole step"]
        assert whole["gigabytes"] >= sum(row["gigabytes"] for row in stages.values()) / 2 > 0
        assert whole["seconds"] >= max(row["seconds"] for row in stages.values())
    assert [row["batch"] for row in found["latency"]] == [1, 16]
    assert found["ranks"]["processes"] == 2 and found["ranks"]["all_reduce_right"] and found["ranks"]["weights_equal"]
    verdicts = {row["promise"]: row["verdict"] for row in found["promises"]}
    assert sorted(set(verdicts.values())) == [HOLDS, UNKNOWN]
    for table in report.TABLES.values():
        assert table(found) in page and table(found) in ended.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_one_line(tmp_path):
    ended = command("--device", "cuda", "--json", tmp_path / "x.json", limit=60)
    assert ended.returncode == 2 and not ended.stdout and not list(tmp_path.iterdir())
    assert ended.stderr == "error: torch finds no CUDA device here; --device cuda; use --device cpu\n"


@pytest.mark.parametrize(
    "words, said",
    [(("--json", "x.json"), "only the measurements of a device"),
     (("--parts", "stages"), "a part that needs a device"),
     (("--device", "cpu", "--parts", "video"), "not a part of a device's measurements"),
     (("--device", "cpu", "--no_cuda"), "two devices are asked for"),
     (("--device", "tpu"), "no such kind of device"),
     (("--device", "cpu", "--json", "x.png"), "a file of another kind"),
     (("--device", "cpu", "--json", "x.json", "--markdown", "x.json"), "two results would be written to one file")],
)  # fmt: skip
def test_words_that_do_not_fit_are_one_line(words, said, capsys):
    assert benchmark.main([*words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


# --- measuring -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(gpu_on_paper.missing() is not None, reason=f"{gpu_on_paper.missing()}")
def test_steps_are_measured_with_what_cuda_offers():
    """On fake tensors; the counts equal those of tests/gpu_on_paper.py."""
    ended = subprocess.run([sys.executable, "-m", "tests.benchmark_on_paper", "2", "32", "64"], cwd=ROOT,
                           capture_output=True, text=True, timeout=300)  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["speed"]["waits"] == 1 and found["speed"]["peak_gb"] == 3 and found["speed"]["seconds"] > 0
    whole, parts = found["stages"]["whole step"], {**found["stages"]}
    del parts["whole step"]
    assert [whole["operations"], whole["gigabytes"]] == [found["operations"], pytest.approx(found["gigabytes"])]
    assert set(parts) == {"augmentation", "depth encoder", "depth decoder", "pose encoder", "pose decoder", "loss",
                          "backward", "optimiser"}  # fmt: skip
    # Of the events, 250 ms apart: one stage's begin and end follow each other; augmentation and motion come twice.
    twice = {"augmentation", "pose encoder", "pose decoder"}
    assert all(row["seconds"] == (0.5 if stage in twice else 0.25) for stage, row in parts.items())
    assert whole["seconds"] == 0.25 * (2 * 11 + 1)
    assert found["calls"]["record"] == 24 and found["calls"]["reset_peak_memory_stats"] == 1
    assert not found["tf32"] and found["debug"] == "default"


def test_traffic_is_what_is_read_and_written():
    one, other = torch.ones(1000), torch.ones(1000, requires_grad=True)
    traffic = Traffic(one.device)
    with torch.autograd.set_multithreading_enabled(False), traffic:
        product = one * other
        traffic.stage = "second"
        product[::2].view(-1, 10).detach()
        product.exp_()
    assert traffic.bytes == {"rest": 3 * 4000, "second": 2 * 4000} and traffic.operations == {"rest": 1, "second": 1}


def test_a_cpu_has_a_clock_and_memory_and_no_waits():
    meter = Meter(torch.device("cpu"))
    assert 0.05 <= meter.seconds(lambda: time.sleep(0.05), 2) < 0.2
    begin = meter.mark()
    assert 0 <= meter.between(begin, meter.mark()) < 1
    assert 0.05 < meter.peak_gb() < 100 and meter.bandwidth(1 << 20) > 1e7
    assert meter.waits(lambda: None) is None


def test_parity_sees_a_small_fault(monkeypatch):
    whole = parity.filled

    def almost(network):
        network = whole(network)
        with torch.no_grad():
            next(iter(network.parameters())).mul_(1.001)
        return network

    assert parity._forward("cpu", "lite-mono", 640, 192) < parity.BOUNDS["forward"]
    monkeypatch.setattr(parity, "filled", almost)
    assert parity._forward("cpu", "lite-mono", 640, 192) > parity.BOUNDS["forward"]
    assert parity._relative(torch.tensor([1.0, np.nan]), np.ones(2)) == np.inf


# --- jobs in processes of their own --------------------------------------------------------------------------------


def test_a_job_that_fails_is_a_line_of_the_results_and_the_rest_goes_on():
    plan = plan_for("cpu", "lite-mono-tiny", quick=True)._replace(parity={"steps": ["x"], "networks": []})
    said = []
    results = run.measure(plan, ("parity", "parity"), said.append)
    assert results["parity"]["failed"].startswith("FileNotFoundError: ")
    assert "failed: FileNotFoundError: " in report.page(results) and len(said) == 4


def test_a_job_that_takes_too_long_is_ended():
    began = time.monotonic()
    with pytest.raises(apart.Failed, match="not done after 1 s"):
        apart.run("parity", {"device": "cpu"}, processes=2, limit=1)
    assert time.monotonic() - began < 20


def test_a_job_ends_with_who_asked_for_it():
    words = [sys.executable, "-m", "benchmark.gpu.job", "parity", json.dumps({"device": "cpu"})]
    process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    process.stdin.close()
    assert process.wait(60) == 1


# --- judgement -----------------------------------------------------------------------------------------------------

SPEED = {"seconds": 0.03, "low": 0.03, "high": 0.03, "images_per_second": 400.0, "peak_gb": 12.0, "waits": 1}
STAGE = {"seconds": 0.1, "operations": 100, "gigabytes": 1.0}


@pytest.fixture
def results():
    """Made-up results of a GPU that keeps every promise."""
    speeds = {"TF32": 250.0, "bf16": 400.0, "bf16 compiled": 700.0}
    steps = {name: SPEED | {"images_per_second": speeds.get(name, 400.0)} for name in VERSIONS}
    latency = [{"model": "lite-mono", "batch": batch, "precision": "float32", "graph": graph,
                "ms": 2.0 if graph else 9.0, "peak_gb": 1.0}
               for batch, graph in ((1, False), (1, True), (16, False))]  # fmt: skip
    whole = {"seconds": 0.04, "operations": 2396, "gigabytes": 62.0}
    return {
        "date": "2026-01-01", "plan": plan_for("cuda", "lite-mono")._asdict(),
        "facts": {"device": "GPU", "count": 2, "memory_gb": 80.0, "cuda": "13", "torch": "2", "copy_gb_s": 3000.0},
        "parity": [{"figure": "step: loss", "error": 1e-5, "bound": 1e-4}], "step": steps,
        "stages": {name: {"loss": STAGE, "whole step": whole} for name in ("TF32", "bf16")}, "latency": latency,
        "ranks": {"version": "bf16", "processes": 2, "backend": "nccl", "all_reduce_right": True, "gradient_mb": 60.0,
                  "all_reduce_ms": 1.0, "bus_gb_s": 60.0, "images_per_second": 780.0, "weights_equal": True},
    }  # fmt: skip


def test_what_holds_holds(results):
    assert {row["verdict"] for row in judge(results)} == {HOLDS}


FAULTS = (
    (("parity", 0, "error"), 2e-4), (("step", "fp16", "waits"), 2),
    (("stages", "TF32", "whole step", "operations"), 2601), (("stages", "TF32", "whole step", "gigabytes"), 62.9),
    (("stages", "TF32", "whole step", "seconds"), 0.06), (("stages", "bf16", "whole step", "seconds"), 0.07),
    (("step", "TF32", "images_per_second"), 350.0),
    (("step", "bf16 compiled", "images_per_second"), 450.0), (("step", "bf16 CUDA graph", "images_per_second"), 390.0),
    (("step", "bf16", "peak_gb"), 13.0), (("latency", 1, "ms"), 10.0), (("ranks", "all_reduce_right"), False),
    (("ranks", "weights_equal"), False), (("ranks", "images_per_second"), 600.0),
)  # fmt: skip


@pytest.mark.parametrize("number, fault", enumerate(FAULTS), ids=[each.what for each in PROMISES])
def test_each_promise_breaks_by_itself(results, number, fault):
    *path, last = fault[0]
    place = results
    for key in path:
        place[key] = copy.deepcopy(place[key])
        place = place[key]
    place[last] = fault[1]
    broken = [index for index, row in enumerate(judge(results)) if row["verdict"] == BROKEN]
    assert broken == [number]


def test_what_was_not_measured_is_not_judged(results):
    for part in PARTS:
        results[part] = {"failed": "out of memory"}
    assert {row["verdict"] for row in judge(results)} == {UNKNOWN}
    results["promises"] = judge(results)
    assert report.page(results).count("failed: out of memory") == len(PARTS)
    results = {key: value for key, value in results.items() if key not in PARTS}
    assert {row["verdict"] for row in judge(results)} == {UNKNOWN}


def test_a_wrong_result_is_the_exit_code(results, monkeypatch, capsys):
    monkeypatch.setattr("benchmark.gpu.command.measure", lambda *_: results)
    for row, code in (("speed", 0), ("results", 1)):
        results["promises"] = [{"verdict": BROKEN, "about": row}]
        assert benchmark.main(["--device", "cpu"]) == code


def test_promises_stand_in_the_documentation():
    text = (ROOT / "docs" / "performance.md").read_text()
    for promise in PROMISES:
        assert f"| {promise.what} | {'at least' if promise.least else 'at most'} {promise.bound:g} |" in text
