"""Defines the names of the files in a run folder."""

from pathlib import Path

from kerasfer.errors import RunError
from kerasfer.files import read_json
from kerasfer.recipe import load_recipe
from kerasfer.runs.history import read_history


class RunFolder:
    """Holds the paths of the files of a run, and reads some of them.

    Nothing is created: `kerasfer.runs.opening.open_run` does that. The folder of a run with several
    folds contains one run folder for each fold.

    Args:
        path: The folder.

    Attributes:
        path: The folder, as a `pathlib.Path`.
        recipe: `recipe.yaml`, the resolved recipe.
        environment: `environment.json`, the versions, device, seed and duration.
        history: `history.csv`, a row for each epoch.
        model: `model.keras`, the model of the best epoch.
        metrics: `metrics.json`, the result on the test split. It is written last.
        predictions: `predictions.csv`, the probabilities of each test picture.
        confusion_matrix, curves, heat_maps: The figures.
        report: `report.html`.
        gradient_norms: `gradient_norm.csv`, if the recipe requests it.
        logs: The folder of TensorBoard's logs.
        checkpoint: The folder of the checkpoints, which exists until the run is finished.
        last_epoch: `last_epoch.npz`, the last checkpoint of a finished run, from which it can be
            trained further.

    Example:

    >>> run = RunFolder("runs/quickstart")
    >>> run.model.name, run.fold(1).metrics.as_posix()
    ('model.keras', 'runs/quickstart/fold_1/metrics.json')
    """

    def __init__(self, path):
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.environment = self.path / "environment.json"
        self.history = self.path / "history.csv"
        self.model = self.path / "model.keras"
        self.metrics = self.path / "metrics.json"
        self.predictions = self.path / "predictions.csv"
        self.confusion_matrix = self.path / "confusion_matrix.png"
        self.curves = self.path / "curves.png"
        self.heat_maps = self.path / "heat_maps.png"
        self.report = self.path / "report.html"
        self.gradient_norms = self.path / "gradient_norm.csv"
        self.logs = self.path / "logs"
        self.checkpoint = self.path / "checkpoint"
        self.last_epoch = self.path / "last_epoch.npz"

    def __repr__(self):
        return f"RunFolder({str(self.path)!r})"

    @property
    def exists(self):
        """Whether the folder holds a run, finished or not."""
        return self.recipe.is_file()

    @property
    def checkpoints(self):
        """The files to resume from, the newest first."""
        found = self.checkpoint.glob("epoch_*.npz")
        return sorted(found, key=lambda path: (len(path.name), path.name), reverse=True)

    @property
    def is_finished(self):
        """Whether the run was trained and evaluated to its end."""
        return self.metrics.exists() and not self.checkpoints

    def fold(self, number):
        """Returns the `RunFolder` of one fold."""
        return RunFolder(self.path / f"fold_{number}")

    @property
    def folds(self):
        """The `RunFolder`s of the folds that hold a run, in order."""
        found = [path for path in self.path.glob("fold_*") if RunFolder(path).exists]
        return [RunFolder(path) for path in sorted(found, key=lambda p: (len(p.name), p.name))]

    def evaluation(self, name):
        """Returns the path of a later evaluation's result, such as `evaluation_rafdb_test.json`."""
        return self.path / f"evaluation_{name}.json"

    def evaluations(self, start=""):
        """Returns the later evaluations whose names begin with `start`, as `{rest: path}`."""
        prefix = self.evaluation(start).stem
        found = sorted(self.path.glob("evaluation_*.json"))
        return {
            path.stem.removeprefix(prefix): path for path in found if path.stem.startswith(prefix)
        }

    def load_recipe(self, overrides=()):
        """Returns the run's `kerasfer.recipe.Recipe`.

        Raises:
            RunError: If the folder holds no run.
            RecipeError: If the recipe is damaged.
        """
        if not self.exists:
            raise RunError(
                f"Expected a run folder with {self.recipe.name} and {self.model.name}. Received: "
                f"{self.path}, which lacks {self.recipe.name}."
            )
        return load_recipe(self.recipe, overrides, trained=True)

    def read_metrics(self):
        """Returns the dict of `metrics.json`.

        Raises:
            RunError: If it is missing or damaged.
        """
        return read_json(self.metrics)

    def read_environment(self):
        """Returns the dict of `environment.json`, which is empty if there is no such file.

        Raises:
            RunError: If it is damaged.
        """
        return read_json(self.environment) if self.environment.exists() else {}

    def read_history(self):
        """Returns the rows of `history.csv`, or an empty list if there is no such file.

        Raises:
            RunError: If it is damaged.
        """
        return read_history(self.history) if self.history.exists() else []
