"""What of ``kubectl get`` is answered without kubectl."""

import pytest

from devcluster.reader import Asked, Unsaid, asked


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        (("nodes",), Asked(["nodes"], "", "default", "")),
        (("pod", "web", "-n", "shop"), Asked(["pod"], "web", "shop", "")),
        (("vmi,pods", "--namespace", "shop"), Asked(["vmi", "pods"], "", "shop", "")),
        (("dv", "-A", "-l", "app=web"), Asked(["dv"], "", "", "app=web")),
        (("-n", "shop", "pvc"), Asked(["pvc"], "", "shop", "")),
    ],
)
def test_what_is_asked(arguments: tuple[str, ...], want: Asked) -> None:
    assert asked(arguments) == want


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("pods", "--show-managed-fields"),
        ("pods", "-o", "yaml"),
        ("pod/web",),
        ("pods", "a", "b"),
        ("pods,nodes", "a"),
        ("--raw", "/apis"),
    ],
)
def test_what_is_left_to_kubectl(arguments: tuple[str, ...]) -> None:
    with pytest.raises(Unsaid):
        asked(arguments)
