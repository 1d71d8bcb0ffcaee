"""Stored images to arrays, files to splits, and the checks against a data set's own classes."""

import io
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from pmqbench.errors import DataError, PMQError
from pmqbench.tasks.definitions import load_task
from pmqbench.tasks.images import batches, decode, prepare
from pmqbench.tasks.kinds.image_classification import ImageTask
from pmqbench.tasks.sampling import carve, keep
from pmqbench.tasks.splits import ImageStream, load_arrays, load_split, save_split
from pmqbench.tasks.tables import check_classes

CLASSES = ("red", "green", "dark blue")


def photograph(mode, width, height, seed=0):
    rng = np.random.default_rng(seed)
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode)


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("mode", "size"), [("RGB", (37, 60)), ("RGB", (61, 37)), ("L", (28, 28)), ("RGB", (301, 224))])
def test_preprocessing_is_clips_own(mode, size):
    image = photograph(mode, *size)
    known = CLIPImageProcessorPil(do_normalize=False, do_rescale=False)(images=image, return_tensors="np")["pixel_values"][0]
    ours = prepare(image, 224)
    assert ours.dtype == np.uint8
    assert np.array_equal(ours, known)


def test_an_unreadable_image_is_named():
    with pytest.raises(DataError, match=r"shard 1, row 7: the image cannot be read"):
        decode(b"no image", 8, "shard 1, row 7")


@pytest.mark.parametrize(("depth", "form"), [(np.uint16, "PNG"), (np.int32, "TIFF"), (np.float32, "TIFF")])
def test_deep_pixels_are_refused_since_pillow_would_make_them_white_or_black(depth, form):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=depth).reshape(8, 8) * 1000).save(buffer, format=form)
    with pytest.raises(DataError, match=r"here: .*more than 8 bits a colour, mode (I|F).*convert"):
        decode(buffer.getvalue(), 8, "here")


def test_a_stream_is_written_batch_by_batch_and_read_back(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 5, 4), dtype=np.uint8)
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    stream = ImageStream(images.shape, iter([images[:3], images[3:]]))
    save_split(tmp_path / "a", stream, labels, 3, "here")
    save_split(tmp_path / "b", images, labels, 3, "here")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    for loaded in (load_arrays(tmp_path / "a"), load_split(tmp_path / "a")):
        assert torch.equal(torch.as_tensor(loaded[0]), torch.from_numpy(images))
        assert torch.equal(torch.as_tensor(loaded[1]), torch.from_numpy(labels))


@pytest.mark.parametrize(
    "batches", [[np.zeros((2, 3, 4, 4), np.uint8)], [np.zeros((3, 3, 4, 5), np.uint8)], [np.zeros((3, 3, 4, 4))]]
)
def test_a_stream_that_is_not_as_announced_leaves_no_file(tmp_path, batches):
    with pytest.raises(DataError, match="images"):
        save_split(tmp_path / "x", ImageStream((3, 3, 4, 4), batches), np.zeros(3, np.int64), 2, "here")
    assert list(tmp_path.iterdir()) == []


def test_batches_hold_every_image_once():
    stored = [(encoded(photograph("RGB", 9, 9, seed)), str(seed)) for seed in range(5)]
    whole = np.concatenate(list(batches(stored, 8)))
    assert np.array_equal(whole, np.stack([decode(image, 8, where) for image, where in stored]))


def test_class_names_are_compared_where_they_correspond():
    check_classes(["Red", "GREEN", "dark_blue"], CLASSES, "here")
    check_classes(["rot", "green", "dunkelblau"], CLASSES, "here")
    with pytest.raises(DataError, match="the data set has 2 classes, the task 3"):
        check_classes(["red", "green"], CLASSES, "here")
    with pytest.raises(DataError, match='label 0 is "green" in the data set and "red" in the task'):
        check_classes(["green", "red", "dark blue"], CLASSES, "here")


def test_training_and_validation_never_share_a_row():
    validation = carve(95, 1000, "a")
    train = keep(95, 2048, "a", validation)
    assert len(validation) == 9
    assert sorted([*train, *validation]) == list(range(95))
    assert np.array_equal(validation, carve(95, 1000, "a"))
    assert len(carve(50_000, 1000, "a")) == 1000
    assert len(keep(50_000, 2048, "a")) == 2048


def labelled(folder, split, kind):
    """Nine images of three classes in one of the local layouts; returns labels in the order of the files."""
    images = [photograph("RGB", 12, 10, seed) for seed in range(9)]
    labels = [2, 0, 1] * 3
    if kind == "folder":
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = folder / split / CLASSES[label].replace(" ", "_")
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{index}.png")
        return sorted(labels, key=lambda label: CLASSES[label])
    cells = [encoded(image) for image in images]
    table = pa.table({"image": cells, "label": [CLASSES[label] for label in labels] if kind == "words" else labels})
    folder.mkdir(exist_ok=True)
    if kind == "arrow":
        with pa.OSFile(str(folder / f"{split}.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
    else:
        pq.write_table(table, folder / f"{split}.parquet", row_group_size=4)
    return labels


def local_task(folder, **options):
    source = {"name": "local", "path": str(folder), "image_size": 8, **options}
    return ImageTask(name="mine", classnames=CLASSES, templates=("{}",), source=source)


@pytest.mark.parametrize("kind", ["folder", "numbers", "words", "arrow"])
def test_local_layouts(tmp_path, kind):
    expected = labelled(tmp_path, "test", kind)
    labelled(tmp_path, "train", kind)
    task = local_task(tmp_path)
    images, labels = task.data_source().split(task, "test")
    assert labels.tolist() == expected
    assert np.concatenate(list(images.batches)).shape == images.shape == (9, 3, 8, 8)


def test_rows_of_a_table_keep_their_images(tmp_path):
    labelled(tmp_path, "train", "numbers")
    labelled(tmp_path, "test", "numbers")
    task = local_task(tmp_path, train_examples=4)
    source = task.data_source()
    whole = np.concatenate(list(source.split(task, "test")[0].batches))  # the same nine images
    images, labels = source.split(task, "train")
    kept = np.concatenate(list(images.batches))
    rows = [next(i for i in range(9) if np.array_equal(whole[i], image)) for image in kept]
    assert len(rows) == 4
    assert rows == sorted(set(rows))
    assert labels.tolist() == [[2, 0, 1][row % 3] for row in rows]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"label": "labl"}, ['there is no column "labl"; there are: image, label', "Set `label`"]),
        ({"image": "img"}, ['there is no column "img"', "Set `image`"]),
        ({"splits": {"train": "train", "test": "final"}}, ["split test", "neither a folder", "final"]),
        ({"splits": {"train": "train"}}, ["no split for test", "splits: {test: ...}"]),
        ({"splits": {"train": "train", "tset": "test"}}, ['unknown split "tset"', 'Did you mean "test"?']),
    ],
)
def test_mistakes_in_a_source_are_named(tmp_path, options, words):
    labelled(tmp_path, "test", "numbers")
    task = local_task(tmp_path, **options)
    with pytest.raises(PMQError) as caught:
        task.data_source().split(task, "test")
    assert [word for word in words if word not in str(caught.value)] == []


def test_folders_must_be_the_classes(tmp_path):
    labelled(tmp_path, "test", "folder")
    task = local_task(tmp_path)
    (tmp_path / "test" / "yellow").mkdir()
    with pytest.raises(DataError, match='folder "yellow" is no class of the task'):
        task.data_source().split(task, "test")
    (tmp_path / "test" / "yellow").rmdir()
    for file in (tmp_path / "test" / "red").iterdir():
        file.unlink()
    (tmp_path / "test" / "red").rmdir()
    with pytest.raises(DataError, match='class "red" has no folder'):
        task.data_source().split(task, "test")


def test_images_that_lie_elsewhere_are_counted_and_named(tmp_path):
    labelled(tmp_path, "test", "folder")
    (tmp_path / "test" / "red" / "more").mkdir()
    photograph("RGB", 9, 9).save(tmp_path / "test/red/more/a.png")
    photograph("RGB", 9, 9).save(tmp_path / "test/b.JPG")
    task = local_task(tmp_path)
    with pytest.raises(DataError, match=r"2 images do not lie directly in a class's folder: b\.JPG, red/more/a\.png"):
        task.data_source().split(task, "test")


def test_files_that_are_no_images_are_counted_and_named(tmp_path, caplog):
    labelled(tmp_path, "test", "folder")
    for name in ("a.heic", "b.heic", "notes.txt", ".DS_Store", ".thumbnails/a.png"):
        (tmp_path / "test/red" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "test/red" / name).write_bytes(b"x")
    task = local_task(tmp_path)
    with caplog.at_level("WARNING"):
        assert len(task.data_source().split(task, "test")[1]) == 9
    assert "task mine, split test: 3 files are no images by their ending (2 .heic, 1 .txt)" in caplog.text
    assert "red/a.heic, red/b.heic, red/notes.txt" in caplog.text


def test_a_folder_of_images_beside_a_table_is_named(tmp_path, caplog):
    labelled(tmp_path, "test", "numbers")
    labelled(tmp_path, "test", "folder")
    task = local_task(tmp_path)
    with caplog.at_level("WARNING"):
        assert len(task.data_source().split(task, "test")[1]) == 9
    assert "the split is read from test.parquet; the 9 images below test/ count only where a table names them" in caplog.text


def test_a_table_in_two_formats_is_refused(tmp_path):
    labelled(tmp_path, "test", "numbers")
    labelled(tmp_path, "test", "arrow")
    task = local_task(tmp_path)
    with pytest.raises(DataError, match=r'split "test" is there 2 times: test\.arrow, test\.parquet'):
        task.data_source().split(task, "test")


@pytest.mark.parametrize("names", [("dark blue", "dark_blue"), ("dark_blue", "dark blue")])
def test_a_folder_is_the_class_that_it_is_called_like(tmp_path, names):
    for folder in names:
        (tmp_path / "test" / folder).mkdir(parents=True)
        photograph("RGB", 9, 9).save(tmp_path / "test" / folder / "a.png")
    task = ImageTask(name="x", classnames=names, templates=("{}",), source={"name": "local", "path": str(tmp_path)})
    labels = task.data_source().split(task, "test")[1]
    assert [names[label] for label in labels] == ["dark blue", "dark_blue"]


def table_of_paths(folder, path):
    (folder / "data" / "images").mkdir(parents=True)
    photograph("RGB", 9, 9).save(folder / "data/images/a.png")
    photograph("RGB", 9, 9).save(folder / "outside.png")
    (folder / "data/images/link.png").symlink_to(folder / "outside.png")
    pq.write_table(pa.table({"image": [path], "label": [0]}), folder / "data/test.parquet")
    task = local_task(folder / "data")
    images, labels = task.data_source().split(task, "test")
    return np.concatenate(list(images.batches)), labels


def test_a_table_may_name_images_below_its_folder(tmp_path):
    images, labels = table_of_paths(tmp_path, "images/a.png")
    assert (images.shape, labels.tolist()) == ((1, 3, 8, 8), [0])


@pytest.mark.parametrize("path", ["../outside.png", "{folder}/outside.png", "images/../../outside.png", "images/link.png"])
def test_a_path_may_not_leave_the_tables_folder(tmp_path, path):
    with pytest.raises(DataError, match=r"test\.parquet, row 0: the path .* is absolute, leaves the folder of the table"):
        table_of_paths(tmp_path, path.format(folder=tmp_path))


@pytest.mark.parametrize("limit", [60, 100])
def test_a_decompression_bomb_is_named(monkeypatch, limit):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)  # 144 pixels: more than twice the limit, and more than once
    with pytest.raises(DataError, match=r"shard 1, row 7: the image is too large \(.*144 pixels"):
        decode(encoded(photograph("RGB", 12, 12)), 8, "shard 1, row 7")


def test_an_image_that_only_its_resize_makes_large_is_named():
    with pytest.raises(DataError, match=r"here: the image is too large \(.* it has 1120000 x 224 pixels\)"):
        decode(encoded(photograph("L", 5000, 1)), 224, "here")


def test_a_changed_image_behind_a_link_changes_the_datas_id(tmp_path):
    from pmqbench.tasks.sources import local

    labelled(tmp_path / "store", "test", "folder")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/test").symlink_to(tmp_path / "store/test")
    (tmp_path / "store/test/red/loop").symlink_to(tmp_path / "store/test")
    before = local_task(tmp_path / "data").data_id
    image = next((tmp_path / "store/test/red").glob("*.png"))
    shutil.copy(image, tmp_path / "edited.png")
    (tmp_path / "edited.png").replace(image)
    local._state.cache_clear()
    assert local_task(tmp_path / "data").data_id != before


def test_no_image_is_looked_at_while_a_config_is_read(tmp_path, monkeypatch):
    """Every start of Snakemake, and of each of its jobs on a cluster, reads it; data sets have millions of images."""
    for split in ("train", "test"):
        labelled(tmp_path, split, "folder")
    images = {str(path) for path in tmp_path.rglob("*.png")}
    assert len(images) == 18
    looked = []
    for name in ("stat", "lstat", "open"):
        known = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path, *a, k=known, **b: looked.append(str(path)) or k(path, *a, **b))
    monkeypatch.setattr(io, "open", lambda path, *a, k=io.open, **b: looked.append(str(path)) or k(path, *a, **b))
    local_task(tmp_path).data_id  # noqa: B018 - what layouts ask for
    assert str(tmp_path) in looked  # what is looked at is seen here
    assert images.isdisjoint(looked)


def test_shards_must_agree_on_their_labels(tmp_path):
    cells = [encoded(photograph("RGB", 9, 9))]
    for index, label in enumerate([0, "red"]):
        pq.write_table(pa.table({"image": cells, "label": [label]}), tmp_path / f"test-0000{index}-of-00002.parquet")
    task = local_task(tmp_path)
    with pytest.raises(DataError, match=r"the labels of test-00000-of-00002\.parquet and test-00001-of-00002\.parquet differ"):
        task.data_source().split(task, "test")


def test_a_changed_local_file_changes_the_datas_id(tmp_path):
    from pmqbench.tasks.sources import local

    labelled(tmp_path, "test", "numbers")
    before = local_task(tmp_path).data_id
    assert local_task(tmp_path).data_id == before
    labelled(tmp_path, "train", "numbers")
    local._state.cache_clear()
    assert local_task(tmp_path).data_id != before


def test_all_image_definitions_are_as_published():
    from pmqbench.tasks.definitions import list_names

    names = list_names("tall20", "tasks")
    assert names[:8] == list_names("ta8", "tasks")
    assert names[:14] == list_names("tall14", "tasks")
    tasks = [load_task(name) for name in names]
    assert sum(task.test_examples for task in tasks) == 233_068
    assert [len(task.classnames) for task in tasks] == [
        397,
        196,
        45,
        10,
        10,
        43,
        10,
        47,
        102,
        2,
        7,
        37,
        10,
        100,
        10,
        101,
        10,
        26,
        10,
        2,
    ]
    assert [len(task.templates) for task in tasks] == [2, 8, 18, 3, 1, 3, 1, 8, 1, 1, 6, 1, 2, 18, 18, 1, 2, 1, 1, 1]
    spelled = {
        "cifar100": "cra",
        "oxford_flowers102": "pink-yellow dahlia?",
        "oxford-iiit-pet": "american_bulldog",
        "kmnist": "お",
    }
    assert all(word in load_task(name).classnames for name, word in spelled.items())
    assert all(len(set(task.classnames)) == len(task.classnames) for task in tasks if task.name != "stanford-cars")


def test_a_turned_photograph_is_put_upright(tmp_path):
    image = photograph("RGB", 40, 30)
    exif = Image.Exif()
    exif[Image.ExifTags.Base.Orientation] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    image.save(tmp_path / "turned.png", exif=exif)
    assert (decode(tmp_path / "turned.png", 16, "x") == prepare(image.transpose(Image.Transpose.ROTATE_270), 16)).all()
