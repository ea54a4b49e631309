"""Selects the pictures that a trained model is evaluated on."""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from kerasfer.data import DATASETS, load_dataset
from kerasfer.data.listing import locate
from kerasfer.data.lists import load_list, match
from kerasfer.data.loading import data_folder, dataset_in, load_fold
from kerasfer.data.protocols import Fold, make_folds
from kerasfer.data.samples import WHOLE, Samples
from kerasfer.errors import DataError, RecipeError
from kerasfer.recipe.differences import differences


@dataclass(frozen=True, eq=False)
class Selection:
    """The pictures to evaluate, and a description of them.

    Args:
        fold: The `Fold` that they belong to.
        split: The part of it, one of `SPLITS` or `WHOLE`.
        samples: The `Samples`.
        label: A name for files. Different data have different labels.
        facts: A description of the data for the result.
    """

    fold: Fold
    split: str
    samples: Samples
    label: str
    facts: dict = field(default_factory=dict)

    def only_listed(self, name, data_dir):
        """Returns the pictures that a list of the dataset names.

        How many pictures the list names, and how many of them are missing, is added to the facts.

        Args:
            name: `"occlusion"`, `"pose30"` or `"pose45"`.
            data_dir: The folder of the datasets, whose `lists/` is read.
        """
        found = match(self.samples, load_list(self.samples.name, name, data_dir))
        listed = {
            "name": name,
            "num_listed": len(found.listed.labels),
            "num_missing": found.num_missing,
            "num_disagreeing": found.num_disagreeing,
        }
        return replace(self, samples=found.samples, facts=self.facts | {"list": listed})


def select(trained, recipe, dataset=None, data_dir=None, split=None):
    """Selects the pictures to evaluate.

    Args:
        trained: The recipe that the model was trained with, or None if it is unknown.
        recipe: The same recipe with the changes for this evaluation, or None.
        dataset: A key of `DATASETS`, or a folder of pictures or of Parquet files; None for the
            recipe's own data.
        data_dir: The folder of the datasets.
        split: One of `SPLITS`. None for the test split, or for all pictures of another dataset
            without a test split of its own: the model was not trained on any of them.

    Returns:
        A `Selection`.

    Raises:
        RecipeError: If the dataset is unknown, or none is given for a model without a run.
        DataError: If the dataset is missing or lacks the split.
    """
    if dataset is None and recipe is None:
        raise RecipeError(
            "The model is not in a run folder, so its dataset is unknown. Add --dataset with the "
            "name of a dataset or a folder of pictures."
        )
    if dataset is None or (recipe and _is_own(dataset, recipe.data, data_dir)):
        return _select_own(trained, recipe, data_dir, split or "test")
    return _select_other(dataset, data_dir, split, known=trained is not None)


def _select_own(trained, recipe, data_dir, split):
    fold = load_fold(recipe.data, recipe.train.seed, data_dir)
    changed = {
        key: now
        for key, (_, now) in differences(trained, recipe).items()
        if key.startswith("data.") and key != "data.on_bad_image"
    }
    label = _with_digest(recipe.data.name, changed) if changed else recipe.data.name
    samples = getattr(fold, split)
    facts = {"dataset": samples.name, "source": samples.source}
    if changed:
        facts["changed"] = changed
    return Selection(fold, split, samples, label, {"data": facts})


def _select_other(dataset, data_dir, split, known):
    if dataset not in DATASETS and Path(dataset).expanduser().is_dir():
        path = Path(dataset).expanduser().resolve()
        name = dataset_in(path)
        samples = load_dataset(name, data_dir, path=str(path))
        label = _with_digest(f"{name}-{_slug(path.name)}", str(path))
    else:
        samples = load_dataset(dataset, data_dir)
        label = samples.name
    facts = {"data": {"dataset": samples.name, "source": samples.source}}
    if samples.splits is not None and (split or "test") not in samples.drawn_splits:
        (fold,) = make_folds(samples, "official")
        split = split or "test"
        return Selection(fold, split, getattr(fold, split), label, facts)
    if split is not None:
        raise DataError(
            f"{samples.source or samples.name} has no {split} split of its own. Leave out --split "
            f"to evaluate all {len(samples):,} pictures."
        )
    if samples.splits is None and not known:
        raise DataError(
            f"{samples.name} has no official splits, and it is unknown which of its pictures the "
            "model was trained on. Evaluate the run folder instead of a model file."
        )
    fold = Fold(samples, samples, samples, protocol=WHOLE, leaking=False)
    return Selection(fold, WHOLE, samples, label, facts)


def _is_own(dataset, data, data_dir):
    if dataset == data.name:
        return True
    path = Path(dataset).expanduser()
    if data.name not in ("folder", "parquet") or dataset in DATASETS or not path.is_dir():
        return False
    return path.resolve() == locate(data.path, data_folder(data_dir)).resolve()


def _with_digest(label, value):
    text = json.dumps(value, sort_keys=True, default=str)
    return f"{label}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def _slug(name):
    return re.sub(r"[^\w-]+", "-", name).strip("-") or "pictures"
