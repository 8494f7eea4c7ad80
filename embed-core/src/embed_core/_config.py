"""Configuration that can be checked, copied, pickled and saved, with its secrets left at home."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypeVar, get_args
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, PrivateAttr, SecretBytes, SecretStr, model_validator

from embed_core._arguments import UNNAMED, is_credential, is_transport, looks_like_a_secret, plain, remembering
from embed_core._read_only import read_only, writable
from embed_core._types import OPERATIONAL
from embed_core.errors import ConfigurationError

_OPAQUE = "…"


class Config(BaseModel):
    """A pydantic model whose copies, pickles and saved forms are made again by its constructor.

    So clients, locks and weights, which live in private attributes, are never copied and never in a pickle. What is in
    a field changes by assignment only, which is seen; a dict changed in place would not be, so that is refused.
    """

    model_config = ConfigDict(
        extra="forbid",
        validate_assignment=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        hide_input_in_errors=True,  # the input of a wrong constructor call may hold a secret
    )

    provider: ClassVar[str | None] = None
    """The name under which the class is registered as a plugin; needed to save a configuration."""

    _arguments: dict[str, Any] = PrivateAttr(default_factory=dict)
    _identity: str = PrivateAttr(default_factory=lambda: uuid4().hex)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        init: Any = cls.__init__  # which may be that of a mixin
        if init is not BaseModel.__init__ and not hasattr(init, "marked"):
            type.__setattr__(cls, "__init__", remembering(init))

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest_field(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            known = {alias for name, field in cls.model_fields.items() for alias in (name, field.alias) if alias}
            for name in values.keys() - known:
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
                hint = (
                    f"did you mean `{near[0]}`?" if near else f"there are {', '.join(f'`{k}`' for k in sorted(known))}"
                )
                msg = f"`{cls.__name__}` has no argument `{name}`; {hint}"
                raise ValueError(msg)
        return values

    @model_validator(mode="after")
    def _freeze(self) -> Self:
        for name in type(self).model_fields.keys() - self._collaborators():
            self.__dict__[name] = read_only(self.__dict__[name])
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON types, with the provider's name and without secrets or collaborators."""
        told = self._plain_arguments().items()
        arguments = {name: one for name, one in told if one is not _OPAQUE and self._is_kept(name, one)}
        return arguments | {"provider": self.provider or self.class_name(), **self._dump(set(self._collaborators()))}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], **overrides: Any) -> Self:
        """Return the model that `to_dict` described; secrets are read from the environment again.

        Raises:
            ConfigurationError: the configuration was saved by a class of another provider.
        """
        values = dict(config)
        provider, expected = values.pop("provider", None), cls.provider or cls.class_name()
        if provider is not None and provider != expected:
            msg = f"the configuration is of provider `{provider}`, not `{expected}`; use `resolve_embed_model(config)`"
            raise ConfigurationError(msg)
        return cls(**(values | overrides))

    @classmethod
    def needs_consent(cls, saved: Mapping[str, Any]) -> dict[str, str]:
        """Return what a saved configuration would do that only the user may decide, by the field that makes it so.

        A configuration may come with an index from somebody else, so it alone must not make foreign code run or send a
        key to a foreign address.
        """
        trusts = saved.get("trust_remote_code")
        return {"trust_remote_code": "lets code that comes with the model run"} if trusts else {}

    @classmethod
    def from_spec(cls, model: str, /, **options: Any) -> Self:
        """Return the model that a spec `provider:model?option=value` names.

        Args:
            model: what stands after the colon; empty means the provider's own default.
            options: fields; those from a spec are strings, which pydantic converts.
        """
        return cls(**({"model_name": model} if model else {}) | options)

    @classmethod
    def class_name(cls) -> str:
        """Return the class's name, as LlamaIndex integrations do."""
        return cls.__name__

    def _space(self) -> dict[str, Any]:
        """Return everything that decides which vector an input gets; JSON types only.

        By default the class, every field, and whatever else its constructor takes, but for what is marked
        `OPERATIONAL`. Extend it by what those do not show, such as a digest of local weights.
        """
        operational = {name for name in type(self).model_fields if self._is_operational(name)}
        name = f"{self.provider or type(self).__module__}:{type(self).__qualname__}"
        space = {"class": name, **self._dump(operational | self._collaborators())}
        if arguments := self._plain_arguments():
            space["arguments"] = arguments
            if _OPAQUE in arguments.values():  # shared with copies of this model only
                space["identity"] = self._identity
        return space

    def _plain_arguments(self) -> dict[str, Any]:
        """Return what the constructor took beside fields and may decide vectors; `_OPAQUE` for no plain data."""
        told = {}
        for name, value in self._arguments.items():
            if not (is_credential(name) or is_transport(name) or _holds_secret(value)):
                try:
                    told[name] = plain(value)
                except TypeError:
                    told[name] = _OPAQUE
        return told

    @staticmethod
    def _is_kept(name: str, value: Any) -> bool:
        """Tell whether an argument goes with saved forms and pickles."""
        return not (looks_like_a_secret(name) or is_transport(name) or name == UNNAMED or _holds_secret(value))

    def _dump(self, left_out: set[str]) -> dict[str, Any]:
        left_out |= self._secrets()
        try:
            return self.model_dump(mode="json", exclude=left_out)
        except ValueError as error:  # pydantic cannot serialise some field's type
            msg = f"`{self.class_name()}` holds a field that is no plain data ({error}); mark it `Field(exclude=True)`"
            raise ConfigurationError(msg) from error

    @classmethod
    def _is_operational(cls, name: str) -> bool:
        """Tell whether any class on the way marks the field, so that a new default in a subclass keeps the mark."""
        fields = (base.model_fields.get(name) for base in cls.__mro__ if issubclass(base, Config))
        return any(field is not None and OPERATIONAL in field.metadata for field in fields)

    def _secrets(self) -> set[str]:
        """Return the fields that are meant for secrets, set or not, and those that happen to hold one."""
        fields = type(self).model_fields.items()
        return {
            name
            for name, field in fields
            if is_credential(name) or _is_secret(field.annotation) or _holds_secret(self.__dict__[name])
        }

    @classmethod
    def _collaborators(cls) -> set[str]:
        return {name for name, field in cls.model_fields.items() if field.exclude}

    def __setattr__(self, name: str, value: Any) -> None:
        former = self.__dict__.get(name, _OPAQUE)
        super().__setattr__(name, value)
        if name in type(self).model_fields and not _is_same(former, self.__dict__[name]):
            self._changed(operational=self._is_operational(name))

    def _changed(self, *, operational: bool) -> None:
        """Forget what was derived from the fields."""

    def _values(self) -> dict[str, Any]:
        fields = type(self).model_fields.items()
        return {field.alias or name: writable(self.__dict__[name]) for name, field in fields}

    def __copy__(self) -> Self:
        arguments = {name: value for name, value in self._arguments.items() if name != UNNAMED}
        return _rebuild(type(self), self._values() | arguments, self._identity)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return an equal model; of what can change, they share the collaborators only (cache, limiter, handlers)."""
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        secrets = {type(self).model_fields[name].alias or name for name in self._secrets()}
        values = {name: value for name, value in self._values().items() if name not in secrets}
        values |= {name: value for name, value in self._arguments.items() if self._is_kept(name, value)}
        return _rebuild, (type(self), values, self._identity)


ConfigT = TypeVar("ConfigT", bound=Config)


def _rebuild(cls: type[ConfigT], values: dict[str, Any], identity: str) -> ConfigT:
    model = cls(**values)
    model._identity = identity
    return model


def _is_same(former: Any, value: Any) -> bool:
    """Tell whether nothing changed, where that is easily told."""
    plain_data = isinstance(value, str | bytes | int | float | bool | None)
    return value is former or (plain_data and type(value) is type(former) and bool(value == former))


def _is_secret(annotation: Any) -> bool:
    return (
        annotation is SecretStr or annotation is SecretBytes or any(_is_secret(part) for part in get_args(annotation))
    )


def _holds_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_holds_secret(one) for one in value.values())
    return isinstance(value, SecretStr | SecretBytes)
