"""From a recipe to a fitted, judged and reported model in a run's folder."""

import contextlib
import json
import time
from pathlib import Path

import keras
import numpy as np

from kerasfer.data.batches import Batches, Training
from kerasfer.data.loading import load_folds
from kerasfer.data.samples import class_weights, limit
from kerasfer.evaluate.evaluation import find_duplicates, predict_probabilities
from kerasfer.evaluate.metrics import classification_metrics
from kerasfer.explain.figures import plot_heat_maps
from kerasfer.files import write_json
from kerasfer.models import build_model
from kerasfer.models.loading import check_landmarks, load_model
from kerasfer.report import write_folds_report, write_report
from kerasfer.report.figures import plot_confusion_matrix, plot_curves
from kerasfer.runs.environment import emulates_half_precision, environment
from kerasfer.runs.folder import RunFolder, open_folds, recipe_of_fold
from kerasfer.runs.predictions import select_mistakes, write_predictions
from kerasfer.train.distillation import Distilled, check_same_teacher, load_teacher
from kerasfer.train.stages import fit, set_trainable


def train(recipe, *, data_dir=None, output_dir="runs", resume=False):
    """Trains and judges what a recipe describes, in `output_dir/<recipe name>`.

    With several folds each is a run of its own, `fold_0` and so on, with their summary above.

    Args:
        recipe: `kerasfer.recipe.Recipe`.
        data_dir: Folder of the datasets; `None` for `$KERASFER_DATA`, else `data`.
        output_dir: Folder of the runs.
        resume: Whether to go on with an interrupted run. Finished folds are not repeated.

    Returns:
        The dict of `metrics.json`, and under `"run"` the path of the run's folder.

    Raises:
        RecipeError, DataError, RunError: With a line that says what to mend.

    Example:
        >>> train(load_recipe("recipes/quickstart.yaml"))["accuracy"]
    """
    run_dir = Path(output_dir) / recipe.name
    folds = load_folds(recipe.data, recipe.train.seed, data_dir)
    if len(folds) > 1:
        metrics, run_dir = _train_folds(recipe, folds, run_dir, resume)
    else:
        metrics = _train_fold(recipe, folds[0], RunFolder(run_dir), resume)
    return {**metrics, "run": str(run_dir)}


def _train_folds(recipe, folds, run_dir, resume):
    """Trains the folds that the recipe names; the last of all of them brings the summary."""
    runs = open_folds(run_dir, recipe, resume)
    for number, run in runs.items():
        print(f"Fold {number + 1} of {len(folds)}: {run.path}", flush=True)
        with _dtype_policy(recipe.train.precision):
            metrics = _train_fold(recipe_of_fold(recipe, number), folds[number], run, resume)
            # The fold's model is gone; this frees what the backend keeps of it, and its settings.
            keras.utils.clear_session()
    everything = [RunFolder(run_dir / f"fold_{number}") for number in range(len(folds))]
    if not all(run.is_finished for run in everything):
        return metrics, run.path
    write_folds_report(run_dir)
    if len(runs) == 1:
        print(f"All {len(folds)} folds are finished: {run_dir / 'report.html'} sums them up.")
        return metrics, run.path
    return _read_metrics(run_dir), run_dir


def _train_fold(recipe, fold, run, resume):
    run.check(recipe, resume)
    if run.is_finished:
        run.close()
        print(f"{run.path} is finished already.")
        return _read_metrics(run.path)
    keras.utils.set_random_seed(recipe.train.seed)
    with _dtype_policy(recipe.train.precision):
        # The model first: a wrong value shows before pictures are decoded.
        model = _build(recipe, fold.train.class_names)
        check_landmarks(model, fold.train)
        about = {"num_parameters": model.count_params()}
        if recipe.distill:
            teacher, about["teacher"] = load_teacher(recipe, fold)
            model = Distilled(model, teacher, recipe.distill)
        batches = _make_batches(recipe, fold)
        with run.open(recipe, resume) as state:
            place = environment(recipe.train.seed) | about
            if state and run.environment.exists():
                before = _read_json(run.environment)
                check_same_teacher(before, place)
                place["started"] = before["started"]
            write_json(run.environment, place)
            if recipe.train.verbose:
                _announce(recipe, run, place, *batches)
                if state:
                    print(f"Going on after epoch {state['epoch']}.", flush=True)
            state = fit(model, *batches[:2], recipe, run, state)
            write_json(run.environment, {**place, "seconds": round(state["seconds"], 1)})
            metrics = _judge(recipe, fold, run, batches[0].samples, batches[2])
            _compare_with_teacher(metrics, place)
    run.close()
    return metrics


def _build(recipe, class_names):
    options = recipe.model.model_dump(exclude={"name"}, exclude_none=True)
    model = build_model(recipe.model.name, class_names, recipe.data.image_size, **options)
    set_trainable(model, recipe, alone=recipe.train.warmup_epochs > 0)
    return model


@contextlib.contextmanager
def _dtype_policy(name):
    """Computes in another precision as long as the block runs."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _make_batches(recipe, fold):
    data, settings = recipe.data, recipe.train
    train = limit(fold.train, data.limit, settings.seed)
    shared = {"on_bad_image": data.on_bad_image, "workers": data.workers}
    train_batches = Batches(
        train,
        data.image_size,
        data.batch_size,
        training=Training(
            augment=data.augment.model_dump(),
            seed=settings.seed,
            sample_weights=class_weights(train.labels, data.class_weights),
        ),
        **shared,
    )
    size = recipe.evaluate.batch_size
    others = [
        Batches(part, data.image_size, size, **shared) for part in (fold.validation, fold.test)
    ]
    return train_batches, *others


def _judge(recipe, fold, run, trained_on, batches):
    """Judges the best epoch's model on the test split, which nothing before has seen."""
    model = load_model(run.model, landmarks=True)
    started = time.monotonic()
    probabilities = predict_probabilities(model, batches, recipe.evaluate.tta)
    seconds = time.monotonic() - started
    samples = batches.samples
    print(f"Judged {len(samples):,} test pictures in {seconds:.0f} s.")
    metrics = classification_metrics(
        probabilities,
        samples.targets,
        samples.class_names,
        dataset=samples.name,
        split="test",
        protocol=fold.protocol,
        leaking=fold.leaking,
        duplicates=find_duplicates(trained_on, samples),
    )
    write_predictions(
        run.path / "predictions.csv",
        samples.ids,
        samples.targets,
        probabilities,
        samples.class_names,
    )
    plot_confusion_matrix(metrics, run.path / "confusion_matrix.png")
    plot_curves(run.history, run.path / "curves.png", monitor=recipe.train.monitor)
    plot_heat_maps(model, samples, probabilities, run.path / "heat_maps.png")
    write_json(run.metrics, metrics)
    write_report(run.path, mistakes=_mistakes(samples, probabilities))
    return metrics


def _mistakes(samples, probabilities):
    names = samples.class_names
    return [
        {
            "picture": samples.picture(index),
            "id": samples.ids[index],
            "target": names[samples.targets[index]],
            "prediction": names[probabilities[index].argmax()],
            "probability": float(probabilities[index].max()),
        }
        for index in select_mistakes(probabilities, samples.targets)
    ]


def _compare_with_teacher(metrics, place):
    accuracy = (place.get("teacher") or {}).get("accuracy")
    if accuracy:
        print(
            f"The teacher's accuracy on the same pictures is {accuracy:.2%}; "
            f"{metrics['accuracy'] / accuracy:.1%} of it is kept."
        )


def _read_metrics(run_dir):
    return _read_json(run_dir / "metrics.json")


def _read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _announce(recipe, run, place, *parts):
    sizes = " / ".join(f"{len(batches.samples):,}" for batches in parts)
    print(
        f"{recipe.name}: {recipe.model.name}, {place['num_parameters']:,} parameters, on {sizes} "
        f"pictures of {recipe.data.name} (train / validation / test), {place['backend']} on "
        f"{place['device']}, into {run.path}",
        flush=True,
    )
    if recipe.train.precision != "float32" and emulates_half_precision():
        print(
            f"This CPU only emulates {recipe.train.precision}: with --set train.precision=float32 "
            "an epoch is several times faster."
        )
    marks = [part.samples.landmarks for part in parts if part.samples.landmarks is not None]
    if marks:
        # A picture without them is cut at the fixed places.
        known = sum(int(np.isfinite(points).all(axis=(1, 2)).sum()) for points in marks)
        print(f"Landmarks are known of {known:,} of {sum(map(len, marks)):,} pictures.")
    bad = [name for batches in parts for name in batches.bad_images]
    if bad:
        shown = ", ".join(bad[:5]) + (" …" if len(bad) > 5 else "")
        print(f"Left out {len(bad)} unreadable pictures: {shown}")
