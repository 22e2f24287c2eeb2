"""Weights folders: what is written is read, and nothing else is."""

import logging
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch

from checkpointing import files
from checkpointing.files import load_strictly, read_state
from checkpointing.folders import identify, load_depth_network, load_networks
from checkpointing.models import nearest_network
from networks import DepthDecoder, LiteMono
from networks.model_table import MODELS
from system.errors import UserError
from tests.bomb import Bomb
from tests.conftest import ROOT
from tests.seeded_folders import HEIGHT, MODEL, WIDTH, seeded_networks, write_weights
from tests.short_runs import differences


@pytest.fixture
def folder(tmp_path):
    return write_weights(tmp_path / "weights_0")


def change(path, **entries):
    """Alter entries of a stored state; None removes one."""
    state = {**torch.load(path, weights_only=True), **entries}
    torch.save({key: value for key, value in state.items() if value is not None}, path)


def test_what_is_saved_is_loaded(folder):
    network = load_depth_network(str(folder), MODEL)
    encoder, decoder = seeded_networks()
    assert not differences(dict(network.encoder.state_dict()), dict(encoder.state_dict()))
    assert not differences(dict(network.decoder.state_dict()), dict(decoder.state_dict()))
    assert (network.height, network.width, network.dilations) == (HEIGHT, WIDTH, encoder.dilations)
    assert not network.encoder.training and not network.decoder.training


def test_the_encoder_file_carries_plain_entries_and_the_published_keys(folder):
    state = torch.load(folder / "encoder.pth", weights_only=True)
    plain = {key: value for key, value in state.items() if not isinstance(value, torch.Tensor)}
    assert plain["height"] == HEIGHT and plain["width"] == WIDTH and plain["use_stereo"] is False
    assert plain["dilations"] == [list(stage) for stage in LiteMono(MODEL).dilations]
    assert state.keys() - plain.keys() == LiteMono(MODEL).state_dict().keys()
    assert torch.load(folder / "depth.pth", weights_only=True).keys() == DepthDecoder((32, 64, 128)).state_dict().keys()


def test_published_files_without_dilations_take_those_of_their_size(tmp_path):
    folder = write_weights(tmp_path / "wide", height=320, width=1024)
    change(folder / "encoder.pth", dilations=None)
    assert load_depth_network(str(folder), MODEL).dilations == LiteMono(MODEL, 320, 1024).dilations


def test_stored_dilations_are_taken_and_said_when_they_differ(folder, caplog):
    caplog.set_level(logging.INFO)
    load_depth_network(str(folder), MODEL)
    assert "dilations" not in caplog.text
    change(folder / "encoder.pth", dilations=[[1, 1, 1], [1, 1, 1], [1] * 6])
    assert load_depth_network(str(folder), MODEL).dilations == ((1, 1, 1), (1, 1, 1), (1,) * 6)
    assert "from the weights differ from the published" in caplog.text


def test_given_dilations_replace_the_stored_ones_aloud(folder, caplog):
    caplog.set_level(logging.INFO)
    given = ((1, 2, 5), (1, 2, 5), (1, 2, 5, 2, 4, 10))
    assert load_depth_network(str(folder), MODEL, dilations=given).dilations == given
    assert "from the command line replace" in caplog.text


@pytest.mark.parametrize("stored", [[[1], [1], [1]], 5, ["a"], [[1, 2, 3], [1, 2, 3]], [[0.5] * 3] * 3])
def test_dilations_that_fit_no_block_are_refused(folder, stored):
    change(folder / "encoder.pth", dilations=stored)
    with pytest.raises(UserError):
        load_depth_network(str(folder), MODEL)


@pytest.mark.parametrize("stored", [None, 0, 100, -32, "192", 64.0])
def test_a_file_without_a_usable_size_is_refused(folder, stored):
    change(folder / "encoder.pth", height=stored)
    with pytest.raises(UserError, match="height"):
        load_depth_network(str(folder), MODEL)


@pytest.mark.parametrize("other", ["lite-mono", "lite-mono-small", "lite-mono-8m"])
def test_weights_of_another_model_are_named(folder, other):
    with pytest.raises(UserError, match="they are lite-mono-tiny's: pass --model lite-mono-tiny"):
        load_depth_network(str(folder), other)


def test_missing_and_unexpected_keys_are_refused_and_the_network_stays(folder):
    network = DepthDecoder((32, 64, 128))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = read_state(str(folder / "depth.pth"))
    removed = {key: value for key, value in state.items() if "decoder.8" not in key}
    reshaped = {**state, "decoder.0.conv.conv.bias": torch.zeros(3)}
    number = {**state, "decoder.0.conv.conv.bias": 5}
    for bad in (removed, {**state, "extra": torch.zeros(1)}, reshaped, number):
        with pytest.raises(UserError, match="do not fit"):
            load_strictly(network, bad, "depth.pth")
    assert not differences(dict(network.state_dict()), before)


def test_a_profilers_entries_are_tolerated(folder):
    entries = {"total_ops": torch.zeros(1), "decoder.0.total_params": torch.zeros(1)}
    change(folder / "depth.pth", **entries)
    load_depth_network(str(folder), MODEL)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_bomb_does_not_go_off(folder, tmp_path, save):
    save({"height": Bomb(open, str(tmp_path / "bang"), "w")}, folder / "encoder.pth")
    with pytest.raises(UserError, match="not a readable weights file"):
        load_depth_network(str(folder), MODEL)
    assert not (tmp_path / "bang").exists()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"<html>not found</html>", b"\x80\x02]q\x00.", b"\x00" * 100]
)
def test_what_is_no_weights_file_is_refused(folder, content):
    (folder / "depth.pth").write_bytes(content)
    with pytest.raises(UserError):
        load_depth_network(str(folder), MODEL)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(folder, share):
    path = folder / "encoder.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match="not a readable weights file"):
        load_depth_network(str(folder), MODEL)


def test_a_list_is_no_state_dict(folder):
    torch.save([torch.zeros(1)], folder / "depth.pth")
    with pytest.raises(UserError, match="not a state dict"):
        load_depth_network(str(folder), MODEL)


def test_missing_folder_and_file_are_named(folder):
    with pytest.raises(UserError, match="no such weights folder; .*nowhere"):
        load_depth_network(str(folder / "nowhere"), MODEL)
    (folder / "depth.pth").unlink()
    with pytest.raises(UserError, match="no such weights file; .*depth.pth"):
        load_depth_network(str(folder), MODEL)


def test_networks_are_loaded_all_or_none(folder):
    encoder, decoder = LiteMono(MODEL), DepthDecoder((32, 64, 128))
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    (folder / "depth.pth").write_bytes(b"")
    with pytest.raises(UserError):
        load_networks(str(folder), {"encoder": encoder, "depth": decoder})
    assert not differences(dict(encoder.state_dict()), before)


def test_half_precision_weights_load_as_float32(folder):
    state = torch.load(folder / "depth.pth", weights_only=True)
    torch.save({key: value.half() for key, value in state.items()}, folder / "depth.pth")
    network = load_depth_network(str(folder), MODEL)
    assert all(p.dtype == torch.float32 for p in network.decoder.parameters())


def test_writing_moves_tensors_to_the_cpu_and_leaves_nothing_beside(tmp_path):
    files.write_state(
        str(tmp_path / "a.pth"), {"x": torch.ones(2, requires_grad=True), "n": [1, (2, torch.ones(1))]}
    )
    state = read_state(str(tmp_path / "a.pth"))
    assert state["x"].device.type == "cpu" and not state["x"].requires_grad and state["n"][1][0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.pth"]


# --- what weights are, told by themselves ----------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_the_model_is_told_by_the_weights(tmp_path, model):
    folder = write_weights(tmp_path / "w", model)
    published = LiteMono(model, HEIGHT, WIDTH).dilations
    assert identify(str(folder)) == (model, published)
    network = load_depth_network(str(folder))
    assert network.encoder.model == model
    own = [[5] * len(stage) for stage in published]
    change(folder / "encoder.pth", dilations=own)
    assert identify(str(folder)) == (model, tuple(tuple(stage) for stage in own))
    change(folder / "encoder.pth", dilations=None, height=320, width=1024)
    assert identify(str(folder)) == (model, LiteMono(model, 320, 1024).dilations)


def test_the_nearest_network_is_told_in_spite_of_damage():
    state = LiteMono("lite-mono-small").state_dict()
    assert nearest_network(state) == ("encoder", "lite-mono-small")
    for key in list(state)[:40]:
        del state[key]
    assert nearest_network(state | {"extra": torch.zeros(1)}) == ("encoder", "lite-mono-small")
    assert nearest_network(DepthDecoder((64, 128, 224), (0,)).state_dict()) == ("depth", "lite-mono-8m")
    assert nearest_network({"other": torch.zeros(1)}) is None and nearest_network({}) is None


def test_another_model_is_said_before_its_dilations(folder, caplog):
    caplog.set_level(logging.INFO)
    change(folder / "encoder.pth", dilations=[[1, 1, 1], [1, 1, 1], [1] * 6])
    with pytest.raises(UserError, match="pass --model lite-mono-tiny"):
        load_depth_network(str(folder), "lite-mono-8m")
    assert "dilations" not in caplog.text


@pytest.mark.parametrize("file, entries, words", [
    ("encoder.pth", {"dilations": [[1], [1], [1]]}, "takes 3 [+] 3 [+] 6 whole numbers"),
    ("encoder.pth", {"dilations": [[1, 2, 3], [1, 2, 3], [1, 2, 3, 4, 5, 99999999999999999999]]}, "in 1..512"),
    ("encoder.pth", {"extra": torch.zeros(1)}, "1 unexpected.*is lite-mono-tiny's but for that"),
    ("encoder.pth", {"extra": 5}, "1 unexpected.*is lite-mono-tiny's but for that"),
    ("depth.pth", {"extra": torch.zeros(1)}, "1 unexpected.*but for that"),
    ("encoder.pth", {"height": 32000000}, "too large a size.*16777216 pixels at most"),
    ("encoder.pth", {"height": True}, "usable height"),
    ("encoder.pth", {"min_depth": 0}, "min_depth"), ("encoder.pth", {"min_depth": "x"}, "min_depth"),
    ("encoder.pth", {"min_depth": torch.ones(3)}, "min_depth"), ("encoder.pth", {"max_depth": 10**400}, "max_depth"),
    ("encoder.pth", {"min_depth": -1.0}, "min_depth"), ("encoder.pth", {"min_depth": float("nan")}, "min_depth"),
    ("encoder.pth", {"max_depth": float("inf")}, "max_depth"), ("encoder.pth", {"max_depth": 0.05}, "max_depth"),
    ("encoder.pth", {"min_depth": 1e-320}, "min_depth"), ("encoder.pth", {"min_depth": True}, "min_depth"),
])  # fmt: skip
def test_a_file_with_wrong_content_says_what_and_not_the_model_that_was_passed(folder, file, entries, words):
    change(folder / file, **entries)
    with pytest.raises(UserError, match=words) as caught:
        load_depth_network(str(folder), MODEL)
    assert "pass --model" not in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 1000


def test_a_stored_none_of_the_depth_range_is_refused(folder):
    state = torch.load(folder / "encoder.pth", weights_only=True)
    torch.save({**state, "min_depth": None}, folder / "encoder.pth")
    with pytest.raises(UserError, match="min_depth"):
        load_depth_network(str(folder), MODEL)


def test_a_stored_depth_range_is_returned(folder):
    change(folder / "encoder.pth", min_depth=0.5, max_depth=20)
    assert load_depth_network(str(folder), MODEL).depth_range == (0.5, 20.0)


WEIGHT = "decoder.0.conv.conv.weight"


def altered(value, number):
    value = value.clone()
    value.view(-1)[7] = number
    return value


@pytest.mark.parametrize("alter, words", [
    (lambda v: altered(v, float("nan")), "not finite"), (lambda v: altered(v, float("-inf")), "not finite"),
    (lambda v: altered(v.double(), 1e300), "not finite"),  # infinite as float32
    (lambda v: v.to_sparse(), "sparse"), (lambda v: v.to(torch.complex64), "complex64"),
    (lambda v: v != 0, "bool"), (lambda v: v.long(), "int64"), (lambda v: v.to("meta"), "meta"),
    (lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8), "quantised"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_of_another_kind_and_values_that_are_not_finite_are_refused(folder, alter, words):
    state = torch.load(folder / "depth.pth", weights_only=True)
    torch.save({**state, WEIGHT: alter(state[WEIGHT])}, folder / "depth.pth")
    with pytest.raises(UserError, match=f"{words}.*{WEIGHT}"):
        load_depth_network(str(folder), MODEL)


def test_a_folder_a_level_too_high_says_which_is_meant(tmp_path):
    for name in ("weights_9", "weights_10", "weights_best"):
        write_weights(tmp_path / "run" / "models" / name)
    for given in ("run", "run/models"):
        with pytest.raises(UserError, match="holds no weights.*did you mean .*models/weights_best[?]"):
            load_depth_network(str(tmp_path / given))
    shutil.rmtree(tmp_path / "run/models/weights_best")
    with pytest.raises(UserError, match="did you mean .*models/weights_10[?]"):
        load_depth_network(str(tmp_path / "run"))
    with pytest.raises(UserError, match="a file, not a weights folder"):
        load_depth_network(str(tmp_path / "run/models/weights_9/encoder.pth"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no weights.*give a folder that holds encoder.pth"):
        load_depth_network(str(tmp_path / "empty"))


def test_reading_warns_of_nothing_on_stderr(folder, tmp_path):
    state = {"model": torch.load(folder / "encoder.pth", weights_only=True)}
    torch.save(state, tmp_path / "four.pth", pickle_protocol=4)
    torch.save(state, tmp_path / "old.pth", pickle_protocol=4, _use_new_zipfile_serialization=False)
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "script.pth"))
    code = ("import sys\nfrom checkpointing.files import read_state\nfrom system.errors import UserError\n"
            "for path in sys.argv[1:]:\n    try:\n        read_state(path)\n    except UserError as problem:\n"
            "        print(path, problem)\n")  # fmt: skip
    paths = [str(tmp_path / name) for name in ("four.pth", "old.pth", "script.pth")]
    ended = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0 and ended.stderr == ""
    assert ended.stdout.count("not a readable weights file") == len(ended.stdout.splitlines())
    assert "script.pth" in ended.stdout


def test_what_is_no_file_is_said_so(folder):
    (folder / "depth.pth").unlink()
    os.mkfifo(folder / "depth.pth")
    with pytest.raises(UserError, match="not a file"):
        load_depth_network(str(folder), MODEL)
