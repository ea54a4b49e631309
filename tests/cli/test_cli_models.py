"""The commands that list and show the pretrained models, and the choice of a model by arguments."""

import pytest
from click.testing import CliRunner

from kerasfer.cli import main
from kerasfer.cli.arguments import separate_model
from kerasfer.models.pretrained import DEFAULT, list_pretrained, read_facts


def test_models_are_listed_with_their_accuracy():
    result = CliRunner().invoke(main, ["models"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{DEFAULT} (default)\n  classes   ")
    for name in list_pretrained():
        assert f"{100 * read_facts(name)['test']['accuracy']:.2f} %" in result.output


def test_a_model_card_is_shown():
    result = CliRunner().invoke(main, ["models", "show", DEFAULT])
    assert result.exit_code == 0 and "## Intended use and limits" in result.output
    result = CliRunner().invoke(main, ["models", "show", "ferplus_lite"])
    assert result.exit_code == 1 and f"Did you mean {DEFAULT}?" in result.output


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["party.jpg"], (DEFAULT, ("party.jpg",))),
        (["folder", "party.jpg"], (DEFAULT, ("folder", "party.jpg"))),
        (["run", "party.jpg"], ("run", ("party.jpg",))),
        (["saved", "party.jpg"], ("saved", ("party.jpg",))),
        (["faces.tflite", "party.jpg"], ("faces.tflite", ("party.jpg",))),
        ([DEFAULT, "party.jpg"], (DEFAULT, ("party.jpg",))),
    ],
)
def test_the_first_argument_may_be_a_model(tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").touch()
    (tmp_path / "saved" / "1").mkdir(parents=True)
    (tmp_path / "saved" / "1" / "saved_model.pb").touch()
    assert separate_model(arguments) == expected


@pytest.mark.parametrize(
    "command", [["predict"], ["predict", "--parquet", "answers"], ["explain"], ["video"]]
)
def test_a_model_without_an_input_is_refused(command):
    result = CliRunner().invoke(main, [*command, DEFAULT])
    assert result.exit_code == 2
    assert f"Error: Expected an input after the model {DEFAULT}, such as a file." in result.stderr
