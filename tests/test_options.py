"""The options: names and defaults as published, yes-or-no forms, contradictions all at once."""

import argparse
import os

import pytest

import options
from options import LiteMonoOptions
from system.errors import UserError, UserErrors
from training.recipes import RECIPES, command_line
from training.resumption import FREE_ON_RESUME

DEFAULTS = {
    "log_dir": "./tmp",
    "model_name": "lite-mono",
    "split": "eigen_zhou",
    "model": "lite-mono",
    "weight_decay": 1e-2,
    "drop_path": 0.2,
    "num_layers": 18,
    "dataset": "kitti",
    "png": False,
    "height": 192,
    "width": 640,
    "disparity_smoothness": 1e-3,
    "scales": [0, 1, 2],
    "min_depth": 0.1,
    "max_depth": 100.0,
    "use_stereo": False,
    "frame_ids": [0, -1, 1],
    "profile": True,
    "batch_size": 16,
    "lr": [1e-4, 5e-6, 31, 1e-4, 1e-5, 31],
    "num_epochs": 50,
    "scheduler_step_size": 15,
    "v1_multiscale": False,
    "avg_reprojection": False,
    "disable_automasking": False,
    "predictive_mask": False,
    "no_ssim": False,
    "mypretrain": None,
    "weights_init": "pretrained",
    "pose_model_input": "pairs",
    "pose_model_type": "separate_resnet",
    "no_cuda": False,
    "load_weights_folder": None,
    "models_to_load": ["encoder", "depth", "pose_encoder", "pose"],
    "log_frequency": 250,
    "save_frequency": 1,
    "disable_median_scaling": False,
    "pred_depth_scale_factor": 1.0,
    "ext_disp_to_eval": None,
    "eval_split": "eigen",
    "save_pred_disps": False,
    "no_eval": False,
    "eval_out_dir": None,
    "post_process": False,
}


def parse(*argv):
    return LiteMonoOptions().parse([str(each) for each in argv])


@pytest.mark.parametrize("name", DEFAULTS)
def test_published_option_has_its_default(name):
    assert getattr(parse(), name) == DEFAULTS[name]


def test_data_path_is_kitti_data_beside_the_options():
    assert parse().data_path == os.path.join(os.path.dirname(os.path.abspath(options.__file__)), "kitti_data")


def test_every_option_has_help_and_one_declaration():
    actions = [action for action in LiteMonoOptions().parser._actions if action.dest != "help"]
    assert all(action.help for action in actions)
    assert len({action.dest for action in actions}) == len(actions)


def test_the_published_training_command_is_understood():
    words = ("--data_path DATA --model_name mytrain --num_epochs 30 --batch_size 12 --mypretrain WEIGHTS "
             "--lr 0.0001 5e-6 31 0.0001 1e-5 31")  # fmt: skip
    opt = parse(*words.split())
    assert (opt.data_path, opt.model_name, opt.num_epochs, opt.mypretrain) == ("DATA", "mytrain", 30, "WEIGHTS")
    assert opt.lr == [1e-4, 5e-6, 31, 1e-4, 1e-5, 31]


FLAGS = [name for name, value in DEFAULTS.items() if isinstance(value, bool)]


@pytest.mark.parametrize("name", FLAGS)
def test_flags_stand_bare_or_with_a_word(name):
    needed = ("--disable_automasking",) if name == "predictive_mask" else ()
    assert getattr(parse(*needed, f"--{name}"), name) is True
    for word, value in (("True", True), ("false", False), ("0", False), ("yes", True), ("off", False)):
        assert getattr(parse(*needed, f"--{name}", word), name) is value


def test_profile_false_means_false():
    assert parse("--profile", "False").profile is False


CONTRADICTIONS = {
    "height": ("--height 200", "--height is not a multiple of 32; 200; use 192, for example"),
    "width": ("--width 1", "--width is not a multiple of 32; 1; use 32, for example"),
    "five rates": ("--lr 1e-4 5e-6 31 1e-4 1e-5", "--lr takes six numbers; 5 given"),
    "rates reversed": ("--lr 1e-6 5e-4 31 1e-4 1e-5 31", "--lr of depth is out of range"),
    "no cycle": ("--lr 1e-4 5e-6 31 1e-4 1e-5 0.5", "--lr of pose is out of range"),
    "rate not finite": ("--lr inf 5e-6 31 1e-4 1e-5 31", "--lr of depth is out of range"),
    "cycle not finite": ("--lr 1e-4 5e-6 inf 1e-4 1e-5 31", "--lr of depth is out of range"),
    "depth range": ("--min_depth 5 --max_depth 2", "--min_depth must lie between 0 and --max_depth"),
    "no depth": ("--min_depth 0", "--min_depth must lie between 0 and --max_depth"),
    "scales": ("--scales 0 3", "--scales takes different numbers of 0 1 2"),
    "scales twice": ("--scales 0 0", "--scales takes different numbers of 0 1 2"),
    "no scale 0": ("--scales 1 2", "--scales leaves out 0"),
    "frames without 0": ("--frame_ids -1 1", "--frame_ids must start with 0"),
    "frames twice": ("--frame_ids 0 1 1", "--frame_ids must start with 0"),
    "nothing to compare": ("--frame_ids 0", "a single frame has nothing to be compared with"),
    "mask and automask": ("--predictive_mask", "a predictive mask replaces auto-masking"),
    "drop path": ("--drop_path 1", "--drop_path is a probability below 1"),
    "scale factor": ("--pred_depth_scale_factor nan", "--pred_depth_scale_factor must be positive"),
    "weight decay": ("--weight_decay -1", "--weight_decay must be a number of at least 0"),
    "smoothness": ("--disparity_smoothness nan", "--disparity_smoothness must be a number of at least 0"),
    "two sources": ("--mypretrain A --load_weights_folder B", "two sources for the encoder's weights"),
    "recipe": ("--print_recipe", "there is no recipe to print"),
    "run outside": ("--model_name ..", "--model_name must name a folder below --log_dir"),
    "run unnamed": ("--model_name .", "--model_name must name a folder below --log_dir"),
}  # fmt: skip


@pytest.mark.parametrize("words, message", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_told(words, message):
    with pytest.raises(UserErrors) as caught:
        parse(*words.split())
    assert len(caught.value.problems) == 1
    assert str(caught.value.problems[0]).startswith(message)


def test_all_contradictions_are_told_at_once():
    with pytest.raises(UserErrors) as caught:
        parse("--height", 100, "--lr", 1, "--predictive_mask")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("words", [
    "--nonsense", "--model lite-mono-huge", "--batch_size 0", "--num_epochs many", "--png maybe", "--dilations 1,2",
    "--model_type x", "--num_layers 20", "--models_to_load decoder", "--dataset kitti_test", "--recipe mine",
])  # fmt: skip
def test_unknown_words_are_user_errors(words):
    with pytest.raises(UserError):
        parse(*words.split())


def test_mypretrain_goes_with_the_other_networks_of_a_folder():
    opt = parse("--mypretrain", "A", "--load_weights_folder", "B", "--models_to_load", "pose")
    assert opt.mypretrain == "A"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_sets_options_that_can_be_given_differently(name):
    labels = ("--pseudo_depth", "LABELS") if name.startswith("better_") else ()
    opt = parse("--recipe", name, *labels)
    assert all(getattr(opt, key) == value for key, value in RECIPES[name].items())
    assert parse("--recipe", name, *labels, "--batch_size", 3).batch_size == 3
    printed = parse(*command_line(name).split()[2:])
    assert {**vars(printed), "mypretrain": None} == {**vars(opt), "recipe": None}
    if name.endswith("_scratch"):
        assert printed.mypretrain is None
    else:  # the smallest has no published encoder
        assert printed.mypretrain == ("WEIGHTS" if "-tiny" in name else f"{opt.model}_imagenet")


def test_a_better_recipe_needs_labels():
    with pytest.raises(UserError, match="needs labels"):
        parse("--recipe", "better_lite-mono_640x192")
    assert parse("--recipe", "better_lite-mono_640x192", "--print_recipe").ema == 0.999


def test_options_are_a_namespace():
    assert isinstance(parse(), argparse.Namespace)


def test_workers_follow_the_cores_up_to_twelve(monkeypatch):
    from system import parallel

    for cores, processes, wanted in ((1, 1, 1), (2, 1, 2), (64, 1, 12), (8, 4, 2), (2, 4, 1)):
        monkeypatch.setattr(parallel, "available_cores", lambda cores=cores: cores)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert parse().num_workers == wanted
    assert parse("--num_workers", 12).num_workers == 12


SLIPS = {
    "a sign": (("--num_epochs", "+5"), "'+5' is not a whole number of at least 1"),
    "a billion workers": (("--num_workers", 10**9), "--num_workers is beyond reason; 1000000000; use one for each"),
    "seed": (("--seed", 2**63), "--seed is too large; 9223372036854775808; use a number below 4294967296"),
    "height": (("--height", 32 * 10**7), "--height is larger than any image here; 320000000"),
    "endless depth": (("--max_depth", "inf"), "--min_depth must lie between 0 and --max_depth; 0.1 inf"),
    "no name": (("--resume", ""), "--resume is empty; ''; give a value, or leave the option out"),
    "no list": (("--models_to_load", ""), "invalid choice"),
    "no split": (("--split", ""), "--split is empty"),
    "zero byte": (("--log_dir", "a\0b"), "--log_dir holds a zero byte; 'a\\x00b'"),
}


@pytest.mark.parametrize("argv, text", SLIPS.values(), ids=SLIPS)
def test_a_slip_is_named(argv, text):
    with pytest.raises(UserError) as caught:
        parse(*argv)
    assert text in str(caught.value)


def test_an_option_given_twice_is_told_and_the_last_counts(caplog):
    caplog.set_level("INFO")
    assert parse("--data_path", "A", "--png", "--data_path=B", "--seed", 3, "--seed", 3).data_path == "B"
    assert caplog.messages == ["--data_path is given 2 times: the last counts, B"]


def test_options_that_a_resumed_run_may_change_exist():
    assert set(FREE_ON_RESUME) <= vars(parse()).keys()
    assert len(set(FREE_ON_RESUME)) == len(FREE_ON_RESUME)
