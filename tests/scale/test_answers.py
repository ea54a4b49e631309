"""The Parquet files of scored pictures, and how an interrupted job continues."""

import importlib.util

import pytest
from click.testing import CliRunner
from colors import draw, draw_many, write_model

from kerasfer.cli import main
from kerasfer.errors import DataError, RunError
from kerasfer.scale import answers, cluster, scoring

needs_parquet = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed"
)


def record(picture, *labels, error=None):
    box = [1.0, 2.0, 30.0, 40.0]
    faces = [
        {
            "box": box,
            "score": 0.9,
            "label": label,
            "probability": 0.75,
            "probabilities": {label: 0.75, "other": 0.25},
        }
        for label in labels
    ]
    return {"picture": picture, "error": error, "faces": faces}


@pytest.fixture
def attempt(tmp_path):
    return answers.begin_attempt(answers.open_answers(tmp_path, {}))


@needs_parquet
def test_a_file_has_one_row_per_face_and_one_for_a_picture_without(tmp_path, attempt):
    from pyarrow import parquet

    records = [record("a.jpg", "sad", "sad"), record("b.jpg"), record("c.jpg", error="Broken.")]
    path = answers.write_answers(records, ("sad", "other"), tmp_path, attempt)
    table = parquet.read_table(path)
    assert table.schema.equals(answers.make_schema(("sad", "other")))
    rows = table.to_pylist()
    assert [row["picture"] for row in rows] == ["a.jpg", "a.jpg", "b.jpg", "c.jpg"]
    assert [row["face"] for row in rows] == [1, 2, None, None]
    assert [row["probability_sad"] for row in rows] == [0.75, 0.75, None, None]
    assert [rows[0][key] for key in ("x", "y", "width", "height")] == [1, 2, 30, 40]
    assert [row["error"] for row in rows] == [None, None, None, "Broken."]


@needs_parquet
def test_a_repeated_part_replaces_its_own_file(tmp_path, attempt):
    part = [record("a.jpg", "sad")]
    first = answers.write_answers(part, ("sad", "other"), tmp_path, attempt)
    assert answers.write_answers(part, ("sad", "other"), tmp_path, attempt) == first
    answers.write_answers([record("b.jpg", "sad")], ("sad", "other"), tmp_path, attempt)
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    assert answers.read_answered(tmp_path) == {"a.jpg", "b.jpg"}


@needs_parquet
def test_files_that_are_being_written_are_not_answers_and_damaged_ones_are_reported(
    tmp_path, attempt
):
    answers.write_answers([record("a.jpg", "sad")], ("sad", "other"), tmp_path, attempt)
    (tmp_path / ".partial.0.parquet").write_bytes(b"PAR1")
    assert answers.read_answered(tmp_path) == {"a.jpg"}
    (tmp_path / "0.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match=r"0\.parquet is not a Parquet file of kerasfer"):
        answers.read_answered(tmp_path)


@needs_parquet
def test_a_worker_of_an_earlier_attempt_cannot_write(tmp_path, attempt):
    later = answers.begin_attempt(answers.open_answers(tmp_path, {}))
    with pytest.raises(RunError, match="Another command has begun to write into"):
        answers.write_answers([record("a.jpg", "sad")], ("sad", "other"), tmp_path, attempt)
    assert answers.read_answered(tmp_path) == set()
    answers.write_answers([record("a.jpg", "sad")], ("sad", "other"), tmp_path, later)
    assert answers.read_answered(tmp_path) == {"a.jpg"}


def test_a_folder_belongs_to_one_job(tmp_path):
    folder = tmp_path / "answers"
    job = {"model": "a.onnx", "margin": 0.0}
    assert answers.open_answers(folder, job) == answers.open_answers(folder, job)
    with pytest.raises(RunError, match=r"another job: margin was 0\.0 and is 0\.2\. Choose"):
        answers.open_answers(folder, job | {"margin": 0.2})
    other = tmp_path / "other"
    other.mkdir()
    (other / "sales.parquet").touch()
    with pytest.raises(RunError, match="Parquet files that `kerasfer predict` did not write"):
        answers.open_answers(other, job)
    with pytest.raises(RunError, match="Expected a folder for the Parquet files"):
        answers.open_answers(other / "sales.parquet", job)


def test_inputs_are_folders_with_subfolders_and_lists(tmp_path):
    pictures = draw_many(tmp_path / "faces", 1)
    assert scoring.list_inputs([tmp_path / "faces"]) == sorted(map(str, pictures))
    names = tmp_path / "faces" / "list.txt"
    names.write_text(f"red/0.png\n\n{pictures[1]}\nred/0.png\n")
    assert scoring.list_inputs([names]) == [str(pictures[0]), str(pictures[1])]
    names.write_text("\n")
    with pytest.raises(DataError, match="Expected a path in each line"):
        scoring.list_inputs([names])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="or its subfolders, but found none"):
        scoring.list_inputs([tmp_path / "empty"])


def run_command(*arguments):
    return CliRunner().invoke(main, ["predict", *map(str, arguments)])


def test_the_command_checks_its_options(tmp_path):
    picture = draw(tmp_path / "a.png", "red")
    result = run_command("model.onnx", picture, "--workers", 2)
    assert result.exit_code == 2
    assert "--workers and --ray-address need --parquet" in result.stderr
    result = run_command("model.onnx", picture, "--parquet", tmp_path / "out", "--csv")
    assert result.exit_code == 2
    assert "--parquet excludes --json, --csv and --annotate" in result.stderr


def test_without_ray_the_command_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    model = write_model(tmp_path / "colors.onnx")
    picture = draw(tmp_path / "a.png", "red")
    result = run_command(model, picture, "--parquet", tmp_path / "out", "--workers", 2)
    assert result.exit_code == 1
    assert 'pip install "kerasfer[ray]"' in result.stderr
    assert len(result.stderr.strip().splitlines()) <= 2
    assert not (tmp_path / "out").exists()
