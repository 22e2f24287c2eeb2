"""Measuring depth: the ground truth, the metrics and the protocols of the KITTI Eigen evaluation."""
