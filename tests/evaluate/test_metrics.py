import doctest
import json

import numpy as np
import pytest
from sklearn import metrics as oracle

import kerasfer.evaluate.metrics
from kerasfer.errors import RunError
from kerasfer.evaluate.metrics import classification_metrics, summarize_folds, wilson_interval

NAMES = ("angry", "happy", "sad")


def score(predictions, targets, class_names=NAMES, **options):
    probabilities = np.eye(len(class_names), dtype="float32")[predictions]
    options = {"dataset": "folder", "split": "test", "protocol": "official", **options}
    return classification_metrics(probabilities, np.array(targets), class_names, **options)


def test_a_case_by_hand():
    metrics = score([0, 0, 1, 1, 1, 2], [0, 1, 1, 1, 2, 2], leaking=True)
    assert metrics["confusion_matrix"] == [[1, 0, 0], [1, 2, 0], [0, 1, 1]]
    assert metrics["num_samples"] == 6
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["macro_recall"] == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert metrics["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 2 / 3) / 3)
    assert metrics["weighted_f1"] == pytest.approx(2 / 3)
    assert metrics["per_class"]["happy"] == {
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
        "support": 3,
    }
    assert metrics["class_names"] == list(NAMES)
    assert (metrics["dataset"], metrics["split"]) == ("folder", "test")
    assert (metrics["protocol"], metrics["leaking"]) == ("official", True)


@pytest.mark.parametrize("num_present", [7, 5])
def test_agrees_with_scikit_learn_over_the_classes_present(num_present):
    rng = np.random.default_rng(0)
    names = [f"class {i}" for i in range(7)]
    targets = rng.integers(0, num_present, 300)
    predictions = np.where(rng.random(300) < 0.6, targets, rng.integers(0, 7, 300))
    metrics = score(predictions, targets, names)
    options = {"labels": np.unique(targets), "zero_division": 0}
    for key, expected in {
        "accuracy": oracle.accuracy_score(targets, predictions),
        "macro_recall": oracle.recall_score(targets, predictions, average="macro", **options),
        "macro_f1": oracle.f1_score(targets, predictions, average="macro", **options),
        "weighted_f1": oracle.f1_score(targets, predictions, average="weighted", **options),
    }.items():
        assert metrics[key] == pytest.approx(expected), key


def test_an_absent_class_is_left_out_of_the_macro_recall():
    metrics = score([0, 1], [0, 1])
    assert metrics["macro_recall"] == metrics["macro_f1"] == 1.0
    assert metrics["per_class"]["sad"]["support"] == 0


def test_json_gives_back_the_same_dict():
    metrics = score([0, 1, 1], [0, 1, 2])
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilson_interval_against_published_values(successes, n, low, high):
    # (81, 263): Newcombe, Statistics in Medicine 1998, table I, method 3.
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_refuses_impossible_counts():
    for successes, n in [(0, 0), (3, 2), (-1, 2)]:
        with pytest.raises(ValueError, match=f"successes={successes}, n={n}"):
            wilson_interval(successes, n)


def test_arguments_that_do_not_fit_are_refused():
    options = {"dataset": "d", "split": "test", "protocol": "official"}
    with pytest.raises(ValueError, match=r"\(2, 2\).*3 class names"):
        classification_metrics(np.ones((2, 2)), [0, 1], NAMES, **options)
    with pytest.raises(ValueError, match="n ≥ 1"):
        classification_metrics(np.ones((0, 3)), [], NAMES, **options)
    with pytest.raises(ValueError, match=r"integers in \[0, 3\)"):
        classification_metrics(np.ones((1, 3)), [3], NAMES, **options)


def test_a_diverged_model_is_a_run_error():
    with pytest.raises(RunError, match="for 1 of 2 pictures: training diverged"):
        classification_metrics(
            [[np.nan, 1], [0, 1]], [0, 1], NAMES[:2], dataset="d", split="s", protocol="p"
        )


def test_folds_by_hand():
    folds = [score([0, 1, 1, 0], [0, 1, 1, 1]), score([0, 2], [0, 2])]
    summary = summarize_folds(folds)
    assert summary["num_folds"] == 2
    assert summary["num_samples"] == 6
    assert summary["accuracy"] == pytest.approx(5 / 6)  # pooled
    assert summary["mean"]["accuracy"] == pytest.approx((3 / 4 + 1) / 2)
    assert summary["sd"]["accuracy"] == pytest.approx(0.125 * 2**0.5)
    assert summary["confusion_matrix"] == [[2, 0, 0], [1, 2, 0], [0, 0, 1]]
    assert summary["macro_recall"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert [fold["accuracy"] for fold in summary["folds"]] == [0.75, 1.0]
    assert set(folds[0]) < set(summary)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_one_fold_has_no_standard_deviation():
    assert summarize_folds([score([0], [0])])["sd"]["accuracy"] is None


def test_folds_must_share_their_classes():
    with pytest.raises(ValueError, match="'angry', 'happy', 'sad'.*'a', 'b'"):
        summarize_folds([score([0], [0]), score([0], [0], ("a", "b"))])
    with pytest.raises(ValueError, match="at least one fold"):
        summarize_folds([])


def test_the_examples_run():
    assert doctest.testmod(kerasfer.evaluate.metrics).failed == 0
