"""Each source of data, read from real files, and what it says about bad ones."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from fed_compute.client.datasets import Dataset, load_dataset, split_holdout
from fed_compute.client.datasets.idx import DEBIAN_FOLDER
from fed_compute.errors import DatasetInvalid, DatasetMissing, ExtraMissing


def idx(array: np.ndarray) -> bytes:
    """Write an array of bytes as an IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write_fashion(folder: Path, *, packed: bool) -> None:
    for part, count in (("train", 6), ("t10k", 2)):
        images = np.arange(count * 28 * 28).reshape(count, 28, 28) % 256
        for name, content in (
            (f"{part}-images-idx3-ubyte", idx(images)),
            (f"{part}-labels-idx1-ubyte", idx(np.arange(count) % 10)),
        ):
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)


def write_picture(file: Path, *, size: tuple[int, int] = (6, 4), shade: int = 51) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade, shade)).save(file)


def test_digits_are_scikit_learn_s_bit_for_bit_scaled_to_one() -> None:
    """The file is read without the library; nobody's part may change by that."""
    x, y = load_digits(return_X_y=True)
    digits = load_dataset("digits")
    assert (digits.x.dtype, digits.x.shape, digits.y.dtype) == (np.float32, (1797, 64), np.int64)
    assert digits.x.tobytes() == (x / 16.0).astype(np.float32).tobytes()
    assert digits.y.tobytes() == y.astype(np.int64).tobytes()
    assert (digits.x.min(), digits.x.max()) == (0.0, 1.0)


def test_without_scikit_learn_or_its_file_there_are_no_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ExtraMissing, match=r"digits.*\[client\]"):
        load_dataset("digits")
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "sklearn")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DatasetMissing, match=r"digits\.csv\.gz; install scikit-learn anew"):
        load_dataset("digits")


@pytest.mark.parametrize("split", ["iid", "dirichlet,alpha=0.3", "sorted"])
def test_the_parts_of_the_digits_together_are_the_digits(split: str) -> None:
    parts = [load_dataset(f"digits,part={i}/5,split={split}") for i in range(1, 6)]
    whole = load_dataset("digits")
    joined = np.concatenate([part.x for part in parts])
    assert np.array_equal(np.sort(joined.sum(axis=1)), np.sort(whole.x.sum(axis=1)))


def test_a_csv_file_with_a_header_gives_the_named_column_as_label(tmp_path: Path) -> None:
    file = tmp_path / "houses.csv"
    file.write_text("size,price,rooms\n10,1.5,2\n\n20,2.5,3\n")
    houses = load_dataset(f"csv:{file},label=price")
    assert houses.x.tolist() == [[10, 2], [20, 3]]
    assert houses.y.dtype == np.float32
    assert houses.y.tolist() == [1.5, 2.5]


def test_a_csv_file_without_a_header_takes_the_last_column_as_class(tmp_path: Path) -> None:
    file = tmp_path / "plain.csv"
    file.write_text("0.1,0.2,1\n0.3,0.4,0\n")
    plain = load_dataset(f"csv:{file}")
    assert plain.y.dtype == np.int64
    assert plain.y.tolist() == [1, 0]
    assert load_dataset(f"csv:{file},label=0").x.tolist() == [[np.float32(0.2), 1], [np.float32(0.4), 0]]


@pytest.mark.parametrize(
    ("content", "option", "says"),
    [
        ("a,b\n1,2\n3,x\n", "", "line 3 column 1: found 'x'"),
        ("a,b\n1,2\n3,nan\n", "", "line 3 column 1"),
        ("1,2\n3\n", "", "line 2 has 1 cells, wanted 2"),
        ("a,b\n", "", "at least one line"),
        ("", "", "at least one line"),
        ("1\n2\n", "", "two columns"),
        ("a,b\n1,2\n", ",label=c", "no column 'c'; column names: a, b"),
        ("1,2\n", ",label=2", "columns 0 to 1"),
    ],
)
def test_a_bad_csv_file_is_refused_by_line_and_column(tmp_path: Path, content: str, option: str, says: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(content)
    with pytest.raises(DatasetInvalid, match=says):
        load_dataset(f"csv:{file}{option}")


def test_an_npz_file_of_bytes_becomes_pixels_from_zero_to_one(tmp_path: Path) -> None:
    file = tmp_path / "data.npz"
    np.savez(file, x=np.array([[0, 255], [51, 102]], dtype=np.uint8), y=np.array([1, 0]))
    data = load_dataset(f"npz:{file}")
    assert data.x.tolist() == [[0.0, 1.0], [np.float32(0.2), np.float32(0.4)]]
    assert data.y.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.ones((2, 2))}, "no array 'y'"),
        ({"x": np.ones(2), "y": np.ones(2)}, "wanted x"),
        ({"x": np.ones((2, 2)), "y": np.ones(3)}, "2 samples and 3 labels"),
        ({"x": np.ones((0, 2)), "y": np.ones(0)}, "at least 1"),
        ({"x": np.full((2, 2), np.inf), "y": np.ones(2)}, "NaN, infinite"),
        ({"x": np.array([["a"], ["b"]]), "y": np.ones(2)}, "wanted numbers"),
        ({"x": np.array([[{}], [{}]], dtype=object), "y": np.ones(2)}, "not a NumPy archive"),
    ],
)
def test_a_bad_npz_file_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
    """Object arrays need pickle, and pickle runs code: they must never load."""
    file = tmp_path / "bad.npz"
    np.savez(file, **arrays)
    with pytest.raises(DatasetInvalid, match=says):
        load_dataset(f"npz:{file}")


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.npz"
    file.write_bytes(content)
    with pytest.raises(DatasetInvalid, match="NumPy archive"):
        load_dataset(f"npz:{file}")


def test_a_single_array_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.ones((2, 2)))
    with pytest.raises(DatasetInvalid, match="single array"):
        load_dataset(f"npz:{tmp_path / 'one.npy'}")


def test_a_folder_of_pictures_gives_one_class_per_sub_folder(tmp_path: Path) -> None:
    write_picture(tmp_path / "cat" / "1.png", shade=51)
    write_picture(tmp_path / "dog" / "deep" / "2.png", shade=102)
    pets = load_dataset(f"imagefolder:{tmp_path}")
    assert pets.x.shape == (2, 3, 4, 6)
    assert pets.y.tolist() == [0, 1]
    assert pets.x[0, 0, 0, 0] == np.float32(0.2)
    assert load_dataset(f"imagefolder:{tmp_path},size=5x7,gray=1").x.shape == (2, 1, 7, 5)


def test_pictures_of_different_sizes_need_a_size(tmp_path: Path) -> None:
    write_picture(tmp_path / "cat" / "1.png")
    write_picture(tmp_path / "cat" / "2.png", size=(9, 9))
    with pytest.raises(DatasetInvalid, match="give one size for all"):
        load_dataset(f"imagefolder:{tmp_path}")


@pytest.mark.parametrize("option", ["size=32", "size=0x3", "gray=yes"])
def test_an_unusable_picture_option_is_refused(tmp_path: Path, option: str) -> None:
    write_picture(tmp_path / "cat" / "1.png")
    with pytest.raises(DatasetInvalid, match="not usable"):
        load_dataset(f"imagefolder:{tmp_path},{option}")


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(DatasetInvalid, match=r"broken\.png"):
        load_dataset(f"imagefolder:{tmp_path}")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(DatasetInvalid, match="no pictures"):
        load_dataset(f"imagefolder:{tmp_path}")


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_is_read_from_a_folder(tmp_path: Path, packed: bool) -> None:
    write_fashion(tmp_path, packed=packed)
    assert load_dataset(f"fashion-mnist:{tmp_path}").x.shape == (6, 1, 28, 28)
    assert load_dataset(f"fashion-mnist:{tmp_path},subset=test").y.tolist() == [0, 1]
    assert len(load_dataset(f"fashion-mnist:{tmp_path},subset=all")) == 8


def test_a_missing_fashion_mnist_says_where_it_looked_and_how_to_get_it(tmp_path: Path) -> None:
    """Made-up data in its place would look like success."""
    with pytest.raises(DatasetMissing, match=r"train-images-idx3-ubyte.*dataset-fashion-mnist"):
        load_dataset(f"fashion-mnist:{tmp_path}")


@pytest.mark.parametrize("damage", ["short", "magic", "gzip"])
def test_a_damaged_fashion_mnist_file_is_refused(tmp_path: Path, damage: str) -> None:
    write_fashion(tmp_path, packed=damage == "gzip")
    file = next(tmp_path.glob("train-images*"))
    content = file.read_bytes()
    file.write_bytes(b"\x00\x00\x0d\x03" + content[4:] if damage == "magic" else content[: len(content) // 2])
    with pytest.raises(DatasetInvalid, match="train-images"):
        load_dataset(f"fashion-mnist:{tmp_path}")


@pytest.mark.skipif(not DEBIAN_FOLDER.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_found_where_debian_puts_it() -> None:
    part = load_dataset("fashion-mnist,subset=test,part=1/10")
    assert part.x.shape == (1000, 1, 28, 28)
    assert set(part.y.tolist()) == set(range(10))


@pytest.mark.parametrize("spec", ["csv:/nowhere/a.csv", "npz:/nowhere/a.npz", "imagefolder:/nowhere"])
def test_a_missing_file_is_an_error_that_names_it(spec: str) -> None:
    with pytest.raises(DatasetMissing, match="/nowhere"):
        load_dataset(spec)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("digitz", "did you mean 'digits'"),
        ("nothing-like-it", "known: breast-cancer, csv, digits"),
        ("digits,prt=1/2", "did you mean 'part'"),
        ("digits:/some/path", "takes no path"),
        ("csv", "needs a path"),
        ("digits,part=1/1798", "cannot be cut into 1798 parts"),
    ],
)
def test_an_unknown_source_or_option_is_refused_with_the_nearest_known_one(spec: str, says: str) -> None:
    with pytest.raises(DatasetInvalid, match=says):
        load_dataset(spec)


def test_a_plug_in_source_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner of the machine may install more sources; the coordinator cannot."""
    (tmp_path / "sensor_data.py").write_text(
        "import numpy as np\n"
        "from fed_compute.client.datasets import RawSamples\n"
        "def load(path, options):\n"
        "    n = int(options['rows'])\n"
        "    return RawSamples(np.ones((n, 3)), np.zeros(n))\n"
    )
    info = tmp_path / "sensor_data-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sensor-data\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fed_compute.datasets]\nsensors = sensor_data:load\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_dataset("sensors,rows=8,part=1/2").x.shape == (4, 3)


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_the_held_out_part_is_disjoint_and_the_same_each_time(fraction: float) -> None:
    """A model tested on what it was trained on would look better than it is."""
    whole = Dataset(np.arange(50, dtype=np.float32)[:, None], np.arange(50, dtype=np.int64), "numbers")
    training, held_out = split_holdout(whole, fraction, seed=0)
    assert sorted([*training.y, *held_out.y]) == list(range(50))
    assert len(training) >= 1
    assert len(held_out) == min(max(round(50 * fraction), 1), 49)
    assert np.array_equal(split_holdout(whole, fraction, seed=0)[1].y, held_out.y)


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.5), (10, 0.0), (10, 1.0), (10, float("nan"))])
def test_a_split_that_leaves_nothing_is_refused(count: int, fraction: float) -> None:
    whole = Dataset(np.ones((count, 1), dtype=np.float32), np.zeros(count, dtype=np.int64), "numbers")
    with pytest.raises(DatasetInvalid):
        split_holdout(whole, fraction, seed=0)
