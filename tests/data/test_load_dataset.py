import inspect

import pytest

from kerasfer.data import DATASETS, load_dataset
from kerasfer.errors import DataError, RecipeError
from kerasfer.options import function_of, options_of


def test_datasets_are_listed():
    assert set(DATASETS) == {
        *("affectnet", "ckplus", "fer2013", "ferplus", "folder", "parquet", "rafdb", "sfew"),
        "synthetic",
    }


def test_an_unknown_dataset_suggests_the_nearest():
    with pytest.raises(RecipeError, match="Received: 'fer2103'. Did you mean fer2013"):
        load_dataset("fer2103")


def test_an_option_of_another_dataset_is_refused():
    with pytest.raises(
        RecipeError, match="ferplus has no option 'neutral'. Its options are: labels."
    ):
        load_dataset("ferplus", neutral=True)
    with pytest.raises(RecipeError, match="fer2013 has no option 'path'. Its options are: none."):
        load_dataset("fer2013", path="x")
    with pytest.raises(RecipeError, match="rafdb has no option 'release'. Its options are: none."):
        load_dataset("rafdb", release=2017)


@pytest.mark.parametrize("name", DATASETS)
def test_the_options_of_a_recipe_are_arguments_of_the_loader(name):
    arguments = set(inspect.signature(function_of(DATASETS[name])).parameters) - {"data_dir"}
    options = set(options_of(DATASETS[name]).model_fields)
    # Faces are drawn for tests and studies too, with arguments of their own.
    assert options == arguments if name != "synthetic" else options <= arguments


def test_a_relative_path_is_one_of_the_working_folder_first(tree, tmp_path, monkeypatch):
    tree(*(f"data/faces/{name}/{n}.png" for name in ("happy", "sad") for n in range(2)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KERASFER_DATA", raising=False)
    assert len(load_dataset("folder", path="faces")) == 4
    tree(*(f"faces/{name}/{n}.png" for name in ("happy", "sad") for n in range(3)))
    assert len(load_dataset("folder", path="faces")) == 6
    assert len(load_dataset("folder", path="data/faces")) == 4
    for path in ("nothing", "~nosuchuser/faces"):
        with pytest.raises(DataError, match="looked up in the working folder first and in --data-"):
            load_dataset("folder", path=path)


def test_the_folder_comes_from_the_argument_or_the_environment(tree, tmp_path, monkeypatch):
    tree("faces/happy/0.png", "faces/happy/1.png", "faces/sad/0.png", "faces/sad/1.png")
    assert len(load_dataset("folder", tmp_path, path="faces")) == 4
    monkeypatch.setenv("KERASFER_DATA", str(tmp_path))
    assert len(load_dataset("folder", path="faces")) == 4
    monkeypatch.delenv("KERASFER_DATA")
    with pytest.raises(DataError, match="data/faces was not found"):
        load_dataset("folder", path="faces")
