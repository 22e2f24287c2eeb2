"""The page of a GPU's measurements: tables in Markdown, one a part."""


def table(head, rows):
    """Return a Markdown table of texts and numbers; None is an empty cell, numbers have four digits."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(_cell, row)) + " |" for row in rows])


def _cell(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def page(results):
    """Return the whole page."""
    parts = [TABLES[part](results) for part in TABLES if part in results]
    return "\n\n".join([f"# Measured on {results['facts']['device']}", of_facts(results), *parts,
                        of_promises(results)]) + "\n"  # fmt: skip


def of_facts(results):
    """Return the lines about the device and the plan."""
    facts, plan = results["facts"], results["plan"]
    memory = f", {facts['memory_gb']:.0f} GB" if facts["memory_gb"] else ""
    versions = f"torch {facts['torch']}" + (f", CUDA {facts['cuda']}" if plan["device"].startswith("cuda") else "")
    return (f"{results['date']}, {facts['count']} x {facts['device']}{memory}, {versions}; copies run at "
            f"{facts['copy_gb_s']:.0f} GB/s, read and written. {plan['model']}, {plan['width']}x{plan['height']}, "
            f"batch {plan['batch']}.")  # fmt: skip


def _titled(title, results, part, make):
    found = results[part]
    failed = isinstance(found, dict) and found.get("failed")
    return f"## {title}\n\n" + (f"failed: {failed}" if failed else make(found))


def _parity(results):
    def make(found):
        rows = [(row["figure"], row["error"], row["bound"], row["error"] <= row["bound"]) for row in found]
        return table(("figure of the published code", "largest error", "bound", "within"), rows)

    return _titled("Parity", results, "parity", make)


def _step(results):
    def row(name, found):
        if "failed" in found:
            return (name, None, None, None, None, f"failed: {found['failed']}")
        spread = f"{1000 * found['low']:.4g} .. {1000 * found['high']:.4g}"
        return (name, found["images_per_second"], 1000 * found["seconds"], found["peak_gb"], found["waits"], spread)

    def make(found):
        head = ("version", "images/s", "ms a step", "GB at the peak", "waits a step", "ms, least .. most")
        return table(head, [row(*each) for each in found.items()])

    return _titled("Training step", results, "step", make)


def _stages(results):
    bandwidth = results["facts"]["copy_gb_s"]

    def row(stage, found):
        share = 100 * found["gigabytes"] / bandwidth / found["seconds"]
        return (stage, 1000 * found["seconds"], found["operations"], found["gigabytes"], f"{share:.0f} %")

    def make(found):
        parts = []
        for version, stages in found.items():
            head = (f"stage, {version}", "ms", "operations", "GB", "of the roofline")
            failed = stages.get("failed")
            rows = [] if failed else [row(*each) for each in stages.items()]
            parts.append(f"{version} failed: {failed}" if failed else table(head, rows))
        return "\n\n".join(parts)

    return _titled("Stages of the eager step", results, "stages", make)


def _latency(results):
    def make(found):
        head = ("model", "batch", "precision", "CUDA graph", "ms", "images/s", "GB at the peak")
        return table(head, [(row["model"], row["batch"], row["precision"], row["graph"], row["ms"],
                             1000 * row["batch"] / row["ms"], row["peak_gb"]) for row in found])  # fmt: skip

    return _titled("Prediction", results, "latency", make)


def _ranks(results):
    def make(found):
        head = ("processes", "backend", "MB of gradients", "all-reduce, ms", "bus GB/s", "right", "step", "images/s",
                "equal weights")  # fmt: skip
        keys = ("processes", "backend", "gradient_mb", "all_reduce_ms", "bus_gb_s", "all_reduce_right", "version",
                "images_per_second", "weights_equal")  # fmt: skip
        return table(head, [[found[key] for key in keys]])

    return _titled("Several processes", results, "ranks", make)


def of_promises(results):
    """Return the table of promises and whether they hold."""
    rows = [(row["promise"], row["bound"], row["value"], row["verdict"]) for row in results["promises"]]
    return "## Promises\n\n" + table(("promise", "bound", "measured", "verdict"), rows)


TABLES = {"parity": _parity, "step": _step, "stages": _stages, "latency": _latency, "ranks": _ranks}
