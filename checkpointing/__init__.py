"""Weights on disk: single files, weights folders, ImageNet weights, and the published weights by name."""
