"""Evaluates the model of a run on a split of a dataset."""

import warnings
from dataclasses import dataclass

from kerasfer.data.batches import Batches
from kerasfer.data.samples import SPLITS
from kerasfer.errors import RecipeError, RunError
from kerasfer.evaluate.duplicates import find_duplicates
from kerasfer.evaluate.scoring import Evaluation, evaluate_batches
from kerasfer.evaluate.selection import select
from kerasfer.models.loading import check_landmarks, load_model, picture_input, with_classes_of
from kerasfer.runs.finding import find_run
from kerasfer.runs.folder import RunFolder

# Keys of a recipe that affect only training.
_TRAINING_KEYS = ("augment", "batch_size", "class_weights", "image_size", "limit")


@dataclass(frozen=True, eq=False)
class RunEvaluation:
    """The evaluation of the model of a run, and the location of its files.

    Args:
        result: The `Evaluation`.
        name: The name of the files, without suffix.
        folder: The `RunFolder`, or None for a model without a run.
    """

    result: Evaluation
    name: str
    folder: RunFolder | None

    def write(self):
        """Writes the metrics, predictions and confusion matrix into the run folder.

        Returns:
            The path of the metrics, or None for a model without a run.

        Raises:
            RunError: If the folder is not writable.
        """
        if self.folder is None:
            return None
        path = self.folder.evaluation(self.name)
        self.result.write(path, path.with_suffix(".csv"), path.with_suffix(".png"))
        return path


def evaluate(run, **options):
    """Evaluates a run's model on one split of a dataset.

    In a run folder the result is kept as `evaluation_<dataset>_<split>_<tta>.json`, with the
    predictions and the confusion matrix next to it (`.csv`, `.png`). For a folder of pictures,
    `<dataset>` is `folder-<name>-<digest of its path>`; with a list, `_<list>` is appended. So
    results of different data never overwrite each other. The entry `data` of the result says where
    the pictures are.

    Args:
        run: A run folder, finished or not, or a `.keras` file.
        **options: See `evaluate_run`.

    Returns:
        The dict of `metrics.json`. It is returned also when the run folder is not writable, with a
        warning.

    Raises:
        RunError: If `run` is not a trained model.
        RecipeError: If the dataset is unknown or missing.
        DataError: If the dataset is missing or incomplete, or has classes that the model lacks.

    Example:

    ```python
    evaluate("runs/quickstart", tta="flip")["accuracy"]
    ```
    """
    evaluation = evaluate_run(run, **options)
    try:
        evaluation.write()
    except RunError as error:
        warnings.warn(f"The result is not kept. {error}", stacklevel=2)
    return evaluation.result.metrics


def evaluate_run(
    run,
    *,
    dataset=None,
    data_dir=None,
    split=None,
    tta=None,
    list_name=None,
    duplicates=None,
    overrides=(),
):
    """Evaluates a run's model as `evaluate` does, without writing anything.

    Args:
        run: A run folder, finished or not, or a `.keras` file.
        dataset: The name of a dataset, or a folder with a subfolder for each class; None for the
            run's own data. Its classes must be among the model's.
        data_dir: The folder of the datasets; None for `$KERASFER_DATA`, else `data`.
        split: `"train"`, `"validation"` or `"test"`. None for the test split, or for all pictures
            of another dataset that has no test split of its own, such as CK+ or a folder of class
            folders.
        tta: Test-time views, `"none"`, `"flip"` or `"ten_crop"`; None for the recipe's.
        list_name: `"occlusion"`, `"pose30"` or `"pose45"`, to evaluate only those pictures of the
            split that the dataset's list names. The list is read from `lists/` in `data_dir`. The
            entry `list` of the result says how well both fit.
        duplicates: Whether to compute the accuracy also without the pictures that are in the run's
            training set too, pixel by pixel, for which all training pictures are decoded. None to
            do so if the training data is found.
        overrides: Changes of the run's recipe, `"data.path=…"` or `"evaluate.tta=flip"`.

    Returns:
        A `RunEvaluation`.
    """
    if split not in (None, *SPLITS):
        raise ValueError(f"`split` must be one of {', '.join(SPLITS)}. Received: {split!r}.")
    _check_overrides(overrides)
    found = find_run(run)
    recipe = find_run(run, overrides).recipe
    if overrides and recipe is None:
        raise RecipeError(f"--set changes the recipe of a run. Received: {run}, which has none.")
    model = load_model(found.model, landmarks=True)
    selected = select(found.recipe, recipe, dataset, data_dir, split)
    tta = tta or (recipe.evaluate.tta if recipe else "none")
    name = f"{selected.label}_{selected.split}_{tta}"
    if list_name:
        selected = selected.only_listed(list_name, data_dir)
        name += f"_{list_name}"
    samples = with_classes_of(model, selected.samples)
    check_landmarks(model, samples)
    batches = Batches(
        samples,
        image_size=picture_input(model).shape[1],
        batch_size=recipe.evaluate.batch_size if recipe else 64,
        on_bad_image=recipe.data.on_bad_image if recipe else "error",
    )
    mask = None
    if duplicates is not False and selected.split != "train":
        mask = find_duplicates(found.recipe, batches.samples, data_dir, required=bool(duplicates))
    result = evaluate_batches(
        model, batches, selected.fold, split=selected.split, tta=tta, duplicates=mask
    )
    return RunEvaluation(result.with_facts(**selected.facts, tta=tta), name, found.folder)


def _check_overrides(overrides):
    for override in overrides:
        section, _, key = override.partition("=")[0].strip().partition(".")
        selects = section == "data" and key.split(".")[0] not in _TRAINING_KEYS
        if not selects and section != "evaluate":
            raise RecipeError(
                f"--set {override} has no effect on an evaluation. Expected a key of `data` that "
                "selects pictures, such as data.path, or a key of `evaluate`."
            )
