"""ImageNet pre-training: the classifier, its steps, its runs and states, and its command lines."""

import argparse
import json
import logging
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from networks import DepthDecoder, LiteMono
from networks.model_table import MODELS
from tests.pretraining import (
    FOLDER,
    ROOT,
    SMALL,
    batch,
    export,
    fails,
    frozen_learner,
    main,
    words,
)

# isort: split
import timm

import classifier
import labelled_images as images
from checkpointing.files import write_state
from checkpointing.imagenet import load_pretrained_encoder
from learner import Learner
from options import LiteMonoOptions
from pretraining_options import parse
from system.errors import UserError
from tests.shapes_and_textures import CLASSES, write_folder
from training.run import states


@pytest.fixture(scope="module")
def finished_run(three_classes, tmp_path_factory):
    """The folder of a finished run of two epochs with a moving average."""
    out = tmp_path_factory.mktemp("short") / "run"
    flags = ["--update_freq", "1", "--epochs", "2", "--model_ema", "--model_ema_eval", "--model_ema_decay", "0.5"]
    assert main([*SMALL, *flags, "--data_path", three_classes, "--output_dir", str(out)]) == 0
    return out


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# ---------------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_gets_a_gradient_at_every_size(name):
    opt = parse(["--multi_scale_sampler", "--model", name])
    model = timm.create_model(name, num_classes=7)
    for height, width in [(256, 256), images.crop_sizes(opt)[0], images.crop_sizes(opt)[-1]]:
        model.zero_grad()
        logits = model(torch.randn(1, 3, height, width))
        assert logits.shape == (1, 7)
        logits.square().sum().backward()
        assert [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


@pytest.mark.parametrize("name", MODELS)
def test_classification_features_are_the_depth_encoders_last_map(name):
    model, encoder = timm.create_model(name, num_classes=5).eval(), LiteMono(name).eval()
    assert isinstance(model, LiteMono)
    encoder.load_state_dict(classifier.encoder_entries(model.state_dict()))
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        wanted = encoder(image)[-1]
        normalised = (image - 0.45) / 0.225
        assert torch.equal(model.forward_features(normalised)[-1], wanted)
        pooled = torch.nn.functional.layer_norm(wanted.mean((2, 3)), wanted.shape[1:2], eps=1e-6)
        torch.testing.assert_close(model(normalised), pooled @ model.head.weight.T + model.head.bias)


def test_a_pretrained_model_cannot_be_asked_of_timm():
    with pytest.raises(ValueError, match="no weights to download"):
        timm.create_model("lite-mono", pretrained=True)


def test_modules_of_the_folder_shadow_none_of_the_project():
    ours = {os.path.splitext(name)[0] for name in os.listdir(FOLDER) if name.endswith(".py")}
    theirs = {os.path.splitext(name)[0] for name in os.listdir(ROOT)}
    assert not ours & (theirs | set(sys.stdlib_module_names))


# ---------------------------------------------------------------------------------------------------------- steps


@pytest.mark.parametrize("cuts", [(4, 4), (6, 2), (2, 2, 2, 2)])
def test_gradient_accumulation_equals_the_larger_batch(cuts):
    whole = batch(8)
    parts = zip(*(value.split(cuts) for value in whole.values()), strict=True)
    one, many = frozen_learner("--opt", "sgd"), frozen_learner("--opt", "sgd")
    losses = one.learn([whole]), many.learn([dict(zip(whole, part, strict=True)) for part in parts])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for (name, a), b in zip(one.network.named_parameters(), many.network.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-6 + 1e-4 * a.grad.abs().max().item(), msg=name)


@pytest.mark.parametrize("flags", [("--mixup", "0.8", "--cutmix", "1", "--smoothing", "0.1"), ("--smoothing", "0.1"),
                                   ("--reprob", "1", "--resplit", "--recount", "2"), ("--amp", "bf16"), ("--use_amp",),
                                   ("--mixup", "1", "--mixup_mode", "elem"), ("--opt", "lamb", "--clip_grad", "1"),
                                   ("--cutmix_minmax", "0.2", "0.8", "--mixup_mode", "pair")])  # fmt: skip
def test_every_way_to_learn_takes_a_step(flags):
    learner = frozen_learner(*flags)
    learner.step = 1
    before = learner.network.head.weight.clone()
    assert np.isfinite(learner.learn([batch(4), batch(5)]))
    assert not torch.equal(before, learner.network.head.weight)


def test_a_moving_average_follows_and_does_not_change_the_training():
    plain, averaged = frozen_learner(), frozen_learner("--model_ema", "--model_ema_decay", "0.75")
    before = plain.network.head.weight.detach().clone()
    for learner in (plain, averaged):
        learner.step = 1
        learner.learn([batch()])
    after = plain.network.head.weight
    assert torch.equal(after, averaged.network.head.weight)
    torch.testing.assert_close(averaged.ema.module.head.weight, 0.75 * before + 0.25 * after)


# ---------------------------------------------------------------------------------------------------------- runs


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


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a if key not in ("seconds", "history"))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


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


# ---------------------------------------------------------------------------------------------------------- mistakes


def test_mistakes_about_the_images_take_one_line(three_classes, tmp_path, capsys):
    out = ["--output_dir", str(tmp_path / "out")]
    data = ["--data_path", three_classes]
    assert "no such data folder" in fails([*SMALL, *out, "--data_path", str(tmp_path / "nowhere")], capsys)
    assert "--nb_classes 4" in fails([*SMALL, *out, *data, "--nb_classes", "4"], capsys)
    os.makedirs(tmp_path / "empty" / "train" / "cat")
    assert "no images" in fails([*SMALL, *out, "--data_path", str(tmp_path / "empty")], capsys)
    shutil.copytree(os.path.join(three_classes, "train"), tmp_path / "half" / "train")
    said = fails([*SMALL, *out, "--data_path", str(tmp_path / "half")], capsys)
    assert "no val images" in said and "--disable_eval" in said
    shutil.copytree(tmp_path / "half" / "train", tmp_path / "half" / "val")
    os.rename(tmp_path / "half" / "val" / CLASSES[0], tmp_path / "half" / "val" / "zebra")
    assert "zebra" in fails([*SMALL, *out, "--data_path", str(tmp_path / "half")], capsys)
    assert "fewer training images" in fails([*SMALL, *out, *data, "--batch_size", "40"], capsys)
    (tmp_path / "broken.zip").write_bytes(b"PK no")
    zipped = ["--data_path", str(tmp_path / "broken.zip"), "--disable_eval"]
    assert "archive cannot be read" in fails([*SMALL, *out, *zipped], capsys)


def test_a_corrupt_image_is_named_or_skipped(three_classes, tmp_path, capsys):
    shutil.copytree(three_classes, tmp_path / "data")
    broken = tmp_path / "data" / "train" / CLASSES[0] / "001.png"
    broken.write_bytes(broken.read_bytes()[:300])
    run = [*SMALL, "--data_path", str(tmp_path / "data"), "--epochs", "1", "--update_freq", "1", "--disable_eval"]
    said = fails([*run, "--output_dir", str(tmp_path / "a")], capsys)
    assert str(broken) in said and "cannot be read" in said
    assert main([*run, "--output_dir", str(tmp_path / "b"), "--on_bad_sample", "skip"]) == 0


def test_mistakes_about_checkpoints_take_one_line(finished_run, three_classes, tmp_path, capsys):
    flags = [*SMALL, "--data_path", three_classes, "--eval", "--resume"]
    (tmp_path / "text.pth").write_text("no weights")
    assert "not a readable weights file" in fails([*flags, str(tmp_path / "text.pth")], capsys)
    assert "no such weights file" in fails([*flags, str(tmp_path / "none.pth")], capsys)
    good = str(finished_run / "checkpoint-1.pth")
    assert "--model lite-mono-tiny" in fails([*flags, good, "--model", "lite-mono"], capsys)
    assert "--nb_classes 3" in fails([*flags, good, "--nb_classes", "5"], capsys)
    write_state(tmp_path / "other.pth", {"model": torch.nn.Linear(2, 2).state_dict()})
    said = fails([str(tmp_path / "other.pth"), str(tmp_path / "out.pth")], capsys, export)
    assert "not the weights of a Lite-Mono encoder" in said
    flags = [*SMALL, "--data_path", three_classes, "--output_dir", str(tmp_path / "new"), "--resume", good]
    assert "not a resumable state" in fails(flags, capsys)
    assert not os.path.exists(tmp_path / "out.pth")


def test_the_flags_of_the_export_do_not_eat_its_paths_and_only_encoders_go_out(finished_run, tmp_path, capsys):
    good, out = str(finished_run / "checkpoint-1.pth"), str(tmp_path / "out.pth")
    assert export(["--ema", good, out]) == 0
    held = torch.load(good, weights_only=True)
    wanted = {key: value for key, value in held["model_ema"].items() if not key.startswith(("head.", "norm."))}
    assert same(torch.load(out, weights_only=True), {"model": wanted})
    assert export([good, "--keep_head", out]) == 0
    assert same(torch.load(out, weights_only=True), {"model": held["model"]})
    write_state(tmp_path / "depth.pth", DepthDecoder(MODELS["lite-mono-tiny"].channels).state_dict())
    assert "not the weights of a Lite-Mono encoder" in fails([str(tmp_path / "depth.pth"), out], capsys, export)
    held["model"]["stem2.0.conv.weight"][0] = torch.nan
    write_state(tmp_path / "nan.pth", held)
    assert "not finite" in fails([str(tmp_path / "nan.pth"), str(tmp_path / "none.pth")], capsys, export)
    said = fails(["--ema", str(finished_run / "checkpoint-best-ema.pth"), out], capsys, export)
    assert "no moving average" in said and "drop --ema" in said
    assert "would be overwritten" in fails([good, good], capsys, export)
    assert sorted(os.listdir(tmp_path)) == ["depth.pth", "nan.pth", "out.pth"]


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


def test_starting_weights_keep_a_head_for_the_same_classes_only(finished_run, tmp_path):
    path = str(finished_run / "checkpoint-1.pth")
    held = torch.load(path, weights_only=True)
    names = sorted(held["classes"])
    model = timm.create_model("lite-mono-tiny", num_classes=3)
    turned = names[::-1]
    assert classifier.load_starting_weights(model, path, turned) == "encoder, norm, head"
    rows = [held["classes"].index(name) for name in turned]
    assert torch.equal(model.head.weight, held["model"]["head.weight"][rows])
    other = timm.create_model("lite-mono-tiny", num_classes=3)
    before = other.head.weight.clone()
    assert classifier.load_starting_weights(other, path, ["a", "b", "c"]) == "encoder, norm"
    assert torch.equal(other.head.weight, before)
    write_state(tmp_path / "encoder.pth", {"model": classifier.encoder_entries(held["model"])})
    assert classifier.load_starting_weights(other, str(tmp_path / "encoder.pth"), names) == "encoder"
    with pytest.raises(UserError, match="another model"):
        classifier.load_starting_weights(timm.create_model("lite-mono-small", num_classes=3), path, names)


@pytest.mark.parametrize("change, said", [
    ({"classes": 5}, "class names"), ({"classes": [1, 2, 3]}, "class names"), ({"classes": ["a"]}, "class names"),
    ({"head.weight": torch.zeros(())}, "another shape"), ({"extra": torch.zeros(2)}, "not the weights"),
    ({"stem2.0.conv.weight": None}, "not the weights"),
    ({"norm.weight": torch.zeros(128).to_sparse()}, "another kind"),
])  # fmt: skip
def test_odd_content_of_a_checkpoint_is_told(finished_run, tmp_path, change, said):
    held = torch.load(finished_run / "checkpoint-1.pth", weights_only=True)
    (held if "classes" in change else held["model"]).update(change)
    torch.save(held, tmp_path / "odd.pth")
    model = timm.create_model("lite-mono-tiny", num_classes=3)
    for load in (classifier.load_classifier, lambda *both: classifier.load_starting_weights(*both, list("abc"))):
        with pytest.raises(UserError, match=said):
            load(model, str(tmp_path / "odd.pth"))


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


# ---------------------------------------------------------------------------------------------------------- learning

LEARN = words(
    "--nb_classes 10 --model lite-mono-tiny --input_size 64 --update_freq 1 --epochs 8 --warmup_epochs 1 "
    "--lr 1.5e-3 --aa none --num_workers 0 --device cpu --model_ema --model_ema_eval --model_ema_decay 0.9"
)


@pytest.mark.parametrize("count", [1, 2])  # processes: about a minute of computing each
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
