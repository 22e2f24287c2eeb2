"""ImageNet pre-training: where images come from, what is drawn for them, and how they make batches."""

import os
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

from system.errors import UserError
from tests.pretraining import options

# isort: split
import labelled_images as images
import readers
from augmentation import make_transform
from pretraining_options import parse
from system.distributed import Processes
from tests.pretraining import SMALL, fails
from tests.shapes_and_textures import CLASSES
from training.run.loading import BadSamples, make_loader


def picture(path, size=(40, 48), seed=0):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)).save(path)


@pytest.fixture
def odd_folder(tmp_path):
    """Classes whose natural order is not their sorted one, nested folders, rare extensions, other files."""
    names = (
        "c10/a.png",
        "c9/z/b.bmp",
        "c9/a.PPM",
        "C1/x.jpeg",
        "C1/y/w/q.webp",
        "C1/y/m.tiff",
        "c10/10.jpg",
        "c10/9.jpg",
    )
    for seed, name in enumerate(names):
        picture(str(tmp_path / "odd" / name), seed=seed)
    (tmp_path / "odd" / "c9" / "notes.txt").write_text("no image")
    return str(tmp_path / "odd")


def test_folders_are_read_as_torchvision_reads_them(odd_folder):
    reader, wanted = readers.open_reader(odd_folder), ImageFolder(odd_folder)
    assert readers.class_names(reader) == wanted.classes == ["C1", "c10", "c9"]
    assert reader.samples == wanted.samples and len(reader) == 8


def test_a_zip_is_read_as_the_folder_it_unpacks_to(odd_folder, tmp_path):
    wanted = ImageFolder(odd_folder)
    for top in ("", "imagenet/train/"):
        path = str(tmp_path / f"packed{len(top)}.zip")
        with zipfile.ZipFile(path, "w") as packed:
            for file, _ in wanted.samples:
                packed.write(file, top + os.path.relpath(file, odd_folder))
        reader = readers.open_reader(path)
        assert readers.class_names(reader) == wanted.classes
        found = sorted((os.path.basename(name), target) for name, target in reader.samples)
        assert found == sorted((os.path.basename(name), target) for name, target in wanted.samples)


def test_a_class_without_images_is_named(odd_folder):
    os.makedirs(os.path.join(odd_folder, "zebra"))
    with pytest.raises(UserError, match="zebra"):
        readers.open_reader(odd_folder)


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
    transform = make_transform(opt, (32, 32), is_training=True)
    dataset = images.LabelledImages(readers.open_reader(os.path.join(three_classes, "train")), [transform], seed=3)
    torch.manual_seed(1)
    first = dataset[2, 5, 0]["image"]
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    assert torch.equal(dataset[2, 5, 0]["image"], first)
    assert not torch.equal(dataset[3, 5, 0]["image"], first)


def raising(image):
    raise ZeroDivisionError("an odd image")


@pytest.mark.parametrize("workers", [0, 1])
def test_an_exception_in_a_transform_is_a_bad_sample_named_and_counted(three_classes, workers):
    reader = readers.open_reader(os.path.join(three_classes, "train"))

    def transform(image):
        return raising(image) if image.getpixel((0, 0)) == first else torch.zeros(3, 4, 4)

    with Image.open(reader.samples[5][0]) as image:
        first = image.convert("RGB").getpixel((0, 0))
    dataset = images.LabelledImages(reader, [transform])
    bad = BadSamples("skip")
    batches = [bad.without_bad(batch) for batch in make_loader(dataset, workers, torch.device("cpu"), batch_size=6)]
    assert 1 <= bad.count < 6 and sum(len(batch["target"]) for batch in batches) == 12 - bad.count
    with pytest.raises(UserError) as caught:
        dataset[5]
    assert "augmented" in str(caught.value) and reader.samples[5][0] in str(caught.value)


@pytest.mark.parametrize("size", [(1, 400), (9500, 9500)])
def test_narrow_and_huge_images_are_named(odd_folder, size):
    path = os.path.join(odd_folder, "C1", "x.jpeg")
    Image.new("1", size).save(path, "PNG")
    with pytest.raises(UserError, match="pixels"):
        images.LabelledImages(readers.open_reader(odd_folder), [np.asarray])[0]


def test_names_that_are_no_utf8_are_read(odd_folder):
    path = os.path.join(odd_folder, "C1", "x.jpeg").encode()
    os.rename(path, path.replace(b"x.jpeg", b"\xff\xfe.jpeg"))
    reader = readers.open_reader(odd_folder)
    assert len(readers.digest(reader)) == 64
    assert len(images.LabelledImages(reader, [np.asarray])) == 8


def test_a_pipe_in_place_of_an_image_is_not_waited_for(odd_folder):
    path = os.path.join(odd_folder, "C1", "x.jpeg")
    os.remove(path)
    os.mkfifo(path)
    with pytest.raises(UserError, match="not a regular file"):
        images.LabelledImages(readers.open_reader(odd_folder), [np.asarray])[0]


def test_where_no_image_can_be_read_the_advice_names_an_option_that_there_is(three_classes, tmp_path, capsys):
    for path in (tmp_path / "data" / "train" / name / "1.png" for name in CLASSES[:3] * 4):
        os.makedirs(path.parent, exist_ok=True)
        (path.parent / f"{len(os.listdir(path.parent))}.png").write_bytes(b"no image")
    flags = ["--data_path", str(tmp_path / "data"), "--disable_eval", "--epochs", "1", "--update_freq", "1"]
    said = fails([*SMALL, *flags, "--on_bad_sample", "skip", "--output_dir", str(tmp_path / "out")], capsys)
    assert "no sample of a whole batch can be read" in said and "--data_path" in said and "--check_data" not in said


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
