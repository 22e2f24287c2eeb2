"""Where labelled images are found: folders of classes, tar shards or a zip, read by timm's readers, and checked."""

import glob
import hashlib
import os
import tarfile
import zipfile

from timm.data.readers.img_extensions import is_img_extension
from timm.data.readers.reader import Reader
from timm.data.readers.reader_image_folder import ReaderImageFolder
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from timm.utils.misc import natural_key

from system.errors import UserError

ARCHIVES = (".tar", ".zip")


class ZipReader(Reader):
    """timm reader of a zip: the class of an image is the folder it lies in."""

    def __init__(self, root):
        super().__init__()
        self.root, self._open = root, {}
        with zipfile.ZipFile(root) as file:
            names = [name for name in file.namelist() if is_img_extension(os.path.splitext(name)[1].lower())]
        labels = {name: os.path.basename(os.path.dirname(name)) for name in sorted(names, key=natural_key)}
        classes = sorted(set(labels.values()), key=natural_key)
        self.class_to_idx = {label: number for number, label in enumerate(classes)}
        self.samples = [(name, self.class_to_idx[label]) for name, label in labels.items()]

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        name, target = self.samples[index]
        if os.getpid() not in self._open:  # a forked worker must not share the file's position
            self._open = {os.getpid(): zipfile.ZipFile(self.root)}
        return self._open[os.getpid()].open(name), target

    def _filename(self, index, basename=False, absolute=False):
        return self.samples[index][0]


def open_reader(path):
    """Return timm's reader of a folder of classes, a folder of tar shards, a tar or a zip.

    Raises:
        UserError: nothing there, or no image in it.
    """
    kind = ReaderImageFolder
    if path.endswith(".zip"):
        kind = ZipReader
    elif path.endswith(".tar") or glob.glob(os.path.join(glob.escape(path), "*.tar")):
        kind = ReaderImageInTar
    if not os.path.exists(path):
        raise UserError("no such images", path, "check --data_path and --eval_data_path")
    try:
        reader = kind(path)
    except (RuntimeError, ValueError, AssertionError, tarfile.TarError, zipfile.BadZipFile) as error:
        if isinstance(error, tarfile.TarError | zipfile.BadZipFile):
            raise UserError("the archive cannot be read", path, "copy or download it again") from error
        reader = ()
    if not len(reader):
        raise UserError("no images", path, "it takes one folder for each class, with .jpg, .jpeg or .png images in it")
    return reader


def class_names(reader):
    """Return the names of a reader's classes in the order of their numbers."""
    numbers = reader.class_name_to_idx if isinstance(reader, ReaderImageInTar) else reader.class_to_idx
    return sorted(numbers, key=numbers.get)


def digest(reader):
    """Return the SHA-256 of the images' names in order."""
    return hashlib.sha256("\n".join(reader.filenames()).encode()).hexdigest()


def find_part(opt, part):
    """Return the path of "train" or "val": as the options say, below --data_path where they do not."""
    if part == "val" and opt.eval_data_path:
        return os.path.expanduser(opt.eval_data_path)
    root = os.path.expanduser(opt.data_path)
    if not os.path.exists(root):
        raise UserError("no such data folder", root, "give --data_path with train and val in it")
    names = [part + ending for ending in ("", *ARCHIVES)] + (["validation"] if part == "val" else [])
    if opt.data_set == "IMNET" or part == "val":
        for name in names:
            if os.path.exists(os.path.join(root, name)):
                return os.path.join(root, name)
    if part == "train" and (opt.data_set == "image_folder" or opt.eval_data_path or os.path.isfile(root)):
        return root
    fix = (
        "give --eval_data_path, or train with --disable_eval"
        if part == "val"
        else "or --data_set image_folder for classes right below"
    )
    raise UserError(f"no {part} images", os.path.join(root, part), fix)


def check_classes(names, nb_classes, path):
    """Raises UserError unless there are as many class names as --nb_classes says."""
    if len(names) != nb_classes:
        raise UserError("the number of classes does not agree", f"{path}: {len(names)}, --nb_classes {nb_classes}",
                        f"pass --nb_classes {len(names)}, or check the folders")  # fmt: skip


def check_same_classes(names, reader, path):
    """Raises UserError where a reader has classes beyond `names`."""
    unknown = sorted(set(class_names(reader)) - set(names), key=natural_key)
    if unknown:
        raise UserError("validation has classes that training has not", f"{path}: {', '.join(unknown[:3])}",
                        "use the same class folders in both")  # fmt: skip
