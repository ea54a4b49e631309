"""Writes the results of a training into its run folder."""

from kerasfer.explain.figures import plot_heat_maps
from kerasfer.report import write_report
from kerasfer.report.figures import plot_curves
from kerasfer.runs.predictions import select_mistakes


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
