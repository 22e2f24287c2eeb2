"""Where labelled images are found, and whether they fit: folders of classes, tar shards or a zip."""

import glob
import hashlib
import os
import stat
import zipfile

from timm.data.readers.img_extensions import set_img_extensions
from timm.data.readers.reader import Reader
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, is_image_file, make_dataset

from system.errors import UserError

ARCHIVES = (".tar", ".zip")


class FolderReader(Reader):
    """Images below one folder for each class, classes and images in torchvision's order."""

    def __init__(self, root):
        super().__init__()
        self.root = root
        _, self.class_to_idx = find_classes(root)
        self.samples = make_dataset(root, self.class_to_idx, extensions=IMG_EXTENSIONS, allow_empty=True)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        path, target = self.samples[index]
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would be waited for
            raise OSError("not a regular file")
        return open(path, "rb"), target

    def _filename(self, index, basename=False, absolute=False):
        path = self.samples[index][0]
        return path if absolute else os.path.basename(path) if basename else os.path.relpath(path, self.root)


class ZipReader(Reader):
    """Images of a zip, as they would be read from the folder that it unpacks to."""

    def __init__(self, root):
        super().__init__()
        self.root, self._open = root, {}
        with zipfile.ZipFile(root) as file:
            names = sorted(name for name in file.namelist() if is_image_file(name))
        folders = {os.path.dirname(name) for name in names}
        top = os.path.commonpath(folders) if folders else ""
        if len(folders) == 1:
            top = os.path.dirname(top)  # the one folder is a class
        labels = {name: os.path.relpath(name, top or ".").split(os.sep)[0] for name in names
                  if os.path.dirname(name) != top}  # fmt: skip
        self.class_to_idx = {label: number for number, label in enumerate(sorted(set(labels.values())))}
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
    """Return the reader of a folder of classes, a folder of tar shards, a tar or a zip.

    Raises:
        UserError: nothing there, no image in it, or a class without one.
    """
    if not os.path.exists(path):
        raise UserError("no such images", path, "check --data_path and --eval_data_path")
    try:
        reader = _open(path)
    except (FileNotFoundError, RuntimeError):  # no class folders, no images
        reader = ()
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # a damaged archive shows in any way
        raise UserError("the archive cannot be read", path, "copy or download it again") from error
    if not len(reader):
        kinds = ", ".join(IMG_EXTENSIONS)
        raise UserError("no images", path, f"it takes one folder for each class, with images in it ({kinds})")
    if isinstance(reader, FolderReader):
        used = {number for _, number in reader.samples}
        empty = [name for name, number in reader.class_to_idx.items() if number not in used]
        if empty:
            raise UserError("a class folder has no images", os.path.join(path, empty[0]), "fill or remove it")
    return reader


def _open(path):
    if path.endswith(".zip"):
        return ZipReader(path)
    if path.endswith(".tar") or glob.glob(os.path.join(glob.escape(path), "*.tar")):
        set_img_extensions(IMG_EXTENSIONS)
        folder = os.path.dirname(path) if os.path.isfile(path) else path
        try:
            return ReaderImageInTar(path, cache_tarinfo=None if os.access(folder, os.W_OK) else False)
        except ValueError as error:  # timm's way to say that there are none
            if "unpack" in str(error):
                raise FileNotFoundError(path) from error
            raise
    if not os.path.isdir(path):
        raise UserError("neither a folder nor an archive", path, "give a folder of classes, a .tar or a .zip")
    return FolderReader(path)


def class_names(reader):
    """Return the names of a reader's classes in the order of its numbers."""
    numbers = reader.class_name_to_idx if isinstance(reader, ReaderImageInTar) else reader.class_to_idx
    return sorted(numbers, key=numbers.get)


def digest(reader):
    """Return the SHA-256 of the images' names in order."""
    return hashlib.sha256("\n".join(reader.filenames()).encode(errors="surrogateescape")).hexdigest()


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
    unknown = sorted(set(class_names(reader)) - set(names))
    if unknown:
        raise UserError("validation has classes that training has not", f"{path}: {', '.join(unknown[:3])}",
                        "use the same class folders in both")  # fmt: skip
