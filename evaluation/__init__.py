"""Measuring depth: the ground truth, the metrics and the protocols of the KITTI Eigen evaluation."""

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
MAKE3D_INTERPOLATIONS = ("lanczos", "bilinear", "bicubic", "nearest")  # of its images on their way to the network
ALIGNMENTS = ("median", "scale", "scale_shift", "none")  # of a prediction to its ground truth: `metrics.Protocol`
