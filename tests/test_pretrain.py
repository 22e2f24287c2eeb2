"""Runs of ImageNet pre-training: what they leave, how they go on, what they learn."""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys

import pytest
import torch

from networks import LiteMono
from tests.pretraining import (
    FOLDER,
    SMALL,
    export,
    fails,
    main,
    same,
    words,
)

# isort: split
import timm

from checkpointing.imagenet import load_pretrained_encoder
from learner import Learner
from options import LiteMonoOptions
from tests.shapes_and_textures import write_folder
from training.run import states


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_checkpoints_a_line_an_epoch_and_tensorboard(finished_run):
    held = set(os.listdir(finished_run))
    assert {"checkpoint-0.pth", "checkpoint-1.pth", "checkpoint-best.pth", "checkpoint-best-ema.pth"} <= held
    lines = read_lines(finished_run / "epochs.jsonl")
    assert [line["epoch"] for line in lines] == [0, 1]
    assert {"train_loss", "top1", "top5", "loss", "ema_top1", "learning_rate"} <= set(lines[0])
    assert any("tfevents" in name for name in os.listdir(finished_run / "train"))
    assert json.loads((finished_run / "models" / "run.json").read_text())["splits"]["train"]["lines"] == 12


def test_evaluation_of_a_checkpoint_gives_the_runs_own_result(finished_run, three_classes, capsys):
    last = read_lines(finished_run / "epochs.jsonl")[-1]
    flags = [*SMALL, "--data_path", three_classes, "--eval"]
    for extra, prefix in (([], ""), (["--model_ema_eval"], "ema_")):
        assert main([*flags, "--resume", str(finished_run / "checkpoint-1.pth"), *extra]) == 0
        said = capsys.readouterr().out
        assert f"top-1 {last[prefix + 'top1']:.2f} %" in said and f"loss {last[prefix + 'loss']:.4f}" in said


def test_exported_weights_go_into_the_depth_trainer_with_every_key_matched(finished_run, tmp_path, capsys, caplog):
    out = tmp_path / "encoder.pth"
    for source in ("checkpoint-1.pth", "checkpoint-best-ema.pth", "states/" + os.listdir(finished_run / "states")[0]):
        assert export([str(finished_run / source), str(out)]) == 0
    assert "lite-mono-tiny" in capsys.readouterr().out
    from trainer import Trainer

    flags = ["--model", "lite-mono-tiny", "--weights_init", "scratch", "--no_cuda", "--mypretrain"]
    with caplog.at_level(logging.INFO):
        for path in (out, finished_run / "checkpoint-1.pth"):
            trainer = Trainer(LiteMonoOptions().parse([*flags, str(path)]))
    keys = len(trainer.models["encoder"].state_dict())
    assert caplog.text.count(f"{keys} keys matched, 0 missing, 0 unexpected") == 2


def test_published_files_with_their_scripts_options_can_be_exported(tmp_path):
    model = timm.create_model("lite-mono-small")
    held = {"model": model.state_dict(), "args": argparse.Namespace(lr=6e-3), "epoch": 99}
    torch.save(held, tmp_path / "published.pth")
    assert export([str(tmp_path / "published.pth"), str(tmp_path / "out.pth")]) == 0
    matched, missing, unexpected = load_pretrained_encoder(LiteMono("lite-mono-small"), str(tmp_path / "out.pth"))
    assert matched and not missing and not unexpected


EXACT = words(
    "--epochs 2 --update_freq 1 --drop_path 0.3 --mixup 0.5 --reprob 0.5 --model_ema --model_ema_decay "
    "0.9 --classifier_dropout 0.2 --multi_scale_sampler --min_crop_size_w 32 --min_crop_size_h 32 "
    "--max_crop_size_w 64 --max_crop_size_h 64 --save_steps 1 --disable_eval"
)


@pytest.fixture(scope="module")
def unstopped_run(three_classes, tmp_path_factory):
    """The states' folder of a run in which everything is left to chance."""
    out = tmp_path_factory.mktemp("unstopped")
    assert main([*SMALL, *EXACT, "--data_path", three_classes, "--output_dir", str(out / "run")]) == 0
    return out / "run" / "states"


@pytest.mark.parametrize("how", ["signal", "killed"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(unstopped_run, three_classes, tmp_path, monkeypatch, how):
    learn = Learner.learn

    def stop_at_the_third_step(self, batches):
        if how == "killed" and self.step == 3:
            raise SystemExit(9)  # nothing is written any more: the state of the step before is the newest
        if how == "signal" and self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return learn(self, batches)

    stopped = [*SMALL, *EXACT, "--data_path", three_classes, "--output_dir", str(tmp_path / "run")]
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "learn", stop_at_the_third_step)
        if how == "killed":
            with pytest.raises(SystemExit):
                main(stopped)
        else:
            assert main(stopped) == 128 + signal.SIGTERM
    assert main([*stopped, "--num_workers", "1"]) == 0
    last = [states.StateFolder(folder, 9).newest()[1] for folder in (unstopped_run, tmp_path / "run" / "states")]
    assert last[0]["step"] == last[1]["step"] > 4
    assert same(*last)


def test_a_run_does_not_go_on_with_other_settings(finished_run, three_classes, capsys):
    flags = ["--epochs", "3", "--update_freq", "1", "--data_path", three_classes, "--output_dir", str(finished_run)]
    said = fails([*SMALL, *flags], capsys)
    assert "another" in said and "--auto_resume false" in said


def test_weights_alone_start_a_new_run_and_are_no_state(finished_run, three_classes, tmp_path, caplog, capsys):
    run = [*SMALL, "--data_path", three_classes, "--disable_eval", "--epochs", "1", "--update_freq", "1"]
    run += ["--output_dir", str(tmp_path / "run")]
    good = str(finished_run / "checkpoint-1.pth")
    assert "--finetune" in fails([*run, "--resume", good], capsys)
    assert "drop --model_ema_eval" in fails(
        [*run[:-7], "--eval", "--model_ema_eval", "--resume", str(finished_run / "checkpoint-best-ema.pth")], capsys
    )
    with caplog.at_level(logging.INFO):
        assert main([*run, "--finetune", good, "--lr", "1e-12", "--min_lr", "0", "--weight_decay", "0"]) == 0
    assert "encoder, norm, head" in caplog.text
    before, after = (torch.load(path, weights_only=True)["model"] for path in (good, tmp_path / "run/checkpoint-0.pth"))
    for name in ("head.weight", "stages.2.0.pwconv1.weight"):
        torch.testing.assert_close(after[name], before[name], atol=1e-9, rtol=0)


def test_resume_stands_bare_for_the_newest_state(three_classes, tmp_path, capsys, caplog):
    run = [*SMALL, "--data_path", three_classes, "--disable_eval", "--epochs", "1", "--update_freq", "1"]
    run += ["--auto_resume", "false", "--output_dir", str(tmp_path / "run"), "--resume"]
    assert "no complete state" in fails(run, capsys)
    assert main([*run, "auto"]) == 0
    with caplog.at_level(logging.INFO):
        assert main(run) == 0 and main([*run, "auto"]) == 0
    assert caplog.text.count("resumed from") == 2


def test_usi_checkpoints_are_evaluated_with_their_crop(finished_run, three_classes, tmp_path, capsys):
    held = torch.load(finished_run / "checkpoint-1.pth", weights_only=True)
    torch.save({"state_dict": held["model"], "epoch": 3}, tmp_path / "usi.pth")
    flags = [*SMALL, "--data_path", three_classes, "--eval", "--resume"]
    assert main([*flags, str(tmp_path / "usi.pth"), "--usi_eval"]) == 0
    said = capsys.readouterr().out
    assert main([*flags, str(finished_run / "checkpoint-1.pth"), "--crop_pct", "0.95"]) == 0
    assert said.split(": top-1")[1] == capsys.readouterr().out.split(": top-1")[1]
    assert "drop --usi_eval" in fails([*flags, str(finished_run / "checkpoint-1.pth"), "--usi_eval"], capsys)


class PretendedWandb:
    """Stands for the package: notes what it is told."""

    def __init__(self):
        self.told, self.id = [], "a1"

    def init(self, **settings):
        self.told.append(("init", settings["project"]))
        return self

    def log(self, values, step):
        self.told.append(("log", step, "train_loss" in values))

    def Artifact(self, name, type):
        self.told.append(("artifact", name, type))
        return self

    def add_dir(self, folder):
        self.told.append(("folder", os.path.isfile(os.path.join(folder, "checkpoint-0.pth"))))

    def log_artifact(self, artifact, aliases):
        self.told.append(("upload", aliases))


def test_weights_and_biases_are_told_each_epoch_and_get_the_folder(three_classes, tmp_path, monkeypatch, capsys):
    run = [*SMALL, "--data_path", three_classes, "--disable_eval", "--epochs", "1", "--update_freq", "1"]
    run += ["--enable_wandb", "--wandb_ckpt", "--output_dir"]
    wandb = PretendedWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    assert main([*run, str(tmp_path / "a")]) == 0
    assert wandb.told == [("init", "litemono"), ("log", 3, True), ("artifact", "a1_model", "model"), ("folder", True),
                          ("upload", ["latest", "best"])]  # fmt: skip
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "requirements-wandb.txt" in fails([*run, str(tmp_path / "b")], capsys)


def test_help_comes_without_torch():
    code = f"import sys; sys.argv[1:] = ['--help']; sys.path.insert(0, {FOLDER!r}); import runpy\n"
    code += f"try: runpy.run_path({os.path.join(FOLDER, 'main.py')!r}, run_name='__main__')\n"
    code += "finally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--multi_scale_sampler" in done.stdout, done.stderr


LEARN = words(
    "--nb_classes 10 --model lite-mono-tiny --input_size 32 --update_freq 1 --epochs 8 --warmup_epochs 1 "
    "--lr 1.5e-3 --aa none --num_workers 0 --device cpu --model_ema --model_ema_eval --model_ema_decay 0.9"
)


@pytest.mark.parametrize("count", [1, 2])  # processes: about half a minute of computing
def test_shapes_and_textures_are_learned(count, tmp_path):
    data = write_folder(tmp_path / "data", train=32, val=10)
    flags = [*LEARN, "--batch_size", str(16 // count), "--data_path", data, "--output_dir", str(tmp_path / "run")]
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"] if count > 1 else []
    done = subprocess.run(
        [sys.executable, *launch, os.path.join(FOLDER, "main.py"), *flags],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    last = read_lines(tmp_path / "run" / "epochs.jsonl")[-1]
    assert last["images"] == 100
    assert last["top1"] > 90 and last["ema_top1"] > 90, last
    matched, missing, unexpected = load_pretrained_encoder(
        LiteMono("lite-mono-tiny"), str(tmp_path / "run" / "checkpoint-best.pth")
    )
    assert matched and not missing and not unexpected
