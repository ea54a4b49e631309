import numpy as np
import pytest

from kerasfer.data.protocols import make_folds, split_off
from kerasfer.data.samples import Samples, one_hot
from kerasfer.errors import DataError, RecipeError


def make_samples(splits=None, subjects=None, num=330, **options):
    """Three frames a sequence, two or more sequences a person, three classes."""
    targets = np.arange(num) // 3 % 3
    return Samples(
        name="drawn",
        class_names=("a", "b", "c"),
        pictures=np.arange(num, dtype="uint8")[:, None, None] * np.ones((8, 8), "uint8"),
        labels=one_hot(targets, 3),
        ids=[str(number) for number in range(num)],
        splits=splits,
        subjects=subjects,
        **options,
    )


def persons(num=330, num_persons=40):
    return np.array([f"S{number // 3 % num_persons:03}" for number in range(num)])


def parts_of(fold):
    return [set(part.ids) for part in (fold.train, fold.validation, fold.test)]


def check_partition(fold, samples):
    train, validation, test = parts_of(fold)
    assert not (train & validation or train & test or validation & test)
    assert len(train | validation | test) == len(samples)


def test_subjects_are_kept_apart_and_each_sample_is_tested_once():
    samples = make_samples(subjects=persons(), protocol="subjects")
    folds = make_folds(samples, num_folds=10)
    assert len(folds) == 10
    for fold in folds:
        check_partition(fold, samples)
        train, validation, test = (
            set(part.subjects) for part in (fold.train, fold.validation, fold.test)
        )
        assert not (train & validation or train & test or validation & test)
        assert set(fold.test.targets) == {0, 1, 2}
        assert not fold.leaking
    tested = [name for fold in folds for name in fold.test.ids]
    assert sorted(tested) == sorted(samples.ids)
    for fold, following in zip(folds, folds[1:] + folds[:1], strict=True):
        assert set(fold.validation.ids) == set(following.test.ids)


def test_frames_leak_and_test_a_sixth():
    samples = make_samples(subjects=persons(), protocol="subjects")
    (fold,) = make_folds(samples, "frames")
    check_partition(fold, samples)
    assert fold.leaking
    assert fold.protocol == "frames"
    assert len(fold.test) == 55
    assert set(fold.test.subjects) & set(fold.train.subjects)
    np.testing.assert_allclose(np.bincount(fold.test.targets), 55 / 3, atol=1)


def test_official_splits_are_taken_as_they_are():
    splits = np.repeat(["train", "validation", "test"], [300, 10, 20])
    (fold,) = make_folds(make_samples(splits))
    assert [len(part) for part in parts_of(fold)] == [300, 10, 20]
    assert set(fold.test.splits) == {"test"}
    assert not fold.leaking


def test_official_draws_validation_from_train_where_there_is_none():
    samples = make_samples(np.repeat(["train", "test"], [300, 30]))
    (fold,) = make_folds(samples, validation_fraction=0.2)
    check_partition(fold, samples)
    assert [len(part) for part in parts_of(fold)] == [240, 60, 30]
    assert set(fold.validation.splits) == {"train"}
    np.testing.assert_array_equal(np.bincount(fold.validation.targets), [20, 20, 20])


@pytest.mark.parametrize("protocol", ["official", "subjects", "frames"])
def test_the_seed_decides(protocol):
    samples = make_samples(np.repeat(["train", "test"], [300, 30]), persons())
    first, again, other = (
        [parts_of(fold) for fold in make_folds(samples, protocol, seed=seed)] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_rare_classes_stay_in_train():
    targets = np.array([0] * 50 + [1])
    kept, drawn = split_off(targets, 0.5, seed=0)
    assert len(drawn) == 26
    assert 50 in kept


def test_missing_splits_or_subjects_are_reported():
    with pytest.raises(DataError, match="drawn has no official splits.*to frames"):
        make_folds(make_samples())
    with pytest.raises(DataError, match="drawn has no test split"):
        make_folds(make_samples(np.full(330, "train")))
    with pytest.raises(DataError, match="subjects of drawn are unknown"):
        make_folds(make_samples(), "subjects")
    with pytest.raises(DataError, match="too small for 10 folds: 4 subjects"):
        make_folds(make_samples(subjects=persons(num_persons=4)), "subjects")
    with pytest.raises(DataError, match="none of its 2 samples remains for validation"):
        make_folds(make_samples(num=2), "frames")


def test_an_unknown_protocol_is_refused():
    with pytest.raises(RecipeError, match="official, subjects, frames. Received: 'subject'"):
        make_folds(make_samples(), "subject")


def test_fewer_than_three_folds_are_refused():
    with pytest.raises(ValueError, match="at least 3"):
        make_folds(make_samples(subjects=persons()), "subjects", num_folds=2)
