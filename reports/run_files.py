"""What a training run has left on disk: run.json, the metrics of its best weights, TensorBoard files."""

import json
import logging
import os
from typing import NamedTuple

from system.errors import UserError, from_os_error
from system.files import open_regular, refuse_unless_regular

PARTS = ("train", "val")
MOST_SCALARS = 5000  # of a tag; of more, TensorBoard's reader keeps a sample
MOST_PICTURES = 24  # of a tag; the same
ALARM = "alarm/"
NOT_A_RUN = "give a run's folder, as train.py makes it: <log_dir>/<model_name>"


class Run(NamedTuple):
    """A run. facts, best: run.json and weights_best/metrics.json, {} where there is none. scalars: {"train/loss":
    [(step, seconds since 1970, value)]}. alarms: [(step, name, message)]. pictures: {"val/disp_0/0": [(step, bytes)]}.
    """

    name: str
    path: str
    facts: dict
    best: dict
    scalars: dict
    alarms: list
    pictures: dict

    def curve(self, tag):
        """Return (steps, values) of a scalar; empty where there is none."""
        points = self.scalars.get(tag, ())
        return tuple(point[0] for point in points), tuple(point[2] for point in points)


def check_run(path):
    """Return the path of a run's folder; raise `UserError` where there is none, or it holds no TensorBoard files."""
    if not os.path.isdir(path):
        raise UserError("no such run", path, NOT_A_RUN)
    if not any(_event_files(path, part) for part in PARTS):
        raise UserError("a folder without TensorBoard files in train/ or val/", path, NOT_A_RUN)
    return os.path.abspath(path)


def _event_files(path, part):
    folder = os.path.join(path, part)
    return [name for name in os.listdir(folder) if "tfevents" in name] if os.path.isdir(folder) else []


def read_run(path):
    """Return the `Run` in a folder that `check_run` has seen.

    Raises:
        UserError: its files hold nothing, or something else.
    """
    scalars, pictures, alarms = {}, {}, []
    for part in PARTS:
        if _event_files(path, part):
            _read_events(os.path.join(path, part), part, scalars, pictures, alarms)
    if not scalars:
        raise UserError("the TensorBoard files hold no numbers", path, NOT_A_RUN)
    models = os.path.join(path, "models")
    best = read_json(os.path.join(models, "weights_best", "metrics.json"))
    name = os.path.basename(os.path.abspath(path))
    return Run(name, path, read_json(os.path.join(models, "run.json")), best, scalars, sorted(alarms), pictures)


def _read_events(folder, part, scalars, pictures, alarms):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    for name in _event_files(os.path.dirname(folder), part):
        refuse_unless_regular(os.path.join(folder, name), "give an undamaged run")
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    reader = EventAccumulator(folder, {"scalars": MOST_SCALARS, "images": MOST_PICTURES, "tensors": 100})
    try:
        reader.Reload()
    except Exception as error:  # of its own kinds, and protobuf's for a file that is none
        raise UserError("TensorBoard files that cannot be read", f"{folder}: {type(error).__name__}",
                        "give an undamaged run") from error  # fmt: skip
    for tag in reader.Tags()["scalars"]:
        if not tag.startswith(ALARM):
            scalars[f"{part}/{tag}"] = [(each.step, each.wall_time, each.value) for each in reader.Scalars(tag)]
    for tag in reader.Tags()["images"]:
        pictures[f"{part}/{tag}"] = [(each.step, each.encoded_image_string) for each in reader.Images(tag)]
    for tag in reader.Tags()["tensors"]:
        if tag.startswith(ALARM):
            name = tag.removeprefix(ALARM).removesuffix("/text_summary")
            for each in reader.Tensors(tag):
                texts = tensor_util.make_ndarray(each.tensor_proto).ravel()
                alarms += [(each.step, name, text.decode(errors="replace")) for text in texts]


def read_json(path):
    """Return the object of a JSON file; {} where there is no such file.

    Raises:
        UserError: it holds something else.
    """
    try:
        with open_regular(path, encoding="utf-8") as file:
            value = json.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise from_os_error(error, path) from error
    except (ValueError, RecursionError) as error:
        raise UserError("not a JSON file", f"{path}: {error}", "give an undamaged run, or remove the file") from None
    if not isinstance(value, dict):
        raise UserError("a JSON file of another kind", path, "give an undamaged run, or remove the file")
    return value


def facts_about(info):
    """Return [(label, text)] of what run.json says, as far as it says it."""
    options = info.get("options") or {}
    rows = [
        ("Command", _words(info.get("command"))),
        ("Model", _joined(options, "model", "width", "height", form="{} at {}x{}")),
        ("Training data", _splits(info.get("splits"))),
        ("Batch", _joined(options, "batch_size", "grad_accum", form="{} items, {} batches a step")),
        ("Device", _joined(info, "device", "processes", form="{}, {} process(es)")),
        ("Source", info.get("revision")),
        ("Python", info.get("python")),
        ("Packages", ", ".join(f"{name} {each}" for name, each in _dict(info.get("versions")).items() if each)),
    ]
    return [(label, str(text)) for label, text in rows if text]


def _joined(values, *names, form):
    found = [_dict(values).get(name) for name in names]
    return None if None in found else form.format(*found)


def _splits(splits):
    told = [f"{_dict(each).get('name')} ({_dict(each).get('lines')} for {'training' if part == 'train' else part})"
            for part, each in _dict(splits).items()]  # fmt: skip
    return ", ".join(told)


def _words(value):
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _dict(value):
    return value if isinstance(value, dict) else {}
