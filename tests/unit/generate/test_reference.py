"""The reference pages say of each field what its model says."""

import pytest

from vdcos import api
from vdcos.api import overrides
from vdcos.generate import reference

EXAMPLE = "kind: Any\nmetadata:\n  name: shop\n"


def lines(model: type[api.Resource]) -> list[str]:
    return reference.page(model, EXAMPLE).splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "| `powerState` | `PoweredOn` \\| `PoweredOff` | `PoweredOn` |  | Whether the VM shall run. |",
        "| `cpu.sockets` | integer | `1` | 1 to 512 | Sockets; these can grow while the VM runs. |",
        "| `disks[]` | list |  | at most 32, unique by name<br>no two disks may have the same bootOrder<br>no two"
        " disks may be the same claim | Disks. |",
        "| `disks[].source.blank` | object |  |  | Nothing: an empty disk. |",
        "| `placement.affinity[].matchLabels` | map of strings |  | at most 16<br>keys must be label names such as"
        " topology.kubernetes.io/zone, values label values: letters, digits and, between them, '-', '_', '.' |"
        " The other VMs by labels of their VirtualMachine objects. |",
        "| `overrides[].value` | any JSON |  |  | What, for add and replace: any JSON. |",
        "| `disks[].source` | object | `{blank: {}}` |  | What is on it when it is new; ignored when a retained disk is"
        " found. |",
        '| `placement.tolerations[].value` | string | `""` | must be a label value: letters, digits and, between them,'
        " '-', '_', '.'<br>at most 63 characters | The taint's value. |",
        "| `guest.sshKeySecretNames[]` | list of strings |  | at most 8<br>must be the name of a Kubernetes object:"
        " lower-case letters, digits, '-' and '.' | Secrets of the VM's namespace whose values are public keys of the"
        " default user. |",
        "- Secure boot needs bootloader: UEFI. (`firmware.secureBoot`)",
        "- Give cpu and memory, or an instancetype.",
        "| `conditions[].reason` | string | Why, in one CamelCase word for programs. |",
        "$ kubectl wait --for=condition=Ready vdcvm/shop",
        "The object's name has at most 63 characters and no dots.",
    ],
)
def test_lines_of_a_page(line: str) -> None:
    assert line in lines(api.VirtualMachine)


def test_required_fields() -> None:
    assert any(line.startswith("| `storageClassName` | string | **required** |") for line in lines(api.Datastore))


def test_all_override_paths_are_listed() -> None:
    page = reference.page(api.VirtualMachine, EXAMPLE)
    for allowed in overrides.ALLOWED:
        assert allowed.why in page
    assert "Paths that `overrides` may touch" not in reference.page(api.Network, EXAMPLE)


def test_the_index_links_all_pages() -> None:
    for kind in api.KINDS:
        assert f"[{kind}]({kind.lower()}.md)" in reference.index()


def test_defaults_are_said_once() -> None:
    """The default of an object whose fields have the same defaults is theirs."""
    policy = lines(api.HAPolicy)
    assert any(line.startswith("| `detection.probe` | object | as below |") for line in policy)
    assert any(line.startswith("| `detection.probe.port` | integer | `10250` |") for line in policy)


@pytest.mark.parametrize(
    ("model", "limit"),
    [(api.Datastore, "63 characters and no dots."), (api.Host, "63 characters."), (api.HostFailure, "72 characters.")],
)
def test_names(model: type[api.Resource], limit: str) -> None:
    assert f"The object's name has at most {limit}" in lines(model)


def test_an_unknown_type_is_a_bug() -> None:
    with pytest.raises(TypeError, match="unknown type"):
        reference._type({"type": ["string", "null"]})
