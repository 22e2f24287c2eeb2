"""What `python -m benchmark --device` does: check the words, measure, print, write."""

from benchmark.gpu import report
from benchmark.gpu.plan import PARTS as GPU_PARTS
from benchmark.gpu.plan import plan_for
from benchmark.gpu.promises import BROKEN
from benchmark.gpu.run import measure
from system import files
from system.devices import choose_device
from system.errors import UserError, UserErrors


def rules(opt, other_parts):
    """Refuse options that do not go together.

    Args:
        opt: the parsed options.
        other_parts: names of the parts that are measured without --device.

    Raises:
        UserErrors: one for each mistake.
    """
    problems = []
    if opt.device:
        problems += [UserError("not a part of a device's measurements", f"--parts {part}", f"of {' '.join(GPU_PARTS)}")
                     for part in opt.parts or () if part not in GPU_PARTS]  # fmt: skip
        if opt.no_cuda:
            problems.append(UserError("two devices are asked for", f"--no_cuda and --device {opt.device}", "drop one"))
    else:
        problems += [UserError("a part that needs a device", f"--parts {part}", "add --device cuda or --device cpu")
                     for part in opt.parts or () if part not in other_parts]  # fmt: skip
        problems += [UserError("only the measurements of a device are written there", f"--{name}",
                               "add --device cuda or --device cpu; without, see --out")
                     for name in ("json", "markdown") if getattr(opt, name)]  # fmt: skip
    if problems:
        raise UserErrors(problems)


def measure_device(opt):
    """Measure the device of the options, print tables as they come, write the files that are asked for.

    Returns:
        0, or 1 where a result is wrong: a figure of the published code is missed, or processes disagree.

    Raises:
        UserError: no such device, or a file that cannot be written.
    """
    files.refuse_same(("--json", opt.json), ("--markdown", opt.markdown))
    files.refuse_as_output(opt.json, (".json",), "--json")
    files.refuse_as_output(opt.markdown, (".md", ".markdown"), "--markdown")
    if choose_device(name=opt.device).type == "mps":
        raise UserError("only CUDA devices and CPUs are measured", f"--device {opt.device}", "use --device cpu")
    plan = plan_for(opt.device, opt.model, opt.batch_size, opt.rounds, opt.quick, opt.compile)
    results = measure(plan, opt.parts or GPU_PARTS, lambda text: print(text, end="\n\n", flush=True))
    if opt.json:
        files.write_json(opt.json, results)
    if opt.markdown:
        files.write_text(opt.markdown, report.page(results))
    return int(any(row["verdict"] == BROKEN and row["about"] == "results" for row in results["promises"]))
