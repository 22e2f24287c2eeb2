"""From the options to the objective."""

from losses.objective import Objective
from training.supervision import supervision_of


def make_objective(opt, network):
    """Return the `Objective` that the options describe for these networks."""
    return Objective(
        scales=tuple(opt.scales),
        sources=network.sources,
        min_depth=opt.min_depth,
        max_depth=opt.max_depth,
        smoothness=opt.disparity_smoothness,
        ssim=not opt.no_ssim,
        average=opt.avg_reprojection,
        automask=not opt.disable_automasking,
        v1_multiscale=opt.v1_multiscale,
        relative_translation=opt.pose_model_type == "posecnn",
        supervision=supervision_of(opt),
    )
