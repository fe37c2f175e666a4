"""The user's pictures: what is read, what is refused in one line, and where a picture lies inside the input."""

from __future__ import annotations

import io
import json
import struct
import zlib

import numpy as np
import pytest

from detparity.core import resources
from detparity.core.errors import InputError
from detparity.inputs import encoded, images, labels, photos
from detparity.inputs.photos import Fit, PhotosAsked

Image = pytest.importorskip("PIL.Image")


def _ramp(height, width):
    y, x = np.indices((height, width))
    return np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), 0 * x + 40], axis=2).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "photos"
    (made / "b").mkdir(parents=True)
    Image.fromarray(_ramp(30, 40)).save(made / "a one.png")
    Image.fromarray(_ramp(40, 20)).save(made / "b" / "two.jpg")
    return made


def _header_alone(width, height):
    """A PNG that states a size and holds nothing of it."""
    chunks = b"".join(
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))
        for tag, data in ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"x"))
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_bad_pictures_are_one_line_each_and_the_others_are_used(folder):
    whole = (folder / "b" / "two.jpg").read_bytes()
    for name, content in (
        ("cut.jpg", whole[: len(whole) // 2]),
        ("text.png", b"hello"),
        ("empty.jpg", b""),
        ("huge.png", _header_alone(60000, 60000)),
        ("large.png", _header_alone(12000, 12000)),
    ):
        (folder / name).write_bytes(content)
    (folder / "notes.txt").write_text("no picture by its name")

    found, problems = photos.find(PhotosAsked(folder))

    assert [(one.name, one.size) for one in found] == [("a one.png", (30, 40)), ("b/two.jpg", (40, 20))]
    assert len(problems) == 5 and not any("\n" in line for line in problems)
    assert sum("pixels: more than" in line or "decompression bomb" in line for line in problems) == 2
    assert sum("damaged picture" in line or "no picture" in line for line in problems) == 4


def test_no_picture_at_all_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="is no folder of pictures"):
        photos.find(PhotosAsked(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="holds no picture"):
        photos.find(PhotosAsked(tmp_path))
    (tmp_path / "x.png").write_bytes(b"x")
    with pytest.raises(InputError, match="is no picture"):
        photos.find(PhotosAsked(tmp_path))


def test_what_is_left_out_is_stated(folder):
    found, problems = photos.find(PhotosAsked(folder, most=1))

    assert len(found) == 1 and problems == ["1 more pictures were left out (--max-images)"]


def test_a_picture_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(_ramp(30, 40)).save(tmp_path / "turned.jpg", exif=exif)

    assert photos.read(tmp_path / "turned.jpg").shape == (40, 30, 3)


def test_boxes_move_with_their_picture():
    box = photos.placed(np.array([[0, 0, 640, 480], [320, 240, 640, 480]]), (480, 640), (640, 640), Fit())

    assert box.tolist() == [[0, 80, 640, 560], [320, 320, 640, 560]]


def test_padding_order_and_values():
    pixels = np.full((10, 20, 3), (255, 0, 51), np.uint8)
    plain = photos.fitted(pixels, (20, 20), Fit())
    other = photos.fitted(pixels, (20, 20), Fit("letterbox", "bgr", 0))

    assert plain.shape == (3, 20, 20) and plain.dtype == np.float32
    assert np.allclose(plain[:, 0, 0], 114 / 255) and np.allclose(plain[:, 10, 10], [1, 0, 0.2])
    assert np.allclose(other[:, 0, 0], 0) and np.allclose(other[:, 10, 10], [0.2, 0, 1])


def test_a_folder_becomes_pictures_that_checks_take(folder):
    found, _ = photos.find(PhotosAsked(folder))
    first, second = photos.as_pictures(found, Fit())
    stretched = photos.as_pictures(found, Fit("stretch"))[0]

    assert " " not in first[0] and first != stretched
    assert images.batch_of([first, second], (32, 32)).shape == (2, 3, 32, 32)
    assert not np.array_equal(images.make(*first[:1], (32, 32), 0), images.make(stretched[0], (32, 32), 0))
    assert images.make(f"8-bit {first[0]}", (32, 32), 0).shape == (3, 32, 32)


@pytest.mark.parametrize("text", ["resize=crop", "pad=300", "pad=x", "order", "scale=255", "resize"])
def test_a_wrong_preprocess_is_one_line(text):
    with pytest.raises(InputError, match="--preprocess"):
        photos.fit_of(text)


def test_preprocess_is_read_and_written():
    fit = photos.fit_of("resize=stretch, pad=0,order=bgr")

    assert fit == Fit("stretch", "bgr", 0) and photos.fit_of(fit.text) == fit


def test_a_png_of_our_own_is_read_back():
    pixels = _ramp(7, 5)
    with Image.open(io.BytesIO(encoded.png(pixels))) as image:
        assert np.array_equal(np.asarray(image), pixels)


# --- labels


@pytest.fixture
def labelled(folder, tmp_path):
    found, _ = photos.find(PhotosAsked(folder))
    yolo = tmp_path / "labels"
    (yolo / "b").mkdir(parents=True)
    (yolo / "a one.txt").write_text("1 0.5 0.5 0.5 0.4\n\n0 0.25 0.5 0.1 0.2\n")
    (yolo / "b" / "two.txt").write_text("")
    boxes = [[10, 9, 20, 12], [8, 12, 4, 6], [0, 0, 9, 9]]
    coco = {
        "images": [{"id": 7, "file_name": "x/a one.png"}, {"id": 9, "file_name": "two.jpg"}],
        "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {"image_id": 7, "category_id": category, "bbox": box, "iscrowd": crowd}
            for box, category, crowd in zip(boxes, (5, 3, 3), (0, 0, 1))
        ],
    }
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(coco))
    return found, yolo, file


@pytest.mark.parametrize("names, notes", [(("cat", "dog"), 1), (("x", "y"), 2)])
def test_both_kinds_of_labels_say_the_same(labelled, names, notes):
    found, yolo, coco = labelled
    one, _ = labels.read(yolo, found, names)
    other, stated = labels.read(coco, found, names)

    for (boxes, classes), (more, others) in zip(one, other):
        assert np.allclose(boxes, more) and classes.tolist() == others.tolist()
    assert one[0][1].tolist() == [1, 0] and len(one[1][1]) == 0 and len(stated) == notes


@pytest.mark.parametrize("text", ["1 2 3", "x 0.5 0.5 0.1 0.1", "1.5 0.5 0.5 0.1 0.1", "-1 0 0 0 0", "1 nan 0 0 0"])
def test_a_wrong_label_is_one_line(labelled, text):
    found, yolo, _ = labelled
    (yolo / "a one.txt").write_text(text)

    with pytest.raises(InputError, match=r"a one\.txt"):
        labels.read(yolo, found, ())


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"images": [], "categories": [], "annotations": [{}]}', '{"images": 1}']
)
def test_a_wrong_coco_file_is_one_line(labelled, text):
    found, _, coco = labelled
    coco.write_text(text)

    with pytest.raises(InputError, match="--labels"):
        labels.read(coco, found, ())


def test_the_photographs_of_the_docs_have_labels_inside_them_and_a_source_each():
    shared = resources.root() / "docs" / "photographs"
    if not shared.is_dir():
        pytest.skip("the docs are no part of the package")
    found, problems = photos.find(PhotosAsked(shared))
    boxed, notes = labels.read(shared, found, ())
    page = (shared / "README.md").read_text()

    assert [one.name for one in found] == ["astronaut.jpg", "chelsea.jpg", "coffee.jpg", "rocket.jpg"]
    assert problems == notes == [] and [len(one[1]) for one in boxed] == [1, 1, 3, 0]
    for photo, (boxes, _) in zip(found, boxed):
        assert (boxes >= -0.5).all() and (boxes <= np.array([*photo.size[::-1]] * 2) + 0.5).all()
        assert f"| {photo.name} |" in page and photo.path.stat().st_size < 60_000
