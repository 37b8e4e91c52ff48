from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.data.objects.elements import (
    as_array,
    cell_of,
    class_names,
    image_of,
    label_of,
    plain,
    read_element,
)
from headstart.data.objects.given_rows import Given
from headstart.data.read import decode
from headstart.errors import BadImage, DataError, UsageError

GREY = np.arange(6, dtype=np.uint8).reshape(2, 3)


class Tensor:
    """What tf.data gives: a tensor with ``numpy()``, ``dtype`` and ``shape``."""

    def __init__(self, value: object) -> None:
        self.value = value

    @property
    def dtype(self) -> str:
        name = self.value.dtype.name if isinstance(self.value, np.ndarray) else "string"
        return f"<dtype: {name!r}>"

    @property
    def shape(self) -> tuple[int, ...]:
        return getattr(self.value, "shape", ())

    def numpy(self) -> object:
        return self.value


def pixels(content: bytes | Path) -> np.ndarray:
    assert isinstance(content, bytes)
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


# Images


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)])
def test_arrays_become_uncompressed_files_of_the_same_pixels(shape) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    content = image_of(array, "Element 0")
    assert isinstance(content, bytes)
    assert content[:2] == (b"P6" if shape[2:] == (3,) else b"P5")
    assert len(content) == array.size + len(b"P6\n7 5\n255\n")
    assert (pixels(content) == array.squeeze()).all()


def test_alpha_is_laid_over_white_as_everywhere() -> None:
    array = np.zeros((1, 2, 4), np.uint8)
    array[0, 1, 3] = 255
    assert pixels(image_of(array, "")).tolist() == [[[255, 255, 255], [0, 0, 0]]]


@settings(deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([(), (1,), (3,), (4,)]),
    st.integers(0, 99),
)
def test_an_image_in_memory_is_what_its_file_would_be(height, width, channels, seed) -> None:
    array = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), np.uint8)
    stored = io.BytesIO()
    Image.fromarray(array.squeeze(2) if channels == (1,) else array).save(stored, "PNG")
    with Image.open(stored) as image:
        from_file = np.asarray(decode(image))
    assert (pixels(image_of(array, "")) == from_file).all()


@settings(deadline=None)
@given(st.integers(5, 9), st.integers(5, 9), st.sampled_from([1, 3, 4]), st.integers(0, 99))
def test_tensors_may_have_their_channels_first_or_last(height, width, channels, seed) -> None:
    import torch

    array = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    last = torch.from_numpy(array)
    expected = image_of(array, "")
    assert image_of(last, "") == expected
    assert image_of(last.permute(2, 0, 1), "") == expected


def test_a_tensor_whose_channels_may_be_first_or_last_is_refused() -> None:
    import torch

    with pytest.raises(UsageError, match=r"Element 3: .*\(C, H, W\) or \(H, W, C\)"):
        image_of(torch.zeros(3, 8, 3, dtype=torch.uint8), "Element 3")


def test_tensors_that_need_a_gradient_or_are_views_can_be_read() -> None:
    import torch

    grey = torch.arange(6, dtype=torch.uint8).reshape(2, 3)
    assert (as_array(grey.T, "") == GREY.T).all()
    assert image_of(grey, "") == image_of(GREY, "")


def test_tensors_of_tensorflow_are_read_and_so_are_their_encoded_files(encoded, noise) -> None:
    assert image_of(Tensor(GREY), "") == image_of(GREY, "")
    assert image_of(Tensor(encoded(noise(0))), "") == encoded(noise(0))


def test_files_are_used_as_they_are(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert image_of("1.jpg", "") == Path.cwd() / "1.jpg"
    assert image_of("~nobody/1.jpg", "") == Path.cwd() / "~nobody/1.jpg"
    assert image_of(Path("a/../b/1.jpg"), "") == Path.cwd() / "b/1.jpg"
    assert image_of(tmp_path / "1.jpg", "") == tmp_path / "1.jpg"
    assert image_of(b"\xff\xd8\xff", "") == b"\xff\xd8\xff"


def test_pil_images_are_turned_upright_and_made_8_bits(encoded) -> None:
    image = Image.fromarray(GREY)
    exif = image.getexif()
    exif[0x0112] = 6
    with Image.open(io.BytesIO(encoded(image, exif=exif))) as turned:
        assert pixels(image_of(turned, "")).tolist() == np.rot90(GREY, -1).tolist()
    deep = Image.fromarray((GREY.astype(np.uint16) << 8) + 7)
    assert (pixels(image_of(deep, "")) == GREY).all()


def test_a_pil_image_that_is_cut_short_is_a_bad_image(encoded, noise) -> None:
    cut = Image.open(io.BytesIO(encoded(noise(0, 64, 64))[:-4000]))
    with cut, pytest.raises(BadImage, match="Element 4: cut short"):
        image_of(cut, "Element 4")


@pytest.mark.parametrize("kind", ["float32", "float64", "float16"])
def test_floats_are_refused_with_what_to_take_out(kind) -> None:
    with pytest.raises(UsageError, match=f"Element 2: the image must be uint8.*{kind}") as caught:
        image_of(np.zeros((2, 3), kind), "Element 2")
    assert "ToTensor" in str(caught.value)


def test_tensors_of_floats_are_refused_whatever_their_kind() -> None:
    import torch

    for kind in (torch.float32, torch.bfloat16):
        with pytest.raises(UsageError, match="must be uint8") as caught:
            image_of(torch.zeros(3, 8, 8, dtype=kind), "Element 2")
        assert "torch." not in caught.value.message
    with pytest.raises(UsageError, match="must be uint8"):
        image_of(Tensor(np.zeros((8, 8, 3), np.float32)), "Element 2")


def test_other_integers_are_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match="not int64") as caught:
        image_of(GREY.astype(np.int64), "Element 2")
    assert "astype('uint8')" in str(caught.value)


@pytest.mark.parametrize("shape", [(4,), (4, 5, 2), (0, 5), (1, 2, 3, 4, 5)])
def test_arrays_that_are_no_image_are_refused(shape) -> None:
    with pytest.raises((UsageError, BadImage), match="Element 5: "):
        image_of(np.zeros(shape, np.uint8), "Element 5")


@pytest.mark.parametrize("value", [None, 3, [[1, 2], [3, 4]], object()])
def test_what_is_no_image_is_refused(value) -> None:
    with pytest.raises(UsageError, match="Element 6: the image must be a PIL image"):
        image_of(value, "Element 6")


# Labels


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (3, "3"),
        ("owl", "owl"),
        (True, "true"),
        (np.bool_(False), "false"),
        (np.int64(3), "3"),
        (np.array(3), "3"),
        (np.array([3], np.uint8), "3"),
        (np.str_("owl"), "owl"),
        (Tensor(np.array(3)), "3"),
        (Tensor(b"owl"), "owl"),
        ("été\n", "été\n"),
    ],
)
def test_labels_of_any_library_become_text(label, name) -> None:
    assert label_of(label, "") == name
    assert type(label_of(label, "")) is str


def test_labels_of_torch_become_text() -> None:
    import torch

    assert label_of(torch.tensor(2), "") == "2"
    assert label_of(torch.tensor([2]), "", ("a", "b", "c")) == "c"


def test_integers_are_named_where_there_are_names_and_texts_stay() -> None:
    assert label_of(1, "", ("cat", "dog")) == "dog"
    assert label_of("owl", "", ("cat", "dog")) == "owl"


@pytest.mark.parametrize("label", [2, -1])
def test_an_integer_that_no_class_has_is_refused(label) -> None:
    with pytest.raises(UsageError, match=f"Element 7: the label {label} is none of 0 to 1"):
        label_of(label, "Element 7", ("cat", "dog"))


@pytest.mark.parametrize("label", [None, "", float("nan"), np.float32("nan"), b""])
def test_a_missing_label_is_refused(label) -> None:
    with pytest.raises(UsageError, match="Element 7 has no label"):
        label_of(label, "Element 7")


@pytest.mark.parametrize("label", [1.5, [0, 1], np.array([0, 1, 0]), (1,), {"a": 1}])
def test_labels_of_other_kinds_are_refused(label) -> None:
    with pytest.raises(UsageError, match="Element 7: the label must be an integer") as caught:
        label_of(label, "Element 7")
    assert "argmax" in str(caught.value)


def test_class_names_are_all_different() -> None:
    assert class_names(["cat", "dog"]) == ("cat", "dog")
    assert class_names([("tench", "Tinca tinca"), ("crane",), ("crane",)]) == (
        *("tench", "crane (1)", "crane (2)"),
    )
    assert class_names(None) == ()
    assert class_names([]) == ()
    assert class_names("cat") == ()


def test_plain_leaves_what_is_no_scalar() -> None:
    array = np.zeros(3)
    assert plain(array) is array
    assert plain("a") == "a"


# Pairs


def test_pairs_and_dicts_are_elements() -> None:
    expected = Given(image_of(GREY, ""), "dog")
    names = ("cat", "dog")
    assert read_element((GREY, 1), "", names) == expected
    assert read_element([GREY, 1], "", names) == expected
    assert read_element({"image": GREY, "label": 1}, "", names) == expected
    full = {"image": GREY, "label": 1, "split": "val", "group": np.int64(4), "weight": 2.0}
    assert read_element(full, "", names) == Given(expected.image, "dog", "val", "4", 2.0)


def test_paths_are_relative_to_the_root(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = [read_element((file, "x"), "", (), tmp_path / "a") for file in ("1.jpg", Path("../2"))]
    assert [it.image for it in found] == [tmp_path / "a/1.jpg", tmp_path / "2"]
    assert image_of(str(tmp_path / "3.jpg"), "", Path("elsewhere")) == tmp_path / "3.jpg"
    assert image_of("1.jpg", "") == tmp_path / "1.jpg"


def test_cells_beside_the_label_become_text_or_a_weight() -> None:
    assert cell_of("group", np.int64(4), "") == "4"
    assert cell_of("split", "val", "") == "val"
    assert cell_of("weight", "0.5", "") == 0.5
    with pytest.raises(DataError, match="Row 3: the weight must be a number, not 'much'"):
        cell_of("weight", "much", "Row 3")


@pytest.mark.parametrize(
    ("element", "said"),
    [
        (GREY, r"not ndarray of shape \(2, 3\)"),
        ((GREY,), "not tuple of 1"),
        ((GREY, 1, 2), "not tuple of 3"),
        ({"image": GREY}, "not dict"),
        (None, "not NoneType"),
    ],
)
def test_other_elements_are_refused(element, said) -> None:
    with pytest.raises(UsageError, match=f"Element 8 must be a pair.*{said}"):
        read_element(element, "Element 8")


def test_batches_are_refused() -> None:
    for images, labels in (
        (np.zeros((5, 8, 8, 3), np.float32), np.zeros(5, int)),
        (np.zeros((5, 8, 8), np.uint8), np.zeros(5, int)),
        (Tensor(np.zeros((5, 8, 8, 3), np.uint8)), Tensor(np.zeros((5, 10)))),
    ):
        with pytest.raises(UsageError, match="Element 0 is a batch") as caught:
            read_element((images, labels), "Element 0")
        assert "unbatch" in str(caught.value)
