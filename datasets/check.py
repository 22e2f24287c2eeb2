"""Whether the data that a training run will ask for are there: frames of the lists, neighbours, ground truth.

Folders are listed once, so that a check of a whole data set takes seconds; decoding takes longer and is shared by
threads. No network is built.
"""

import collections
import functools
import os
from concurrent.futures import ThreadPoolExecutor

from datasets import dataset_class
from datasets.check_motion import check_motion
from datasets.mono_dataset import LEAVE_OUT, before_first
from datasets.splits import resolve_split, shared_notice
from system.errors import UserError
from system.progress import Progress

SHEET = "contact_sheet.png"  # below the data path of prepared videos
SHOWN = 20  # problems that are listed one by one
SAMPLE = 200  # images that a sample holds at most, spread evenly
PARTS = ("train", "val")


def check_data(opt):
    """Check the data path of the options against their split; print what is missing and what cannot be read.

    Args:
        opt: namespace of `options.LiteMonoOptions`.

    Returns:
        the exit code, 0.

    Raises:
        UserError: something is missing or damaged.
    """
    if not os.path.isdir(opt.data_path):
        raise UserError("no such data folder", opt.data_path, "give --data_path")
    split = resolve_split(opt.split)
    parts = {part: _dataset(opt, split.lines(part)) for part in PARTS}
    notice = shared_notice(split)
    if notice:
        print(f"warning: {notice}")
    impossible = [text for part, dataset in parts.items() for text in _before_first(part, dataset)]
    wanted = {path: who for part, dataset in parts.items() for path, who in wanted_files(part, dataset).items()}
    there = _Listing()
    missing = {path: who for path, who in wanted.items() if not there.has(path)}
    print(f"{split.name}: {', '.join(f'{len(dataset)} items to {_PURPOSE[part]}' for part, dataset in parts.items())}; "
          f"{len(wanted)} files, {len(missing)} missing", flush=True)  # fmt: skip
    tasks = list(_readings(parts, [path for path in wanted if path not in missing], wanted, opt.check_decode))
    damaged = _read_all(tasks, opt.num_workers)
    _show("missing", [f"{path} (wanted by {who})" for path, who in missing.items()])
    _show("damaged", damaged)
    _show("lines without a neighbour", impossible)
    if missing or damaged:
        fetch = "prepare_kitti.py fetches what a split needs; or give" if opt.dataset == "kitti" else "give"
        which = f"{len(missing)} files missing, {len(damaged)} damaged"
        raise UserError("the data are not complete", which, f"{fetch} another --data_path, --split or --png")
    if impossible:
        raise UserError("lines ask for frames that cannot exist", f"{len(impossible)} neighbours", LEAVE_OUT)
    print(f"complete, {len(tasks)} files read")
    if opt.dataset == "frames":
        check_motion(parts["train"], os.path.join(opt.data_path, SHEET))
    return 0


_PURPOSE = {"train": "train on", "val": "validate on"}


def _dataset(opt, lines):
    frames = (*opt.frame_ids, "s") if opt.use_stereo else tuple(opt.frame_ids)
    ending = ".png" if opt.png else ".jpg"
    more = {"frame_stride": opt.frame_stride} if opt.dataset == "frames" else {}
    return dataset_class(opt.dataset)(opt.data_path, lines, opt.height, opt.width, frames, 1, img_ext=ending, **more)


def wanted_files(part, dataset):
    """Return {path: which line wants it} of all images that a data set's items are made of."""
    wanted = {}
    for index, line in enumerate(dataset.lines):
        who = f"{part} line {index + 1}, '{line.folder} {line.frame} {line.side}'"
        for frame in dataset.frame_idxs:
            folder, number, side = dataset.frame_of(index, frame)
            if number >= 0:
                wanted.setdefault(dataset.image_path(folder, number, side), who)
    return wanted


def _before_first(part, dataset):
    """Yield a text for each neighbour with a negative number."""
    for index, line in enumerate(dataset.lines):
        for frame in dataset.frame_idxs:
            if dataset.frame_of(index, frame)[1] < 0:
                which = f"'{line.folder} {line.frame} {line.side}'"
                yield f"{part} line {index + 1}, {which}: {before_first(line, frame)}"


class _Listing:
    """Answers whether files exist by listing each folder once."""

    def __init__(self):
        self._names = functools.cache(self._list)

    def has(self, path):
        folder, name = os.path.split(path)
        return name in self._names(folder)

    @staticmethod
    def _list(folder):
        try:
            return frozenset(os.listdir(folder))
        except OSError:
            return frozenset()


def _readings(parts, images, wanted, how):
    """Yield functions that read what there is: "none" of it, a "sample", or "all"; they raise UserError."""
    if how == "none":
        return
    dataset = parts["train"]
    for path in images if how == "all" else _spread(images):
        yield functools.partial(_decode, dataset, path, wanted[path])
    dataset = parts["val"]
    if dataset.has_depth():
        for line in dataset.lines if how == "all" else _spread(dataset.lines):
            yield functools.partial(dataset.load_depth, line)


def _spread(items):
    step = max(1, -(-len(items) // SAMPLE))
    return items[::step]


def _decode(dataset, path, who):
    dataset.open_image(path, who)


def _read_all(tasks, workers):
    """Run the functions in threads; return the texts of their user errors, in order and each once."""

    def attempt(task):
        try:
            task()
        except UserError as problem:
            return f"{problem.what}: {problem.which}"
        return None

    with ThreadPoolExecutor(max(1, workers)) as pool, Progress("reading", len(tasks), "files") as progress:
        found = list(progress.over(pool.map(attempt, tasks)))
    return list(collections.OrderedDict.fromkeys(text for text in found if text))


def _show(what, entries):
    if entries:
        print(f"{what}: {len(entries)}" + (f", the first {SHOWN}:" if len(entries) > SHOWN else ":"))
        for entry in entries[:SHOWN]:
            print(f"  {entry}")
