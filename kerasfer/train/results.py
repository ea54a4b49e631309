"""Evaluates a trained model on the test split, and writes the results into its run folder."""

from kerasfer.evaluate.scoring import evaluate_batches
from kerasfer.explain.figures import plot_heat_maps
from kerasfer.models.loading import load_model
from kerasfer.report import write_report
from kerasfer.report.figures import plot_curves
from kerasfer.runs.predictions import select_mistakes


def evaluate_test_split(run, batches, fold, recipe, duplicates):
    """Evaluates the model of the best epoch on the test split, which no step before has used.

    Args:
        run: `kerasfer.runs.folder.RunFolder`.
        batches: The `Batches` of the test split.
        fold: The `Fold` that they belong to.
        recipe: `kerasfer.recipe.Recipe`.
        duplicates: bool array, which test pictures are in the training set too.

    Returns:
        The `kerasfer.evaluate.scoring.Evaluation`, and the model.
    """
    model = load_model(run.model, landmarks=True)
    tta = recipe.evaluate.tta
    return evaluate_batches(model, batches, fold, tta=tta, duplicates=duplicates), model


def write_results(run, evaluation, model, monitor):
    """Writes the metrics, predictions, figures and report of a run.

    Args:
        run: `kerasfer.runs.folder.RunFolder`.
        evaluation: The `Evaluation` of the test split.
        model: The evaluated `keras.Model`.
        monitor: The column of the history that selects the best epoch.
    """
    samples, probabilities = evaluation.samples, evaluation.probabilities
    plot_curves(run.history, run.curves, monitor=monitor)
    plot_heat_maps(model, samples, probabilities, run.heat_maps)
    evaluation.write(run.metrics, run.predictions, run.confusion_matrix)
    write_report(run.path, mistakes=_mistakes(samples, probabilities))


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
