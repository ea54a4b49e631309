"""From a table's YAML file to its cells: which run fills each, and what the paper says.

    the table's recipe → the column's, then the row's → their changes → `--set` → a cell's recipe

Cells with the same recipe share one run, within a table and between tables. Nothing here imports
Keras.
"""

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from kerasfer.errors import RecipeError
from kerasfer.options import Section
from kerasfer.recipe import load_recipe, parse_file
from kerasfer.recipe.differences import differences
from kerasfer.recipe.schema import MODEL, Recipe
from kerasfer.recipe.shipped import find

CLASS_METRICS = ("precision", "recall", "f1")
METRICS = ("accuracy", "macro_recall", "macro_f1", *CLASS_METRICS)


class Part(Section):
    """What a column and a row may both say."""

    recipe: str | None = Field(None, description="Recipe, relative to the table's file.")
    model: dict | None = Field(
        None, description="A whole `model` section, in place of the recipe's."
    )


class Column(Part):
    """A dataset, a list of its pictures, or a score."""

    set: list[str] = Field([], description="Changes of the recipe, such as data.protocol=frames.")
    list: Literal["occlusion", "pose30", "pose45"] | None = Field(
        None, description="Judge on the test pictures of this list only."
    )
    metric: Literal[METRICS] = Field("accuracy", description="What the column shows.")


class Row(Part):
    """A method."""

    set: list[str] | dict[str, list[str]] = Field(
        [], description="Changes of the recipe, of all columns or by column."
    )
    run: str | None = Field(None, description="Name of its runs, where the row's own is too long.")
    class_name: str | None = Field(
        None, description="Class that is scored, in columns of precision, recall and f1."
    )
    paper: dict[str, float] = Field({}, description="The paper's value by column.")
    quoted: str | None = Field(
        None, description="Why the row is only quoted: it cannot be trained from what is published."
    )


class Figure(Section):
    """A figure of the paper that the table's runs redraw."""

    kind: Literal["confusion", "loss", "gradient_norm"] = Field(description="What is drawn.")
    rows: list[str] | None = Field(None, description="Of these rows. Default: all.")
    title: str = Field("", description="What the paper calls it.")


class TableFile(Section):
    """A table of a paper: short, since recipes say how its cells are trained."""

    title: str = Field(description="Heading.")
    paper: Literal["obsr", "spd_attention"] = Field(description="The paper.")
    table: int | None = Field(None, ge=1, description="Number of the table; none for a study.")
    unit: Literal["percent", "fraction"] = Field("percent", description="Of all values.")
    note: str = Field("", description="What a reader has to know.")
    recipe: str | None = Field(None, description="Recipe of the cells, relative to this file.")
    set: list[str] = Field([], description="Changes of every recipe.")
    columns: dict[str, Column] = Field(min_length=1, description="Columns by name.")
    rows: dict[str, Row] = Field(min_length=1, description="Rows by name.")
    figures: dict[str, Figure] = Field({}, description="Figures by the name of their file.")

    @model_validator(mode="after")
    def _check_names(self):
        for name, row in self.rows.items():
            by_column = row.set if isinstance(row.set, dict) else {}
            for column in (*row.paper, *by_column):
                if column not in self.columns:
                    raise ValueError(
                        f"`rows.{name}` names the column {column!r}; the table has "
                        f"{', '.join(self.columns)}."
                    )
            scored = any(column.metric in CLASS_METRICS for column in self.columns.values())
            if scored != (row.class_name is not None):
                raise ValueError(
                    f"`rows.{name}.class_name` belongs to tables with columns of precision, recall "
                    f"and f1, and only to these. Received: {row.class_name!r}."
                )
        for name, figure in self.figures.items():
            for row in figure.rows or ():
                if row not in self.rows:
                    raise ValueError(
                        f"`figures.{name}` names the row {row!r}; the table has "
                        f"{', '.join(self.rows)}."
                    )
        return self


@dataclass(frozen=True)
class Cell:
    """One value of a table.

    Args:
        row, column: its names.
        paper: the published value, in the table's unit, or None.
        quoted: why it is only quoted, or None where it can be trained.
        recipe: the `kerasfer.recipe.schema.Recipe` that fills it; its name is the run's folder.
        metric: a key of `metrics.json`, or of its `per_class`.
        class_name: the class scored, or None.
        list: the list of test pictures it is judged on, or None for all of them.
    """

    row: str
    column: str
    paper: float | None
    quoted: str | None
    recipe: Recipe | None
    metric: str
    class_name: str | None
    list: str | None


@dataclass(frozen=True)
class Table:
    """A table's file, read: its own words, and its cells row by row.

    Args:
        path: the file.
        file: `TableFile`, as it is written.
        cells: list of `Cell`.
        overrides: what `--set` changed beyond the table, `{"train.epochs": 2}`.
    """

    path: Path
    file: TableFile
    cells: list
    overrides: dict


def load_table(path, overrides=()):
    """Reads a table's file and the recipe of every cell.

    Args:
        path: the YAML file.
        overrides: strings `"key.path=value"`, for the recipes of all cells. Runs with such changes
            have them in their name, so that a cut run is never taken for the published one.

    Returns:
        `Table`.

    Raises:
        RecipeError: in one line, at the first thing that is wrong.

    Example:

    ```python
    table = load_table("recipes/tables/spd_table1.yaml")
    [cell.recipe.name for cell in table.cells if cell.row == "SPD-Attention"]
    ```
    """
    path = find(path, "tables")
    values, places = parse_file(path, "table", "`title:`, `columns:` and `rows:`")
    try:
        file = TableFile.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_explain(error, path, places)) from None
    cells, changed = [], {}
    for row_name, row in file.rows.items():
        for column_name, column in file.columns.items():
            recipe = None
            if row.quoted is None:
                place = f"{path}: row {row_name}, column {column_name}"
                recipe, extra = _cell_recipe(path, file, row_name, column_name, overrides, place)
                changed |= extra
            elif column_name not in row.paper:
                continue
            cells.append(
                Cell(
                    row=row_name,
                    column=column_name,
                    paper=row.paper.get(column_name),
                    quoted=row.quoted,
                    recipe=recipe,
                    metric=column.metric,
                    class_name=row.class_name,
                    list=column.list,
                )
            )
    _check_runs(path, cells)
    return Table(path, file, cells, changed)


def _check_runs(path, cells):
    """Refuses two recipes that would be trained in one folder."""
    runs = {}
    for cell in cells:
        if cell.recipe is None:
            continue
        first = runs.setdefault(cell.recipe.name, cell)
        changed = differences(first.recipe, cell.recipe)
        if changed:
            raise RecipeError(
                f"{path}: the rows {first.row} ({first.column}) and {cell.row} ({cell.column}) "
                f"would share the run {cell.recipe.name}, but differ in {', '.join(changed)}. Name "
                "the runs of one of them with `run:`, and leave out --set name."
            )


def _cell_recipe(path, file, row_name, column_name, overrides, place):
    """Returns a cell's recipe, named as its run, and what `--set` changed in it."""
    row, column = file.rows[row_name], file.columns[column_name]
    named = row.recipe or column.recipe or file.recipe
    if named is None:
        raise RecipeError(f"{place}: no recipe is named. Add `recipe:` to the table or the row.")
    in_row = row.set if isinstance(row.set, list) else row.set.get(column_name, [])
    changes = [*file.set, *column.set, *_whole_model(row.model or column.model), *in_row]
    parts = {
        slug(path.stem): file.set,
        slug(row.run or row_name): row.set or row.model,
        slug(column_name): column.set or column.model,
    }
    suffixes = [part for part, is_changed in parts.items() if is_changed]
    source = path.parent / named
    try:
        published = load_recipe(source, changes)
        if suffixes:
            changes += [
                f"name={json.dumps('-'.join([published.name, *suffixes]))}",
                f"reproduces={_reproduces(file, row, row_name, column_name)}",
            ]
            published = load_recipe(source, changes)
        recipe = load_recipe(source, [*changes, *overrides])
        extra = {key: now for key, (_, now) in differences(published, recipe).items()}
        if extra:
            name = "+".join([recipe.name, *(f"{key}={slug(now)}" for key, now in extra.items())])
            recipe = recipe.model_copy(update={"name": name})
    except RecipeError as error:
        raise RecipeError(f"{place}: {error}") from None
    return recipe, extra


def _whole_model(model):
    """Writes changes that put a model in the place of another, of which no key is left."""
    if model is None:
        return []
    forgotten = sorted(MODEL.known_keys() - {"name", *model})
    return [*(f"model.{key}=null" for key in forgotten), f"model={json.dumps(model)}"]


def _reproduces(file, row, row_name, column_name):
    column = file.columns[column_name]
    published = row.paper.get(column_name)
    if published is None or column.list or column.metric != "accuracy" or file.table is None:
        return "null"
    place = {"paper": file.paper, "table": file.table, "row": row_name, "accuracy": published}
    return json.dumps(place | {"column": column_name if len(file.columns) > 1 else None})


def slug(text):
    """Makes any text a part of a folder's name: `"ResNet34 + GC"` becomes `resnet34-gc`."""
    return re.sub(r"[^\w.]+", "-", str(text).lower()).strip("-.") or "none"


def _explain(error, path, places):
    problems = error.errors(include_url=False)
    problem = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    keys = tuple(str(key) for key in problem["loc"])
    given = (places[keys[:depth]] for depth in range(len(keys), 0, -1) if keys[:depth] in places)
    place, name = next(given, path), ".".join(keys)
    if problem["type"] == "value_error":
        return f"{place}: {problem['ctx']['error']}"
    if problem["type"] == "missing":
        return f"{place}: `{name}` is required."
    if problem["type"] == "extra_forbidden":
        section = {"columns": Column, "rows": Row, "figures": Figure}.get(keys[0])
        known = list((section if section and len(keys) > 1 else TableFile).model_fields)
        close = get_close_matches(keys[-1], known, n=1)
        hint = f"Did you mean `{close[0]}`?" if close else f"Known here: {', '.join(known)}."
        return f"{place}: unknown key `{name}`. {hint}"
    expected = problem["msg"].removeprefix("Input should be ")
    return f"{place}: `{name}` must be {expected}. Received: {problem['input']!r}."
