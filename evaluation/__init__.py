"""Measuring depth: the ground truth, the metrics and the protocols of the KITTI Eigen evaluation."""

import system  # noqa: F401 (first of all: it tells which packages are missing)

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "a1", "a2", "a3")
MAKE3D_INTERPOLATIONS = ("lanczos", "bilinear", "bicubic", "nearest")  # of its images on their way to the network
PROTOCOLS = ("eigen", "eigen_50m", "eigen_benchmark", "indoor", "full")  # by name: `metrics.Protocol.named`
ALIGNMENTS = ("median", "scale", "scale_shift", "none")  # of a prediction to its ground truth: `metrics.Protocol`
BENCHMARK = "benchmark"  # the split of KITTI's depth prediction benchmark
