"""The few words with which a model says what JSON types cannot: rules, list keys, unions, columns.

A constraint is written once, beside its field. The API server enforces it (`vdcos.generate` turns it into the CRD's
structural schema and CEL rules) and `parse` enforces what it can of it again, for objects stored under an older CRD.
"""

import collections.abc
import dataclasses
import operator
import typing

import pydantic
import pydantic.alias_generators
from pydantic_core import CoreSchema, core_schema

GROUP = "vdcos.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

Schema = dict[str, typing.Any]
RuleReason = typing.Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """A CEL rule of a schema node (`x-kubernetes-validations`), as an annotation of a field or in `Model.rules`.

    `message` completes the sentence "<path>: ..." for a person; `path` points at a field below the node (".name").
    """

    cel: str
    message: str
    path: str | None = None
    reason: RuleReason = "FieldValueInvalid"

    def as_schema(self) -> Schema:
        node = {"rule": self.cel, "message": self.message, "reason": self.reason}
        return node | ({"fieldPath": self.path} if self.path else {})

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: pydantic.GetJsonSchemaHandler) -> Schema:
        schema = handler.resolve_ref_schema(handler(core))
        schema.setdefault("x-kubernetes-validations", []).append(self.as_schema())
        return schema


@dataclasses.dataclass(frozen=True, slots=True)
class Must:
    """Says in plain words what a string must look like, in place of "should match '^[a-z...'".

    The `pattern` of the annotated type, and `cel` as a further condition, become a CEL rule with this message, which is
    the message of the parser's error as well.
    """

    message: str
    cel: str | None = None

    def __get_pydantic_core_schema__(self, source: typing.Any, handler: pydantic.GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source), custom_error_type="invalid", custom_error_message=self.message
        )

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: pydantic.GetJsonSchemaHandler) -> Schema:
        schema = handler.resolve_ref_schema(handler(core))
        pattern = schema.pop("pattern", None)
        conditions = [f"self.matches(r'{pattern}')"] if pattern else []
        rule = Rule(" && ".join(conditions + ([self.cel] if self.cel else [])), self.message)
        schema.setdefault("x-kubernetes-validations", []).append(rule.as_schema())
        return schema


class ListMap:
    """A list whose items are identified by `keys` (aliases): applies merge by them, duplicates are refused."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self._key = operator.attrgetter(*(pydantic.alias_generators.to_snake(key) for key in keys))

    def _check(self, items: tuple[typing.Any, ...]) -> tuple[typing.Any, ...]:
        if len(items) > 1 and len(set(map(self._key, items))) != len(items):
            raise ValueError(f"two items have the same {' and '.join(self.keys)}")
        return items

    def __get_pydantic_core_schema__(self, source: typing.Any, handler: pydantic.GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: pydantic.GetJsonSchemaHandler) -> Schema:
        schema = handler.resolve_ref_schema(handler(core))
        schema |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(self.keys)}
        return schema


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Extra:
    """Schema keywords that follow from no Python type, such as `x-kubernetes-list-type`."""

    schema: collections.abc.Mapping[str, typing.Any]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: pydantic.GetJsonSchemaHandler) -> Schema:
        schema = handler.resolve_ref_schema(handler(core))
        schema.update(self.schema)
        return schema


SET = Extra({"x-kubernetes-list-type": "set"})
"""A list of scalars without duplicates."""

ATOMIC = Extra({"x-kubernetes-list-type": "atomic"})
"""A list that is replaced as a whole: its order or its repetitions mean something."""


class Model(pydantic.BaseModel):
    """Base of all models: camelCase in JSON, immutable, strict types; unknown fields of newer versions are ignored."""

    model_config = pydantic.ConfigDict(
        alias_generator=pydantic.alias_generators.to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="ignore",
        frozen=True,
        strict=True,
    )

    rules: typing.ClassVar[tuple[Rule, ...]] = ()
    """CEL rules over more than one field of this object."""

    def manifest(self) -> dict[str, typing.Any]:
        """This object as JSON-ready data: aliases, no absent values."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OneOf(Model):
    """An object in which exactly one of the fields `choices` is set."""

    choices: typing.ClassVar[tuple[str, ...]]

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> typing.Self:
        if len(self._set()) != 1:
            raise ValueError(self.one_of().message)
        return self

    def _set(self) -> list[str]:
        return [choice for choice in self.choices if getattr(self, choice) is not None]

    @property
    def choice(self) -> str:
        """The name of the field that is set."""
        return self._set()[0]

    @classmethod
    def one_of(cls) -> Rule:
        """The CEL rule that says the same."""
        aliases = [pydantic.alias_generators.to_camel(choice) for choice in cls.choices]
        present = ", ".join(f"has(self.{alias})" for alias in aliases)
        return Rule(f"[{present}].filter(x, x).size() == 1", f"set exactly one of {', '.join(aliases)}")


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A printer column; `wide` ones appear with `kubectl get -o wide` only."""

    name: str
    json_path: str
    type: typing.Literal["string", "integer", "boolean", "date"] = "string"
    wide: bool = False


def condition_column(name: str, condition: str, field: str = "status", wide: bool = False) -> Column:
    return Column(name, f'.status.conditions[?(@.type=="{condition}")].{field}', wide=wide)


AGE = Column("Age", ".metadata.creationTimestamp", "date")


@dataclasses.dataclass(frozen=True, slots=True)
class Definition:
    """What a CustomResourceDefinition says beside the schema."""

    kind: str
    plural: str
    scope: typing.Literal["Namespaced", "Cluster"]
    short_names: tuple[str, ...]
    columns: tuple[Column, ...]
    categories: tuple[str, ...] = ("vdc",)
    longest_name: int = 63
    """Characters that an object's name may have."""
    dotted_name: bool = False
    """Whether an object's name may have dots; where it may not, the model has a rule that says why."""

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def name(self) -> str:
        return f"{self.plural}.{GROUP}"
