"""The measurements of `python -m benchmark --device`, part after part; torch is loaded by the jobs' processes alone."""

import datetime

from benchmark.gpu import apart, report
from benchmark.gpu.plan import PARTS, VERSIONS, float32
from benchmark.gpu.promises import judge
from system.errors import UserError


def measure(plan, parts=PARTS, say=print):
    """Measure the parts of a plan.

    Args:
        plan: `plan.Plan`.
        parts: of PARTS.
        say: function that takes each finished part's table.

    Returns:
        Plain values: "date", "plan", "facts", one entry a part, "promises". What gave no answer is {"failed": why}.

    Raises:
        UserError: the device cannot be used at all.
    """
    results = {"date": datetime.date.today().isoformat(), "plan": plan._asdict(), "facts": None}
    try:
        results["facts"] = apart.run("facts", {"device": plan.device})
    except apart.Failed as failure:
        raise UserError("the device cannot be used", f"--device {plan.device}: {failure}",
                        "check it with nvidia-smi, or use --device cpu") from failure  # fmt: skip
    say(report.of_facts(results))
    for part in parts:
        results[part] = _MEASURE[part](plan, results)
        say(report.TABLES[part](results))
    results["promises"] = judge(results)
    say(report.of_promises(results))
    return results


def _attempt(job, processes=None, **arguments):
    try:
        return apart.run(job, arguments, processes)
    except apart.Failed as failure:
        return {"failed": str(failure)}


def _step_arguments(plan, flags):
    sizes = {name: getattr(plan, name) for name in ("device", "model", "batch", "height", "width", "rounds")}
    return sizes | {"flags": list(flags)}


def _parity(plan, results):
    return _attempt("parity", device=plan.device, **plan.parity)


def _step(plan, results):
    found = {}
    for name in plan.versions:
        version = VERSIONS[name]
        found[name] = _attempt("speed", **_step_arguments(plan, version.flags), tf32=version.tf32, steps=plan.steps)
    return found


def _stages(plan, results):
    names = [float32(plan.device), "bf16"]  # eager ones: what is compiled has no stages to be told apart
    return {name: _attempt("stages", **_step_arguments(plan, VERSIONS[name].flags), tf32=VERSIONS[name].tf32)
            for name in names}  # fmt: skip


def _latency(plan, results):
    return _attempt("latency", device=plan.device, models=plan.models, batches=plan.batches, precisions=plan.precisions,
                    height=plan.height, width=plan.width, rounds=plan.rounds, times=4 * plan.steps)  # fmt: skip


def _ranks(plan, results):
    name = "bf16" if plan.device.startswith("cuda") else "fp32"
    kind = plan.device.partition(":")[0]
    count = plan.processes or results["facts"]["count"]
    arguments = _step_arguments(plan, VERSIONS[name].flags) | {"device": kind, "steps": plan.steps}
    return {"version": name} | _attempt("ranks", count, **arguments)


_MEASURE = {"parity": _parity, "step": _step, "stages": _stages, "latency": _latency, "ranks": _ranks}
