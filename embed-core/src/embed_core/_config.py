"""Configuration that can be checked, copied, pickled and saved, with its secrets left at home."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Self, dataclass_transform
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from embed_core._arguments import constructors, named, names_model, operational, parameters
from embed_core._canonical import OPAQUE, Code, as_saved, canonical, is_opaque, is_plain, known_as
from embed_core._copies import argument_of, kept, made_like, same, unpickled
from embed_core._discreet import Discreet, names_of_fields
from embed_core._plugins import registered_name
from embed_core._secrets import is_credential, scrubbed
from embed_core._tracked import Changes, may_change_unseen, tracked, untracked
from embed_core._types import OPERATIONAL
from embed_core.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)  # which has no public name


@dataclass_transform(kw_only_default=True, field_specifiers=(Field, PrivateAttr))
class _Remembering(ModelMetaclass):
    """Keeps the arguments that a model was made from: copies are made from them, and they may decide vectors."""

    if not TYPE_CHECKING:  # type checkers see fields as arguments

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            arguments, inits = None, constructors(self)
            if args and not inits:
                name = self.__name__
                msg = f"`{name}` takes its fields by name, as in `{name}({names_model(self)}=…)`, not by position"
                raise ConfigurationError(msg)
            if inits:
                with suppress(TypeError):  # which the call itself raises, with the class in its words
                    arguments = named(inits[0], args, kwargs)
            model = super().__call__(*args, **kwargs)
            model._made_from(arguments)
            return model


class Config(Discreet, metaclass=_Remembering):
    """A pydantic model whose copies, pickles and saved forms are made again by its constructor.

    So clients, locks and weights, which live in private attributes, are never copied and never in a pickle.
    """

    model_config = ConfigDict(
        extra="forbid",
        validate_assignment=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
        populate_by_name=True,  # copies and saved forms name fields, not aliases
        hide_input_in_errors=True,  # the input of a wrong constructor call may hold a secret
        ser_json_inf_nan="constants",  # which Python's own JSON reads again
    )

    provider: ClassVar[str | None] = None
    """The provider's name in a saved configuration; by default the name under which a package registers the class."""

    _given: dict[str, Any] = PrivateAttr(default_factory=dict)
    _given_forms: dict[str, Any] = PrivateAttr(default_factory=dict)
    _complete: bool = PrivateAttr(default=False)
    _changes: Changes = PrivateAttr(default_factory=Changes)
    _known_code: Code = PrivateAttr(default_factory=dict)
    _identity: str = PrivateAttr(default_factory=lambda: uuid4().hex)

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest_field(cls, values: Any) -> Any:
        """Refuse an argument that is no field; one that a constructor names itself is remembered, not refused."""
        if not isinstance(values, Mapping):
            return values
        known = names_of_fields(cls)
        taken = parameters(cls)
        for name in values.keys() - known.keys() - taken:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(f'`{k}`' for k in sorted(known))}"
            msg = f"`{cls.__name__}` has no argument `{name}`; {hint}"
            raise ValueError(msg)
        return {name: value for name, value in values.items() if name in known}

    # Copies and saved forms

    def with_(self, **changes: Any) -> Self:
        """Return another model with some arguments or fields changed; this one stays as it is."""
        changes = self._by_field(changes)
        model = made_like(type(self), self._values(), self._arguments, changes, Config._values)
        if not changes:
            model._identity = self._identity
        return model

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON types, with the provider's name and without secrets or collaborators.

        Where the class has a constructor of its own, `arguments` holds the arguments of that; a credential that stands
        in an environment variable is saved as the name of the variable.
        """
        saved = {"provider": self._provider_name(), **self._dump()}
        if self._arguments is None:
            return saved
        forms = {name: as_saved(canonical(one)) for name, one in kept(self._arguments, self._masking_saved()).items()}
        return saved | {"arguments": {name: form for name, form in forms.items() if is_plain(form)}}

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], **overrides: Any) -> Self:
        """Return the model that `to_dict` described; secrets are read from the environment again.

        Raises:
            ConfigurationError: the configuration was saved by a class of another provider.
        """
        values = {**config}
        provider, expected = values.pop("provider", None), cls._provider_name()
        if provider is not None and provider not in {expected, cls.__name__}:
            msg = f"the configuration is of provider `{provider}`, not `{expected}`; use `resolve_embed_model(config)`"
            raise ConfigurationError(msg)
        arguments = values.pop("arguments", None) if constructors(cls) else None
        return made_like(cls, cls._by_field(values), arguments, cls._by_field(overrides), cls._dump)

    @classmethod
    def needs_consent(cls, saved: Mapping[str, Any]) -> dict[str, str]:
        """Return the deeds of a saved configuration that only the user may allow, each by the field that asks for it.

        A configuration may come with an index from somebody else, so it alone must not make foreign code run or send a
        key to a foreign address.
        """
        trusts = saved.get("trust_remote_code")
        return {"trust_remote_code": "lets code that comes with the model run"} if trusts else {}

    @classmethod
    def from_spec(cls, model: str, /, **options: Any) -> Self:
        """Return the model that a spec `provider:model?option=value` names.

        Args:
            model: the text after the colon; empty means the provider's own default.
            options: fields; those from a spec are strings, which pydantic converts.
        """
        return cls(**({names_model(cls): model} if model else {}) | options)

    @classmethod
    def class_name(cls) -> str:
        """Return the class's name, as LlamaIndex integrations do."""
        return cls.__name__

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return an equal model, with the fields in `update` changed; see `with_`."""
        return self.with_(**(update or {}))

    def __replace__(self, **changes: Any) -> Self:
        return self.with_(**changes)

    def __copy__(self) -> Self:
        return self.with_()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Return an equal model, which shares only the collaborators: cache, limiter, handlers."""
        return self.with_()

    def __reduce__(self) -> tuple[Any, ...]:
        clean = self._masking_saved()
        values = {name: value for name, value in self._values().items() if not self._is_credential(name)}
        arguments = self._arguments and kept(self._arguments, clean)
        return unpickled, (type(self), scrubbed(values, clean=clean, secret=self._is_secret), arguments, self._identity)

    @classmethod
    def _provider_name(cls) -> str:
        name: str = cls.provider or registered_name(cls) or cls.__name__
        return name

    # The space

    def _space(self) -> dict[str, Any]:
        """Return everything that decides which vector an input gets; JSON types only.

        By default the class, every field, and every other argument of its constructor, but for credentials and for
        those that are marked `OPERATIONAL`. Extend it by facts that no field shows, such as a digest of local weights.
        """
        fields = self._forms({name: value for name, value in self._values().items() if self._decides_vectors(name)})
        given = self._forms(self._given)
        first = {name: form for name, form in self._given_forms.items() if name not in fields or fields[name] != form}
        changed = {name: form for name, form in given.items() if form != self._given_forms.get(name)}
        more = {"_arguments": first, "_changed": changed}  # no field begins with an underscore
        space = {
            "class": known_as(type(self), self._known_code),
            **fields,
            **{name: forms for name, forms in more.items() if forms},
        }
        if is_opaque(space):  # shared with copies of this model only
            space["_identity"] = self._identity
        return space

    def _forms(self, values: Mapping[str, Any]) -> dict[str, Any]:
        clean = scrubbed(values, clean=self._masking_saved(), secret=self._is_secret, digests=True)
        return {name: canonical(value, self._known_code) for name, value in clean.items()}

    def _may_change_unseen(self) -> bool:
        """Tell whether a setting that decides vectors holds an object that can change without a word."""
        fields = {name: value for name, value in self.__dict__.items() if self._decides_vectors(name)}
        given = {
            name: value for name, value in self._given.items() if name not in fields or not same(fields[name], value)
        }
        return any(map(may_change_unseen, (*fields.values(), *given.values())))

    @classmethod
    def _is_operational(cls, name: str) -> bool:
        """Tell whether a field or argument decides no vector: a class on the way marks it, or it is a credential."""
        return name in _operational(cls) or cls._is_credential(name) or is_credential(name, own=True)

    def _is_spare(self, name: str, given: Any) -> bool:
        """Tell whether an argument decides no vector; a number that its field does not hold must be kept elsewhere."""
        field = self.__dict__.get(name)
        elsewhere = isinstance(given, int | float) and isinstance(field, int | float) and given != field
        return self._is_operational(name) and not elsewhere

    # Fields

    def __setattr__(self, name: str, value: Any) -> None:
        cls = type(self)
        is_field = name in cls.model_fields
        former = self.__dict__.get(name, OPAQUE)
        if (
            self._is_fixed()
            and self._decides_vectors(name)
            and not self._are_equal(untracked(former), untracked(value))
        ):
            used = f"`{name}` of `{cls.__name__}` decides vectors, and this model has been used"
            arguments = self._arguments or {}
            argument = name if name in arguments else argument_of(former, arguments) or name
            raise ConfigurationError(f"{used}; make another one: `model.with_({argument}=…)`")
        if not is_field and name.startswith("_") and name not in cls.__private_attributes__ and not hasattr(cls, name):
            # pydantic would keep it among the fields, and refuse it with the next assignment to one
            cls.__private_attributes__[name] = PrivateAttr()
        try:
            super().__setattr__(name, value)
        except ValidationError:
            if self._complete or not is_field or not constructors(cls):
                raise
            self.__dict__[name] = value  # by the constructor, for which LlamaIndex checks nothing
        if is_field:
            self._track()
            self._changed(name)

    def _decides_vectors(self, name: str) -> bool:
        if name in type(self).model_fields:
            return not self._is_operational(name)
        return not name.startswith("_") and name in (self._arguments or ())  # a property over an argument

    def _made_from(self, arguments: dict[str, Any] | None) -> None:
        """Begin to be used: the constructor is through."""
        self._arguments = arguments and {name: untracked(value) for name, value in arguments.items()}
        self._given = {name: one for name, one in (arguments or {}).items() if not self._is_spare(name, one)}
        self._given_forms = self._forms(self._given)
        self._complete = True
        self._track()

    def _track(self) -> None:
        """Let the collections in fields count their changes."""
        for name in (name for name, field in type(self).model_fields.items() if not field.exclude):
            self.__dict__[name] = tracked(self.__dict__[name], self._changes)

    def _is_fixed(self) -> bool:
        """Tell whether the fields that decide vectors can no longer be assigned."""
        return False

    def _changed(self, name: str) -> None:
        """Forget values derived from a field; no name means that a collection in some field was changed in place."""

    def _values(self) -> dict[str, Any]:
        return {name: untracked(self.__dict__[name]) for name in type(self).model_fields}

    @classmethod
    def _by_field(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        names = names_of_fields(cls)
        return {names.get(name, name): value for name, value in values.items()}

    @staticmethod
    def _are_equal(former: Any, value: Any) -> bool:
        """Tell whether two values of a field are the same, or are for the space."""
        form = canonical(value)
        return same(former, value) or (form == canonical(former) and not is_opaque(form))


@lru_cache(maxsize=1024)
def _operational(cls: type[Config]) -> frozenset[str]:
    """Return the fields and arguments that are marked `OPERATIONAL` by a class or one that it comes from."""
    bases = [base for base in cls.__mro__ if issubclass(base, Config)]
    marked = {name for base in bases for name, one in base.model_fields.items() if OPERATIONAL in one.metadata}
    return frozenset((*marked, *operational(cls)))
