import numpy as np
import pytest

from tailwise.diagnosis._prior_cache import PriorCache


@pytest.fixture(autouse=True)
def cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TAILWISE_CACHE", str(tmp_path))
    return tmp_path


class Counted:
    """A computation that counts how often it ran."""

    def __init__(self, values=(1.0, 2.0)):
        self.n_runs = 0
        self.values = np.array(values)

    def __call__(self):
        self.n_runs += 1
        return {"values": self.values}, 7


def _cache(fingerprint="abc", recipe="test/1", **settings):
    return PriorCache(fingerprint, recipe, settings)


def test_a_chunk_is_computed_once_and_comes_back_the_same():
    compute = Counted()
    (first, spent), (again, kept) = (_cache().get("content", compute, n_answers=2) for _ in range(2))
    assert compute.n_runs == 1
    assert np.array_equal(first["values"], again["values"])
    assert (spent.n_computed, spent.n_from_cache, spent.n_tokens) == (2, 0, 7)
    assert (kept.n_computed, kept.n_from_cache, kept.n_tokens, kept.seconds) == (0, 2, 0, 0.0)
    # A second run still shows the price of the first, to the last bit.
    assert kept.seconds_when_computed == spent.seconds_when_computed == spent.seconds > 0


def test_kinds_and_shapes_of_arrays_come_back_too():
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.array([1, 2], dtype=np.int64)}
    _cache().get("content", lambda: (arrays, 0), n_answers=1)
    again, _ = _cache().get("content", Counted(), n_answers=1)
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype
        assert np.array_equal(again[name], array)


@pytest.mark.parametrize(
    "other",
    [
        lambda: _cache(fingerprint="abd").path("content"),
        lambda: _cache(recipe="test/2").path("content"),
        lambda: _cache(dtype="bfloat16").path("content"),
        lambda: _cache().path("Content"),
        lambda: _cache().path(["con", "tent"]),
    ],
)
def test_whatever_decides_a_value_decides_its_file(other):
    assert other() != _cache().path("content")


def test_the_order_of_settings_does_not_matter():
    assert _cache(a=1, b=2).path(["x"]) == _cache(b=2, a=1).path(["x"])


def test_files_lie_under_the_models_fingerprint(cache_folder):
    assert _cache().path("content").parent == cache_folder / "prior" / "abc"


def _flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # in the values: the file still reads well
    file.write_bytes(content)


def _forget_the_hash(file):
    from safetensors.numpy import load_file, save_file

    save_file(load_file(file), file)


@pytest.mark.parametrize(
    "damage",
    [
        _flip_a_bit,
        _forget_the_hash,
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-3]),
        lambda file: file.write_bytes(b"not safetensors at all, whatever its name says"),
    ],
)
def test_a_damaged_file_is_reported_and_computed_again(damage):
    _cache().get("content", Counted(), n_answers=1)
    damage(_cache().path("content"))
    compute = Counted()
    with pytest.warns(RuntimeWarning, match=r"damaged and is computed again .*\.safetensors"):
        arrays, _ = _cache().get("content", compute, n_answers=1)
    assert compute.n_runs == 1
    assert np.array_equal(arrays["values"], compute.values)
    _cache().get("content", compute, n_answers=1)  # and written anew, so no warning any more
    assert compute.n_runs == 1


def test_nothing_is_left_behind_when_the_computation_is_stopped(cache_folder):
    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _cache().get("content", stopped, n_answers=1)
    assert not list(cache_folder.rglob("*.*"))


def test_a_stop_while_writing_leaves_no_file(cache_folder, monkeypatch):
    from tailwise.diagnosis import _prior_cache as module

    def stopped(arrays, file, metadata):
        with open(file, "wb") as stream:  # noqa: PTH123
            stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        _cache().get("content", Counted(), n_answers=1)
    assert not list(cache_folder.rglob("*.*"))
