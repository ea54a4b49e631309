import numpy as np
import pytest

from kerasfer.data.samples import Samples, class_weights, limit, one_hot, stratified_order

COUNTS = (60, 25, 14, 1)


def make_samples(counts=COUNTS, **columns):
    targets = np.repeat(np.arange(len(counts)), counts)
    return Samples(
        name="drawn",
        class_names=tuple("abcdefg"[: len(counts)]),
        pictures=np.zeros((len(targets), 8, 8), "uint8"),
        labels=one_hot(targets, len(counts)),
        ids=[f"{number}.png" for number in range(len(targets))],
        **columns,
    )


def test_targets_are_the_most_likely_classes():
    samples = make_samples((1, 2))
    np.testing.assert_array_equal(samples.targets, [0, 1, 1])


def test_take_reorders_every_column(tmp_path):
    samples = Samples(
        name="drawn",
        class_names=("a", "b"),
        pictures=[tmp_path / "0.png", tmp_path / "1.png", tmp_path / "2.png"],
        labels=one_hot([0, 1, 0], 2),
        ids=("0", "1", "2"),
        splits=np.array(["train", "test", "train"]),
        subjects=np.array(["S0", "S1", "S2"]),
    )
    taken = samples.take([2, 1])
    assert taken.pictures == [tmp_path / "2.png", tmp_path / "1.png"]
    assert list(taken.ids) == ["2", "1"]
    assert list(taken.splits) == ["train", "test"]
    assert list(taken.subjects) == ["S2", "S1"]
    np.testing.assert_array_equal(taken.targets, [0, 1])
    assert list(samples.take(samples.splits == "train").ids) == ["0", "2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros((3, 2), "float32")}, "must sum to 1"),
        ({"labels": np.eye(3, dtype="float64")}, "must be float32 of shape"),
        ({"ids": ("x", "y")}, "2 entries for 3 pictures"),
        ({"ids": ("x", "y", "x")}, "must differ"),
        ({"splits": np.array(["train", "val", "test"])}, "must be among"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change, message):
    columns = {
        "name": "drawn",
        "class_names": ("a", "b"),
        "pictures": np.zeros((3, 8, 8), "uint8"),
        "labels": one_hot([0, 1, 0], 2),
        "ids": ("x", "y", "z"),
    }
    with pytest.raises(ValueError, match=message):
        Samples(**columns | change)


@pytest.mark.parametrize("num_samples", [4, 10, 50, 99])
def test_each_beginning_of_the_stratified_order_is_stratified(num_samples):
    targets = make_samples().targets
    order = stratified_order(targets, seed=3)
    assert sorted(order) == list(range(100))
    counts = np.bincount(targets[order[:num_samples]], minlength=4)
    assert counts.min() >= 1
    np.testing.assert_allclose(counts, np.array(COUNTS) * num_samples / 100, atol=2.5)


def test_limit_keeps_a_stratified_subset_in_order():
    samples = make_samples()
    kept = limit(samples, 20, seed=1)
    np.testing.assert_allclose(np.bincount(kept.targets), [12, 5, 3, 1], atol=1)
    positions = [int(name.removesuffix(".png")) for name in kept.ids]
    assert len(kept) == 20
    assert positions == sorted(positions)
    assert list(limit(samples, 20, seed=1).ids) == list(kept.ids)
    assert list(limit(samples, 20, seed=2).ids) != list(kept.ids)


def test_limit_above_the_size_keeps_all():
    samples = make_samples()
    assert limit(samples, None) is samples
    assert limit(samples, 1000) is samples


def test_class_weights_by_hand():
    labels = one_hot([0, 0, 0, 1], 2)
    assert class_weights(labels, "none") is None
    np.testing.assert_allclose(class_weights(labels, "balanced"), [2 / 3, 2])
    np.testing.assert_allclose(class_weights(labels, "proportional"), [1.2, 0.4])


@pytest.mark.parametrize("mode", ["balanced", "proportional"])
def test_class_weights_average_to_one_over_the_samples(mode):
    labels = np.random.default_rng(0).dirichlet(np.ones(5), 40).astype("float32")
    labels[:, 3] = 0.0
    labels /= labels.sum(axis=1, keepdims=True)
    weights = class_weights(labels, mode)
    assert weights.dtype == np.float32
    assert weights[3] == 0.0
    np.testing.assert_allclose((labels @ weights).mean(), 1.0, rtol=1e-5)


def test_unknown_class_weights_are_refused():
    with pytest.raises(ValueError, match="`mode` must be one of .*'sqrt'"):
        class_weights(one_hot([0], 2), "sqrt")
