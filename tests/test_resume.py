"""A run that was broken off and resumed equals the undisturbed one, bit for bit; a damaged state is never used."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train
import trainer
from tests.short_runs import arguments, assert_same_end, files_below, newest_state
from training import state

ROOT = Path(__file__).resolve().parents[1]
LONG = ("--num_epochs", 2, "--drop_path", 0.3, "--lr", 1e-3, 1e-5, 3, 1e-3, 1e-5, 3)
STEPS = 6  # of LONG


class Crash(Exception):
    """Stands for the end of a process."""


@pytest.fixture
def run_until(monkeypatch):
    """run_until(argv, step): train, and crash before the given step's update is counted."""

    def run(argv, step):
        whole = trainer.Trainer._optimise

        def optimise(self, batches):
            if self.step + 1 == step:
                raise Crash
            return whole(self, batches)

        with monkeypatch.context() as patch:
            patch.setattr(trainer.Trainer, "_optimise", optimise)
            with pytest.raises(Crash):
                train.main(argv)

    return run


@pytest.fixture(scope="module")
def undisturbed(synthetic_drive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert train.main(arguments(synthetic_drive, folder, *LONG)) == 0
    return folder / "run"


@pytest.mark.parametrize("step, more", [(5, ()), (3, ("--save_steps", 1)), (6, ("--save_steps", 2)), (2, ("--save_steps", 1, "--num_workers", 2))])  # fmt: skip
def test_a_resumed_run_equals_the_undisturbed_one(undisturbed, short_run, run_until, tmp_path, step, more):
    run_until(short_run(*LONG, *more), step)
    torch.manual_seed(99)  # what the process did in between does not matter
    assert train.main(short_run(*LONG, *more, "--resume")) == 0
    assert_same_end(undisturbed, tmp_path / "runs" / "run")
