"""From a recipe to a fitted, judged and reported model in a run's folder."""

import json
import time
from pathlib import Path

import keras

from kerasfer.data.pipeline import Batches
from kerasfer.data.samples import class_weights, limit
from kerasfer.evaluate import load_folds, load_model, predict_probabilities
from kerasfer.figures import plot_confusion_matrix, plot_curves
from kerasfer.files import write_json
from kerasfer.fitting import fit
from kerasfer.metrics import classification_metrics
from kerasfer.models import build_model
from kerasfer.predictions import select_mistakes, write_predictions
from kerasfer.report import write_folds_report, write_report
from kerasfer.run_folder import RunFolder, environment


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
    if len(folds) == 1:
        metrics = _train_fold(recipe, folds[0], RunFolder(run_dir), resume)
    else:
        chosen = range(len(folds)) if recipe.data.fold is None else [recipe.data.fold]
        for number in chosen:
            print(f"Fold {number + 1} of {len(folds)}")
            data = recipe.data.model_copy(update={"fold": number})
            one = recipe.model_copy(update={"data": data})
            metrics = _train_fold(one, folds[number], RunFolder(run_dir / f"fold_{number}"), resume)
        if len(chosen) > 1:
            write_folds_report(run_dir)
            metrics = _read_metrics(run_dir)
        else:
            run_dir = run_dir / f"fold_{chosen[0]}"
    return {**metrics, "run": str(run_dir)}


def _train_fold(recipe, fold, run, resume):
    state = run.open(recipe, resume)
    if run.is_finished:
        print(f"{run.path} is finished already.")
        return _read_metrics(run.path)
    keras.utils.set_random_seed(recipe.train.seed)
    keras.config.set_dtype_policy(recipe.train.precision)
    place = environment(recipe.train.seed)
    train_batches, validation_batches, test_batches = _make_batches(recipe, fold)
    options = recipe.model.model_dump(exclude={"name"}, exclude_none=True)
    model = build_model(
        recipe.model.name, fold.train.class_names, recipe.data.image_size, **options
    )
    place["num_parameters"] = model.count_params()
    write_json(run.path / "environment.json", place)
    _announce(recipe, run, place, train_batches, validation_batches, test_batches)
    state = fit(model, train_batches, validation_batches, recipe, run, state)
    write_json(run.path / "environment.json", {**place, "seconds": round(state["seconds"], 1)})
    return _judge(recipe, fold, run, test_batches)


def _make_batches(recipe, fold):
    data, settings = recipe.data, recipe.train
    train = limit(fold.train, data.limit, settings.seed)
    shared = {"on_bad_image": data.on_bad_image, "workers": data.workers}
    train_batches = Batches(
        train,
        data.image_size,
        data.batch_size,
        augment=data.augment.model_dump(),
        shuffle=True,
        seed=settings.seed,
        sample_weights=class_weights(train.labels, data.class_weights),
        **shared,
    )
    size = recipe.evaluate.batch_size
    others = [
        Batches(part, data.image_size, size, **shared) for part in (fold.validation, fold.test)
    ]
    return train_batches, *others


def _judge(recipe, fold, run, batches):
    """Judges the best epoch's model on the test split, which nothing before has seen."""
    model = load_model(run.model)
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
    write_json(run.metrics, metrics)
    write_report(run.path, mistakes=_mistakes(samples, probabilities))
    run.close()
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


def _read_metrics(run_dir):
    return json.loads((run_dir / "metrics.json").read_text(encoding="utf-8"))


def _announce(recipe, run, place, train, validation, test):
    print(
        f"{recipe.name}: {recipe.model.name}, {place['num_parameters']:,} parameters, on "
        f"{len(train.samples):,} / {len(validation.samples):,} / {len(test.samples):,} pictures of "
        f"{recipe.data.name} (train / validation / test), {place['backend']} on {place['device']}, "
        f"into {run.path}"
    )
    for batches in (train, validation, test):
        if batches.bad_images:
            shown = ", ".join(batches.bad_images[:5])
            print(f"Left out {len(batches.bad_images)} unreadable pictures: {shown} …")
