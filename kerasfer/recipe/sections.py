"""Assembles sections of a recipe whose keys depend on their `name` from a registry."""

from functools import cache
from typing import Annotated, Literal, Union

from pydantic import ConfigDict, Discriminator, Field, TypeAdapter, ValidationError, create_model
from pydantic_core import core_schema

from kerasfer.options import Section, options_of


class ByName:
    """Annotates a field with the discriminated union of the sections of a registry.

    The registry is read at each validation, so that a model which a user registers is accepted.

    Args:
        registry: `{name: entry}`, as `kerasfer.models.MODELS`.
        base: `Section` class with the keys that all entries share.
        title: The kind of the entries, such as `"model"`.
    """

    def __init__(self, registry, base, title):
        self.registry = registry
        self.base = base
        self.title = title

    def section(self, name):
        """Returns the `Section` class of an entry."""
        return _make_section(self.base, self.title, name, options_of(self.registry[name]))

    def sections(self):
        """Returns the `Section` classes of all entries."""
        return [self.section(name) for name in self.registry]

    def own_keys(self, name):
        """Returns the keys of an entry that are not common to all entries."""
        return list(options_of(self.registry[name]).model_fields)

    def known_keys(self):
        """Returns the keys of all entries."""
        return {key for section in self.sections() for key in section.model_fields}

    def validate(self, value, info=None):
        """Checks a section by the class that its `name` selects.

        A key of another entry is ignored if it is null. A recipe uses this to remove an inherited
        key. In the context `{"any_model": True}` a model need not be registered.
        """
        if isinstance(value, Section):
            value = value.model_dump(exclude_none=True)
        if not isinstance(value, dict):
            self._fail("model_type", (), value, {"class_name": self.title})
        name = value.get("name")
        if not isinstance(name, str) or name not in self.registry:
            if isinstance(name, str) and self.title == "model" and _allows_any_model(info):
                given = {key: value[key] for key in value if value[key] is not None}
                return _Unregistered.model_validate(given)
            self._refuse_name(value)
        section, known = self.section(name), self.known_keys()
        dropped = {
            key
            for key in value
            if value[key] is None and key in known and key not in section.model_fields
        }
        return section.model_validate({key: value[key] for key in value if key not in dropped})

    def _refuse_name(self, value):
        if "name" in value:
            expected = " or ".join(map(repr, self.registry))
            self._fail("literal_error", ("name",), value["name"], {"expected": expected})
        # A misspelled name is an unknown key.
        if unknown := [key for key in value if key not in self.known_keys()]:
            self._fail("extra_forbidden", (unknown[0],), value[unknown[0]])
        self._fail("missing", ("name",), value)

    def _fail(self, kind, keys, value, context=None):
        problem = {"type": kind, "loc": keys, "input": value, "ctx": context or {}}
        raise ValidationError.from_exception_data(self.title, [problem])

    def __get_pydantic_core_schema__(self, source, handler):
        return core_schema.with_info_plain_validator_function(self.validate)

    def __get_pydantic_json_schema__(self, schema, handler):
        union = Annotated[Union[tuple(self.sections())], Discriminator("name")]  # noqa: UP007
        return handler(TypeAdapter(union).core_schema)


class _Unregistered(Section):
    """A section with a name that is not registered, and keys that cannot be checked."""

    model_config = ConfigDict(extra="allow")

    name: str


def _allows_any_model(info):
    return bool(info and info.context and info.context.get("any_model"))


@cache
def _make_section(base, title, name, options):
    field = Field(description=base.model_fields["name"].description)
    return create_model(
        f"{title}_{name}",
        __base__=(options, base) if options is not Section else base,
        __doc__=options.__doc__ if options is not Section else base.__doc__,
        name=(Literal[name], field),
    )
