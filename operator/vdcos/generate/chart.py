"""CRDs and rights as templates of the Helm chart: the namespace is the release's, and some are optional."""

import collections.abc
import textwrap
import typing

from vdcos.generate import rbac

Manifest = dict[str, typing.Any]

NAMESPACE: typing.Final = "{{.Release.Namespace}}"
"""Without blanks, at which a long text might be folded."""

_LITERAL_BRACES = "{{`{{`}}"
_OPTIONAL = {"crds/": ".Values.crds.enabled", "rbac/users.yaml": ".Values.rbac.userRoles"}


def templates(documents: collections.abc.Iterable[Manifest]) -> collections.abc.Iterator[Manifest]:
    """Manifests for the operator's usual namespace, as templates for any. The Namespace itself is the user's."""
    for document in documents:
        if document["kind"] != "Namespace":
            yield _template(document)


def conditional(path: str, text: str) -> str:
    """A whole file of templates, within the condition on values that belongs to its path."""
    value = next((value for prefix, value in _OPTIONAL.items() if path.startswith(prefix)), "")
    return f"{{{{- if {value} }}}}\n{text}{{{{- end }}}}\n" if value else text


def spec(manifest: str) -> str:
    """What is below ``spec`` of a manifest, as it is written there: a file that a template includes."""
    return textwrap.dedent(manifest.split("\nspec:\n", 1)[1])


def _template(value: typing.Any) -> typing.Any:
    match value:
        case str():
            return value.replace("{{", _LITERAL_BRACES).replace(rbac.NAMESPACE, NAMESPACE)
        case dict():
            return {key: _template(each) for key, each in value.items()}
        case list():
            return [_template(each) for each in value]
        case _:
            return value
