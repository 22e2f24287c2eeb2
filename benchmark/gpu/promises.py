"""What docs/performance.md promises of a GPU, as one table, and whether measurements bear it out."""

from collections.abc import Callable
from typing import NamedTuple

HOLDS, BROKEN, UNKNOWN = "holds", "broken", "not measured"


class Promise(NamedTuple):
    """One promise.

    what: as the page says it. value: function results -> number, None where it was not measured.
    bound: the number's limit; least: whether it is the smallest allowed, else the largest.
    cuda_only: whether it is about a GPU's speed, of which a CPU says nothing; else about right results.
    """

    what: str
    value: Callable
    bound: float
    least: bool = False
    cuda_only: bool = True


def _rows(results, part):
    found = results.get(part)
    return found if found and not (isinstance(found, dict) and "failed" in found) else None


def _of_version(results, version, key):
    row = (_rows(results, "step") or {}).get(version, {})
    return row.get(key)


def _ratio(one, other):
    return None if one is None or not other else one / other


def _parity(results):
    rows = _rows(results, "parity")
    return max(row["error"] / row["bound"] for row in rows) if rows else None


def _faster(version, than):
    return lambda results: _ratio(*(_of_version(results, each, "images_per_second") for each in (version, than)))


def _waits(results):
    waits = [row["waits"] for row in (_rows(results, "step") or {}).values() if row.get("waits") is not None]
    return max(waits, default=None)


def _asked(key):
    def value(results):
        stages, plan = (_rows(results, "stages") or {}).get("TF32", {}), results["plan"]
        usual = (plan["model"], plan["batch"], plan["height"], plan["width"]) == ("lite-mono", 12, 192, 640)
        return stages["whole step"][key] if usual and "whole step" in stages else None

    return value


def _roofline(version):
    def value(results):
        whole = (_rows(results, "stages") or {}).get(version, {}).get("whole step")
        return whole and whole["gigabytes"] / results["facts"]["copy_gb_s"] / whole["seconds"]

    return value


def _graph(results):
    rows = _rows(results, "latency") or []
    times = {(row["model"], row["precision"], row["graph"]): row["ms"] for row in rows if row["batch"] == 1}
    gains = [_ratio(times.get((*key, False)), ms) for (*key, graph), ms in times.items() if graph]
    return min((each for each in gains if each is not None), default=None)


def _of_ranks(key):
    def value(results):
        found = (_rows(results, "ranks") or {}).get(key)
        return None if found is None else float(found)

    return value


def _efficiency(results):
    ranks = _rows(results, "ranks")
    if not ranks or ranks["processes"] < 2:
        return None
    return _ratio(ranks["images_per_second"] / ranks["processes"],
                  _of_version(results, ranks["version"], "images_per_second"))  # fmt: skip


PROMISES = (
    Promise("every figure of the published code within its bound (largest error / bound)", _parity, 1.0,
            cuda_only=False),
    Promise("waits of the host for the device in a step", _waits, 1),
    Promise("operations of the eager float32 step, batch 12 at 640x192", _asked("operations"), 2600),
    Promise("GB that it reads and writes", _asked("gigabytes"), 62.0),
    Promise("share of the memory's bandwidth that the eager float32 step uses", _roofline("TF32"), 0.4, True),
    Promise("the same in bf16", _roofline("bf16"), 0.35, True),
    Promise("bf16, times as fast as float32", _faster("bf16", "TF32"), 1.2, True),
    Promise("bf16 compiled, times as fast as bf16", _faster("bf16 compiled", "bf16"), 1.3, True),
    Promise("bf16 in a CUDA graph, times as fast as bf16", _faster("bf16 CUDA graph", "bf16"), 1.0, True),
    Promise("memory of the bf16 step, times float32's", lambda results: _ratio(
        _of_version(results, "bf16", "peak_gb"), _of_version(results, "TF32", "peak_gb")), 1.0),
    Promise("batch 1 with a CUDA graph, times as fast as without, the slowest gain", _graph, 1.0, True),
    Promise("sums of the all-reduce are right", _of_ranks("all_reduce_right"), 1, True, False),
    Promise("processes hold equal weights after their steps", _of_ranks("weights_equal"), 1, True, False),
    Promise("speed a GPU with all of them, times that of one alone", _efficiency, 0.85, True),
)  # fmt: skip


def judge(results):
    """Return a row for each promise, for the results of `benchmark.gpu.run.measure`.

    Returns:
        [{"promise", "about": "speed" or "results", "value", "bound", "verdict"}].
    """
    on_cuda, rows = results["plan"]["device"].startswith("cuda"), []
    for each in PROMISES:
        value = each.value(results) if on_cuda or not each.cuda_only else None
        verdict = UNKNOWN if value is None else HOLDS if _holds(each, value) else BROKEN
        bound = f"{'at least' if each.least else 'at most'} {each.bound:g}"
        about = "speed" if each.cuda_only else "results"
        rows.append({"promise": each.what, "about": about, "bound": bound, "value": value, "verdict": verdict})
    return rows


def _holds(promise, value):
    return value >= promise.bound if promise.least else value <= promise.bound
