"""RoboDepth's scores, and the published figures to compare with (Kong et al., NeurIPS 2023, KITTI-C).

Depth estimation error: DEE = (abs_rel - a1 + 1) / 2. Severities are averaged before the scores are taken; the mean
corruption error and the mean resilience rate are in percent.
"""

import numpy as np

from robustness import CORRUPTIONS

# DEE of Monodepth2 with ResNet-18, the baseline that mCE divides by, in the order of CORRUPTIONS.
BASELINE = dict(zip(CORRUPTIONS, (
    0.130, 0.280, 0.155, 0.277, 0.511, 0.187, 0.244, 0.242, 0.216, 0.201, 0.129, 0.193, 0.384, 0.389, 0.340, 0.388,
    0.145, 0.196), strict=True))  # fmt: skip
BASELINE_CLEAN = 0.119
# DEE of the published lite-mono, 640x192.
LITE_MONO = dict(zip(CORRUPTIONS, (
    0.119, 0.259, 0.144, 0.245, 0.384, 0.177, 0.224, 0.237, 0.221, 0.196, 0.129, 0.175, 0.361, 0.340, 0.334, 0.363,
    0.151, 0.165), strict=True))  # fmt: skip
LITE_MONO_CLEAN = 0.110
PUBLISHED = {  # model: mCE, mRR
    "lite-mono-tiny": (92.92, 86.69),
    "lite-mono-small": (100.34, 84.67),
    "lite-mono": (93.16, 85.99),
    "lite-mono-8m": (90.75, 85.54),
}


def depth_estimation_error(abs_rel, a1):
    """Return DEE of one image set."""
    return (abs_rel - a1 + 1) / 2


def mean_error(cells):
    """Return DEE over severities: `cells` are (abs_rel, a1) of each, which are averaged first."""
    return depth_estimation_error(*np.mean(list(cells), axis=0))


def mean_corruption_error(errors, baseline=BASELINE):
    """Return mCE in percent over the corruptions that `errors`, {name: DEE}, holds."""
    return 100 * float(np.mean([errors[name] / baseline[name] for name in errors]))


def mean_resilience_rate(errors, clean):
    """Return mRR in percent: how much of 1 - DEE of clean images is left, over the corruptions of {name: DEE}."""
    return 100 * float(np.mean([(1 - error) / (1 - clean) for error in errors.values()]))


def table(errors, clean):
    """Return the lines of the comparison.

    Args:
        errors: {name of a corruption: DEE}, in order.
        clean: DEE of the clean images.
    """
    label = max(len(name) for name in CORRUPTIONS) + 2
    lines = [f"{'DEE':<{label}}{'here':>10}{'lite-mono*':>12}{'Monodepth2*':>13}"]
    rows = {"clean": (clean, LITE_MONO_CLEAN, BASELINE_CLEAN)}
    rows |= {name: (error, LITE_MONO[name], BASELINE[name]) for name, error in errors.items()}
    lines += [f"{name:<{label}}{here:>10.3f}{ours:>12.3f}{base:>13.3f}" for name, (here, ours, base) in rows.items()]
    if not errors:
        return lines
    published = {name: LITE_MONO[name] for name in errors}
    baseline = {name: BASELINE[name] for name in errors}
    over = "" if len(errors) == len(CORRUPTIONS) else f" over these {len(errors)} corruptions"
    triples = [(errors, clean), (published, LITE_MONO_CLEAN), (baseline, BASELINE_CLEAN)]
    for name, score in (("mCE %", lambda each, _: mean_corruption_error(each)), ("mRR %", mean_resilience_rate)):
        here, ours, base = (score(*each) for each in triples)
        lines.append(f"{name:<{label}}{here:>10.2f}{ours:>12.2f}{base:>13.2f}{over}")
    others = "; ".join(f"{name} {mce:.2f} / {mrr:.2f}" for name, (mce, mrr) in PUBLISHED.items())
    lines.append(f"published mCE / mRR over all {len(CORRUPTIONS)}: {others}")
    lines.append("* published, 640x192, all of KITTI's 697 Eigen images")
    return lines
