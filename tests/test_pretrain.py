"""ImageNet pre-training: the classifier, its data, its steps, its states and its command lines."""

import argparse
import importlib.util
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from networks import LiteMono
from networks.model_table import MODELS

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDER = os.path.join(ROOT, "lite-mono-pretrain-code")
sys.path.insert(1, FOLDER)

import timm  # noqa: E402

import classifier  # noqa: E402
import labelled_images as images  # noqa: E402
import readers  # noqa: E402
from checkpointing.files import write_state  # noqa: E402
from checkpointing.imagenet import load_pretrained_encoder  # noqa: E402
from learner import Learner  # noqa: E402
from options import LiteMonoOptions  # noqa: E402
from pretraining_options import make_parser, parse  # noqa: E402
from system.errors import UserError  # noqa: E402
from tests.shapes_and_textures import CLASSES, write_folder  # noqa: E402
from training.run import states as states  # noqa: E402
from training.run.distributed import Processes  # noqa: E402


def words(text):
    return text.split()


def load_main(name):
    spec = importlib.util.spec_from_file_location(f"pretraining_{name}", os.path.join(FOLDER, f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


main, export = load_main("main"), load_main("export_encoder")
SMALL = words(
    "--model lite-mono-tiny --nb_classes 3 --input_size 32 --batch_size 4 --num_workers 0 --warmup_epochs "
    "0 --device cpu"
)


@pytest.fixture(scope="module")
def three_classes(tmp_path_factory):
    """12 training and 6 validation images of three classes."""
    return write_folder(tmp_path_factory.mktemp("three"), train=4, val=2, classes=CLASSES[:3], size=40)


@pytest.fixture(scope="module")
def finished_run(three_classes, tmp_path_factory):
    """The folder of a finished run of two epochs with a moving average."""
    out = tmp_path_factory.mktemp("short") / "run"
    flags = ["--update_freq", "1", "--epochs", "2", "--model_ema", "--model_ema_eval", "--model_ema_decay", "0.5"]
    assert main([*SMALL, *flags, "--data_path", three_classes, "--output_dir", str(out)]) == 0
    return out


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def options(*flags):
    return parse([*SMALL, *flags])


def network(opt):
    return timm.create_model(opt.model, num_classes=opt.nb_classes, drop_path_rate=opt.drop_path)


def batch(count=4, size=32, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(count, 3, size, size, generator=generator)
    return {"image": image, "target": torch.arange(count) % classes}


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
    ours = {os.path.splitext(name)[0] for name in os.listdir(FOLDER)}
    theirs = {os.path.splitext(name)[0] for name in os.listdir(ROOT)}
    assert ours & (theirs | set(sys.stdlib_module_names)) <= {"__pycache__"}


# ---------------------------------------------------------------------------------------------------------- options


def test_published_defaults():
    wanted = "batch_size 512 epochs 100 update_freq 2 model lite-mono drop_path 0.0 input_size 256 nb_classes 1000 "
    wanted += "data_path data/ILSVRC2012/imagenet/ output_dir ./save num_workers 10 seed 0 opt_eps 1e-08 momentum 0.9 "
    wanted += "save_ckpt_freq 1 save_ckpt_num 3 layer_scale_init_value 1e-05 model_ema_decay 0.9995 opt adamw lr 0.001 "
    wanted += "weight_decay 0.05 min_lr 1e-06 warmup_epochs 5 warmup_start_lr 0.0 color_jitter 0.0 smoothing 0.0 "
    wanted += "aa rand-m9-mstd0.5-inc1 train_interpolation bicubic min_crop_size_w 160 max_crop_size_h 320 "
    wanted += "enable_wandb False model_ema False auto_resume True dist_eval True pin_mem True data_set IMNET"
    names, values = words(wanted)[::2], words(wanted)[1::2]
    opt = vars(make_parser().parse_args([]))
    assert [str(opt[name]) for name in names] == values


@pytest.mark.parametrize("flags, value", [([], False), (["--model_ema"], True), (["--model_ema", "true"], True),
                                          (["--model_ema", "false"], False)])  # fmt: skip
def test_booleans_stand_bare_or_with_a_word(flags, value):
    assert parse(flags).model_ema is value


def test_contradictions_are_told_together():
    with pytest.raises(UserError) as caught:
        parse(["--input_size", "250", "--drop_path", "1.5", "--warmup_epochs", "100"])
    assert len(caught.value.problems) == 3


# ---------------------------------------------------------------------------------------------------------- data


def test_folder_tar_shards_and_zip_hold_the_same_images(three_classes, tmp_path):
    train = os.path.join(three_classes, "train")
    os.makedirs(tmp_path / "shards")
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as packed:
        for number, name in enumerate(sorted(os.listdir(train))):
            with tarfile.open(tmp_path / "shards" / f"{number}.tar", "w") as shard:
                shard.add(os.path.join(train, name), name)
            for file in sorted(os.listdir(os.path.join(train, name))):
                packed.write(os.path.join(train, name, file), f"{name}/{file}")
    opened = [readers.open_reader(str(path)) for path in (train, tmp_path / "shards", tmp_path / "train.zip")]
    for reader in opened:
        assert readers.class_names(reader) == sorted(CLASSES[:3])
    items = [[images.LabelledImages(reader, [np.asarray])[index] for index in range(12)] for reader in opened]
    keys = [sorted((item["target"], item["image"].tobytes()) for item in each) for each in items]
    assert keys[0] == keys[1] == keys[2]


def test_an_augmented_image_depends_on_seed_epoch_and_number_alone(three_classes):
    opt = options("--aa", "rand-m9-mstd0.5-inc1", "--train_interpolation", "random")
    transform = images.make_transform(opt, (32, 32), is_training=True)
    dataset = images.LabelledImages(readers.open_reader(os.path.join(three_classes, "train")), [transform], seed=3)
    torch.manual_seed(1)
    first = dataset[2, 5, 0]["image"]
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    assert torch.equal(dataset[2, 5, 0]["image"], first)
    assert not torch.equal(dataset[3, 5, 0]["image"], first)


def test_multi_scale_batches_hold_about_the_same_number_of_pixels():
    opt = parse(["--multi_scale_sampler"])
    sizes = images.crop_sizes(opt)
    assert sizes == [(side, side) for side in range(160, 321, 32)]
    counts = images.batch_sizes(sizes, 512, 256)
    pixels = [count * height * width for count, (height, width) in zip(counts, sizes, strict=True)]
    assert max(pixels) / min(pixels) < 1.01
    assert all(count % 2 == 0 for count in images.batch_sizes(sizes, 9, 256, even=True))


def test_batches_of_an_epoch_are_disjoint_alike_in_all_processes_and_resumable():
    counts = [3, 2]
    orders = [images.BatchOrder(40, counts, 5, Processes(rank, rank, 2)) for rank in range(2)]
    for order in orders:
        order.begin(1)
    batches = [list(order) for order in orders]
    assert [[len(each) for each in share] for share in batches][0] == [len(each) for each in batches[1]]
    seen = [index for share in batches for each in share for _, index, _ in each]
    assert len(seen) == len(set(seen)) >= 36
    assert {choice for each in batches[0] for _, _, choice in each} == {0, 1}
    assert all(len(each) == counts[each[0][2]] and len({choice for _, _, choice in each}) == 1 for each in batches[0])
    orders[0].begin(1, 4)
    assert list(orders[0]) == batches[0][4:]
    orders[0].begin(2)
    assert list(orders[0]) != batches[0] and len(list(orders[0])) == len(batches[0]) == len(orders[0])


# ---------------------------------------------------------------------------------------------------------- steps


def frozen_learner(*flags):
    torch.manual_seed(0)
    opt = options(*flags)
    model = network(opt).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # statistics are of a batch: with them fixed, sums over batches can be compared
    return Learner(opt, model, torch.device("cpu"), Processes(), 4)


@pytest.mark.parametrize("cuts", [(4, 4), (6, 2), (2, 2, 2, 2)])
def test_gradient_accumulation_equals_the_larger_batch(cuts):
    whole = batch(8)
    parts = zip(*(value.split(cuts) for value in whole.values()), strict=True)
    one, many = frozen_learner("--opt", "sgd"), frozen_learner("--opt", "sgd")
    losses = one.learn([whole]), many.learn([dict(zip(whole, part, strict=True)) for part in parts])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for (name, a), b in zip(one.network.named_parameters(), many.network.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-6 + 1e-4 * a.grad.abs().max().item(), msg=name)


def test_norms_biases_layer_scales_and_temperatures_do_not_decay():
    learner = frozen_learner()
    still = {id(p) for group in learner.optimiser.param_groups if group["weight_decay"] == 0 for p in group["params"]}
    for name, value in learner.network.named_parameters():
        wanted = value.ndim <= 1 or name.endswith("temperature") or "gamma" in name
        assert (id(value) in still) == wanted, name


def test_learning_rate_warms_up_and_falls_along_a_cosine_and_weight_decay_too():
    flags = ("--epochs", "10", "--warmup_epochs", "2", "--lr", "0.1", "--min_lr", "0.01", "--weight_decay_end", "0.01")
    learner = frozen_learner(*flags)
    rates, decays = [], []
    for learner.step in range(40):
        learner.schedule.step_update(learner.step)
        learner._set_weight_decay()
        rates.append(learner.rate)
        decays.append(sorted(group["weight_decay"] for group in learner.optimiser.param_groups))
    np.testing.assert_allclose(rates[:8], 0.1 * np.arange(8) / 8)
    np.testing.assert_allclose(rates[8:], 0.01 + 0.045 * (1 + np.cos(np.pi * np.arange(32) / 32)))
    assert all(low == 0 for low, _ in decays) and decays[0][1] == 0.05 and decays[20][1] == pytest.approx(0.03)


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


def fails(flags, capsys, command=main):
    capsys.readouterr()
    assert command(flags) == 2
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in said
    return lines[0]


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
