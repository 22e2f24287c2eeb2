"""The page and the plots of an evaluation: what was measured, how sure it is, where the errors are, how they look."""

import os

import numpy as np

from evaluation import statistics
from evaluation.panels import panels
from evaluation.report import best
from reports import page, plots
from reports.charts import Chart, Series
from reports.run_files import facts_about, read_json
from system.errors import UserError

OF_A_KIND = 3  # images shown of the best, the middle and the worst
MOST_PICTURED = 6  # weights that charts and pictures show
HIGHER_IS_BETTER = ("a1", "a2", "a3")
ALIGNMENTS = {
    "median": "each prediction multiplied by the ratio of the medians",
    "scale": "each prediction multiplied by its least-squares scale",
    "scale_shift": "least-squares scale and shift of each disparity",
    "none": "predictions compared as they are",
}


def prepare(opt):
    """Switch on what the page and the plots need; raise `UserError` for what would keep them from being written."""
    if opt.report:
        page.check_output(opt.report)
    plots.check_folder(opt.plots)
    for flag in ("report", "plots"):
        if getattr(opt, flag) and opt.no_eval:
            raise UserError("without an evaluation there is nothing to show", f"--{flag} with --no_eval", "drop one")
    opt.statistics = opt.statistics or opt.dataset != "make3d"  # whose depths have no bands


def write(opt, evaluations, tell):
    """Write the page and the plots that the options ask for.

    Args:
        opt: the options of the evaluation, `prepare`d.
        evaluations: a list of `evaluation.evaluate.Evaluation`, of the same images.
        tell: print, or what is called like it.
    """
    report, folder = opt.report, opt.plots
    pictured = _pictured(evaluations)
    charts = charts_of(pictured)
    if len(evaluations) > 1 and "statistics" in evaluations[0].summary:
        charts.insert(0, comparison_chart(evaluations))
    chosen = chosen_images(best(evaluations).results)
    rows = _picture_rows(opt, evaluations, pictured, chosen, as_addresses=report is not None, keep=folder is not None)
    if report:
        page.write(
            report, "evaluation.html",
            evaluations=evaluations, best=best(evaluations), task=evaluations[0].task,
            protocol=protocol_text(evaluations[0].task.protocol), columns=_marked(evaluations), charts=charts,
            names=[each.name for each in evaluations], pictured=[each.name for each in pictured],
            rows=rows, abouts=[_about(each) for each in evaluations], higher=HIGHER_IS_BETTER,
        )  # fmt: skip
        tell(f"report written to {report}")
    if folder:
        for chart in charts:
            plots.write_chart(folder, chart)
        number = pictured.index(best(evaluations))
        one_of_a_kind = {row["kind"]: row for row in reversed(rows)}
        sheet = [(f"{row['kind'].lower()}, abs_rel {row['values'][number]:.3f}", row["sheet"])
                 for row in rows if row is one_of_a_kind[row["kind"]]]  # fmt: skip
        plots.write_sheet(folder, "examples", ("", "ground truth", "prediction", "error"), sheet)
        tell(f"plots written to {folder}")


def protocol_text(protocol):
    """Return the sentence that says how predictions met ground truth."""
    reach = "" if np.isinf(protocol.max_gt) else f", ground truth below {protocol.max_gt:g} m"
    crop = "Garg's crop" if protocol.garg_crop else "no crop"
    factor = "" if protocol.scale_factor == 1 else f", after a factor of {protocol.scale_factor:g}"
    return f"{crop}{reach}, {ALIGNMENTS[protocol.alignment]}{factor}"


# ------------------------------------------------------------------------------------------------------- figures


def charts_of(evaluations):
    """Return the `Chart`s of evaluations: errors by band, where they were summed, and the images' own errors."""
    charts = []
    if "statistics" in evaluations[0].summary:
        near = [name for name in statistics.BANDS if name.endswith(" m")]
        rows = [name for name in statistics.BANDS if name.startswith("rows")]
        edges = [name for name in statistics.BANDS if name.endswith("edges")]
        charts += [
            _bands(evaluations, "error_by_distance", "Relative error by distance", near, "abs_rel", "true distance"),
            _bands(evaluations, "rmse_by_distance", "RMSE by distance", near, "rmse", "true distance"),
            _bands(evaluations, "error_by_row", "Relative error by image row", rows, "abs_rel", "from the top"),
            _bands(evaluations, "error_near_edges", "Relative error at depth edges", edges, "abs_rel", "pixels"),
        ]
    sorted_errors = [np.sort([each.errors[0] for each in one.results if each.pixels]) for one in evaluations]
    series = tuple(Series(one.name, tuple(np.linspace(0, 100, len(errors))), tuple(map(float, errors)))
                   for one, errors in zip(evaluations, sorted_errors, strict=True))  # fmt: skip
    if len(sorted_errors[0]) > 1:
        title = "Images from the best to the worst"
        charts.append(Chart("error_of_images", title, "share of images, %", "abs_rel", series))
    return charts


def comparison_chart(evaluations):
    """Return the `Chart` of the mean abs_rel of every evaluation, with its interval."""
    ends = [each.summary["statistics"]["intervals"]["abs_rel"] for each in evaluations]
    middle = tuple(float(each.means[0]) for each in evaluations)
    line = Series("abs_rel", tuple(range(len(middle))), middle, *map(tuple, zip(*ends, strict=True)))
    names = tuple(each.name for each in evaluations)
    return Chart("comparison", "abs_rel with its 95 % interval", "weights", "abs_rel", (line,), names)


def _bands(evaluations, name, title, bands, metric, label):
    series = []
    for one in evaluations:
        table = one.summary["statistics"]["bands"]
        values = [np.nan if table[band][metric] is None else table[band][metric] for band in bands]
        series.append(Series(one.name, tuple(range(len(bands))), tuple(values)))
    unit = "rmse, m" if metric == "rmse" else metric
    return Chart(name, title, label, unit, tuple(series), tuple(bands))


def _marked(evaluations):
    """Return, for each metric, (its name, the index of the best evaluation)."""
    table = np.array([each.means for each in evaluations])
    names = evaluations[0].task.metrics
    return [(name, int((np.nanargmax if name in HIGHER_IS_BETTER else np.nanargmin)(table[:, column])))
            for column, name in enumerate(names)]  # fmt: skip


# ------------------------------------------------------------------------------------------------------- pictures


def chosen_images(results):
    """Return [("Best" or "Median" or "Worst", index)] of the images by abs_rel, none twice."""
    order = sorted((index for index, each in enumerate(results) if each.pixels), key=lambda i: results[i].errors[0])
    from_middle = sorted(range(len(order)), key=lambda place: abs(place - (len(order) - 1) / 2))
    middle = [order[place] for place in from_middle[:OF_A_KIND]]
    kinds = {"Best": order[:OF_A_KIND], "Median": middle, "Worst": order[::-1][:OF_A_KIND]}
    taken, chosen = set(), []
    for number in range(OF_A_KIND):  # in turn, so that few images are shared out among the kinds
        for kind, indices in kinds.items():
            if number < len(indices) and indices[number] not in taken:
                taken.add(indices[number])
                chosen.append((kind, indices[number]))
    return sorted(chosen, key=lambda pair: list(kinds).index(pair[0]))


def _pictured(evaluations):
    """Return those that charts and pictures show: all, or some from the first to the last, the best among them."""
    if len(evaluations) <= MOST_PICTURED:
        return evaluations
    places = set(np.linspace(0, len(evaluations) - 1, MOST_PICTURED - 1).round().astype(int))
    marked = best(evaluations)
    return [each for place, each in enumerate(evaluations) if place in places or each is marked]


def _picture_rows(opt, evaluations, pictured, chosen, as_addresses, keep):
    """Return a dict for each chosen image: kind, line, values (abs_rel of the pictured), and its pictures."""
    task, marked = evaluations[0].task, best(evaluations)
    rows = [{"kind": kind, "line": task.lines[index], "photo": None,
             "values": [each.results[index].errors[0] for each in pictured], "predictions": [], "errors": []}
            for kind, index in chosen]  # fmt: skip
    for one in pictured:
        made = panels(opt, one, [index for _, index in chosen])
        for row, each in zip(rows, made, strict=True):
            if as_addresses:
                row["predictions"].append(page.picture(each.prediction))
                row["errors"].append(page.picture(each.error))
            if one is marked:
                row["size"] = each.truth.shape[1], each.truth.shape[0]
                if as_addresses:
                    row["truth"] = page.picture(each.truth)
                    row["photo"] = None if each.photo is None else page.picture(each.photo)
                if keep:
                    photo = np.full_like(each.truth, 255) if each.photo is None else each.photo
                    row["sheet"] = [photo, each.truth, each.prediction, each.error]
    return rows


# ------------------------------------------------------------------------------------------------------- weights


def _about(evaluation):
    """Return (name, [(label, text)]) of what is known about the predictions of an evaluation."""
    summary = evaluation.summary
    rows = [("Predictions", summary["predictions"])]
    if "model" in summary:
        dilations = " / ".join(",".join(map(str, stage)) for stage in summary["dilations"])
        model = summary["model"] or "Lite-Mono of another size"
        rows += [("Network", f"{model}, {summary['width']}x{summary['height']}, dilations {dilations}"),
                 ("Cost", f"{summary['parameters'] / 1e6:.3f} M parameters, "
                          f"{summary['multiply_adds'] / 1e9:.2f} G multiply-adds")]  # fmt: skip
    if summary["post_process"]:
        rows.append(("Post-processing", "merged with the prediction for the mirrored image"))
    ratio = summary["scaling_ratio"]
    if ratio["median"] is not None:
        rows.append(("Scaling ratios", f"median {ratio['median']:.3f}, relative deviation {ratio['relative_std']:.3f}"))
    folder = summary["predictions"]
    if os.path.isdir(folder):
        chosen = _beside(os.path.join(folder, "metrics.json"))
        if "chosen_by" in chosen:
            rows.append(("Chosen by", f"{chosen['chosen_by']} in epoch {chosen.get('epoch')}"))
        run = facts_about(_beside(os.path.join(os.path.dirname(folder), "run.json")))
        rows += [(f"Run: {label.lower()}", text) for label, text in run]
    return evaluation.name, rows


def _beside(path):
    """As `read_json`, but a damaged file is passed over: it is only an extra here."""
    try:
        return read_json(path)
    except UserError:
        return {}
