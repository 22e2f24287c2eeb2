"""Validation: the whole list, all networks in eval mode, nothing changed by it, weights_best chosen by it."""

import json

import pytest
import torch

import train
import trainer as trainer_module
from system.distributed import Processes
from tests.short_runs import arguments, differences, files_below, options
from trainer import Trainer
from training import validation
from training.best import choose_metric
from training.data import TrainingData


@pytest.fixture(scope="module")
def opened(synthetic_drive, tmp_path_factory):
    """A trainer with ResNet poses and its data open; BatchNorm statistics everywhere."""
    argv = arguments(synthetic_drive, tmp_path_factory.mktemp("run"), "--pose_model_type", "separate_resnet")
    made = Trainer(options(*argv, "--batch_size", 1))
    made.data = TrainingData(made.opt, made.objective, made.processes, made.device)
    return made


def run(made, loader=None):
    batches = made.data.validation() if loader is None else loader
    protocol = validation.protocol_for("kitti")
    parts = made.objective, protocol, made.prepare, made.precision.autocast, Processes()
    return validation.validate(made.network, batches, *parts)


def test_validation_changes_no_network_and_leaves_them_training(opened):
    opened.network.train()
    before = {key: value.clone() for key, value in opened.network.state_dict().items()}
    chance = torch.get_rng_state()
    seen = {}

    def remember(name):
        def hook(module, _):
            seen.setdefault(name, module.training)

        return hook


    def watch(name):
        def remember(module, _):  # must return None: anything else would replace the input
            seen.setdefault(name, module.training)

        return remember

    hooks = [network.register_forward_pre_hook(watch(name)) for name, network in opened.models.items()]
    run(opened)
    for hook in hooks:
        hook.remove()
    assert seen == dict.fromkeys(opened.models, False)
    assert all(network.training for network in opened.models.values())
    assert any("running_mean" in key for key in before if "pose_encoder" in key)
    assert not differences(dict(opened.network.state_dict()), before)
    assert torch.equal(torch.get_rng_state(), chance)


def test_the_whole_list_counts_and_the_order_of_batches_does_not(opened):
    results, shown = run(opened)
    batches = list(opened.data.validation())
    assert len(batches) == len(opened.data.val_set) == 2
    single = [run(opened, [each])[0] for each in batches]
    for name in ("loss", "abs_rel", "a1"):
        assert results[name] == pytest.approx(sum(each[name] for each in single) / 2, rel=1e-4)
    assert shown is not None and set(results) == {"loss", *validation.METRICS}


def test_validation_is_repeatable(opened):
    assert run(opened)[0] == run(opened)[0]


def test_items_without_ground_truth_count_for_the_loss_alone(opened):
    first = next(iter(opened.data.validation()))
    blind = {**first, "depth_gt": torch.zeros_like(first["depth_gt"])}
    assert set(run(opened, [blind])[0]) == {"loss"}
    both, known = run(opened, [first, blind])[0], run(opened, [first])[0]
    assert both["abs_rel"] == known["abs_rel"]


def test_the_metric_is_chosen_by_what_there_is():
    assert choose_metric("auto", {"loss": 1.0, "abs_rel": 0.1}) == "abs_rel"
    assert choose_metric("auto", {"loss": 1.0}) == "loss"
    assert choose_metric("a1", {"loss": 1.0, "a1": 0.1}) == "a1"
    assert validation.protocol_for("kitti").garg_crop and not validation.protocol_for("kitti_depth").garg_crop


@pytest.mark.parametrize("metric, best", [("auto", 1), ("abs_rel", 1), ("a1", 2), ("loss", 0)])
def test_weights_best_follows_the_metric(synthetic_drive, tmp_path, monkeypatch, metric, best):
    figures = [{"loss": 0.1, "abs_rel": 0.5, "a1": 0.2}, {"loss": 0.2, "abs_rel": 0.3, "a1": 0.1},
               {"loss": 0.3, "abs_rel": 0.4, "a1": 0.9}]  # fmt: skip
    results = iter(figures)
    monkeypatch.setattr(trainer_module, "validate", lambda *_, **__: (next(results), None))
    flags = ("--num_epochs", 3, "--best_metric", metric, "--batch_size", 10)
    assert train.main(arguments(synthetic_drive, tmp_path, *flags)) == 0
    models = tmp_path / "run" / "models"
    kept = json.loads((models / "weights_best" / "metrics.json").read_text())
    assert kept["epoch"] == best and kept["abs_rel"] == figures[best]["abs_rel"]
    mine, chosen = (
        torch.load(models / name / "depth.pth", weights_only=True) for name in ("weights_best", f"weights_{best}")
    )
    assert not differences(mine, chosen)


def test_a_metric_without_ground_truth_is_a_user_error(synthetic_drive, tmp_path, capsys):
    import shutil

    from tests.short_runs import one_line

    data = tmp_path / "data"
    shutil.copytree(synthetic_drive, data, ignore=shutil.ignore_patterns("velodyne_points"))
    assert train.main(arguments(data, tmp_path / "runs", "--best_metric", "abs_rel", "--max_steps", 1)) == 2
    assert "no ground truth to choose weights by" in one_line(capsys)


def test_validation_inside_an_epoch(synthetic_drive, tmp_path, caplog):
    caplog.set_level("INFO")
    assert train.main(arguments(synthetic_drive, tmp_path, "--val_steps", 1)) == 0
    assert [f"validation after step {step}" in caplog.text for step in (1, 2, 3)] == [True] * 3
    assert caplog.text.count("validation after step") == 3
    assert "weights_best/metrics.json" in files_below(tmp_path / "run" / "models")
