"""Calls of evaluate_depth.py for the small network and drive of the tests."""

import evaluate_depth
from tests.seeded_folders import MODEL


def run(weights, tree, *more):
    data, split = tree
    arguments = ["--load_weights_folder", weights, "--data_path", data, "--eval_split", split, "--model", MODEL]
    return evaluate_depth.main([str(each) for each in (*arguments, "--no_cuda", "--num_workers", "2", *more)])
