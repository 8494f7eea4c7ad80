"""A pydantic model that shows no secret: neither by its fields' names and types, nor in texts that hold one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final

from pydantic import (
    AliasChoices,
    BaseModel,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic.json_schema import GenerateJsonSchema

from embed_core._arguments import is_secret_type
from embed_core._secrets import MASK, is_credential, is_secret, looks_like_a_key, masked, quoted, scrubbed, secrets_in
from embed_core._tracked import untracked
from embed_core.errors import ConfigurationError

SAVED: Final = object()
"""The context of a dump whose values make the same model again, so that only secrets are left out of it."""


class Discreet(BaseModel):
    """A model whose secrets are in no text, dump or schema of it."""

    _arguments: dict[str, Any] | None = PrivateAttr(default=None)

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the JSON schema of the fields; a collaborator such as a cache is any value."""
        schema = super().model_json_schema(*args, **{"schema_generator": _Lenient} | kwargs)
        for name, described in schema.get("properties", {}).items():
            if is_credential(name):
                described.pop("default", None)
        return schema

    @classmethod
    def _is_credential(cls, name: str) -> bool:
        """Tell whether a field is meant for a secret, set or not."""
        return credentials(cls).get(names_of_fields(cls).get(name, ""), False)

    @classmethod
    def _is_secret(cls, name: str, value: Any, **_: Any) -> bool:
        """Tell whether the value of a field, by whatever name, or of an argument is a secret."""
        is_set = value is not None and not (isinstance(value, str) and not value)
        return (is_set and cls._is_credential(name)) or is_secret(name, value)

    def _known_secrets(self) -> set[str]:
        """Return the secrets in fields and arguments."""
        settings = (*(self._arguments or {}).items(), *self.__dict__.items())
        found = [secrets_in(value, name, secret=self._is_secret(name, value)) for name, value in settings]
        return {text for texts in found for text in texts}

    def _masking(self) -> Callable[[str], str]:
        """Return a function that masks the secrets in a text to be shown."""
        return partial(quoted, known=self._known_secrets())

    def _masking_saved(self) -> Callable[[str], str]:
        """Return the same for a text to be saved or sent, in which a `lm-studio` may be the name of a host too."""
        return partial(masked, known=set(filter(looks_like_a_key, self._known_secrets())))

    @model_serializer(mode="wrap")
    def _without_secrets(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        if info.context is SAVED:
            saved: dict[str, Any] = scrubbed(handler(self), clean=self._masking_saved(), secret=self._is_secret)
            return saved
        shown: dict[str, Any] = scrubbed(handler(self), clean=self._masking(), mask=MASK, secret=self._is_secret)
        return shown

    def _dump(self, *fields: str) -> dict[str, Any]:
        found = type(self).model_fields.items()
        named = fields or tuple(name for name, field in found if not (field.exclude or self._is_credential(name)))
        try:
            return self.model_dump(mode="json", include=set(named), context=SAVED)
        except ValueError as error:  # pydantic cannot serialise the content of some field
            for name in named if not fields else ():
                self._dump(name)  # until the field at fault is alone
            held = "data that JSON has no form for, such as an object or bytes that are no text"
            msg = f"`{named[0]}` of `{type(self).__name__}` holds {held}; change it, or mark it `Field(exclude=True)`"
            raise ConfigurationError(msg) from error

    def __repr_args__(self) -> Any:
        shown = {name: untracked(value) for name, value in super().__repr_args__() if name is not None}
        return list(scrubbed(shown, clean=self._masking(), secret=self._is_secret).items())


@lru_cache(maxsize=1024)
def names_of_fields(cls: type[BaseModel]) -> dict[str, str]:
    """Return the fields by all their names: their own, and aliases."""
    names: dict[str, str] = {}
    for name, field in cls.model_fields.items():
        choices = field.validation_alias.choices if isinstance(field.validation_alias, AliasChoices) else ()
        given = (field.alias, field.validation_alias, field.serialization_alias, *choices)
        names |= {one: name for one in given if isinstance(one, str)}
    return {**names, **{name: name for name in cls.model_fields}}


@lru_cache(maxsize=1024)
def credentials(cls: type[BaseModel]) -> dict[str, bool]:
    """Return which fields are meant for secrets, by their names and types."""
    named = {field for name, field in names_of_fields(cls).items() if is_credential(name, own=True)}
    return {name: name in named or is_secret_type(field.annotation) for name, field in cls.model_fields.items()}


class _Lenient(GenerateJsonSchema):
    """Describes a type that has no JSON schema as any value."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {}
