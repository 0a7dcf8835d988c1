"""What runs inside pods that are not VMs: CDI's worker pods, and everything else, which runs until it is deleted."""

from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from vdcos.testing.hypervisor.quantity import to_bytes
from vdcos.testing.hypervisor.values import PodSeen, Timings

FAILING = "fail"
"""An http(s) or registry source with this path segment or host label cannot be fetched."""

CDI_ROLE = "cdi.kubevirt.io"
FILESYSTEM_OVERHEAD = 0.06  # CDI's default for filesystem volumes
MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Script:
    """What the first container does after its start: it ends after `seconds` with `code`, or runs on if `forever`."""

    seconds: float = 0.0
    code: int = 0
    message: str = ""
    forever: bool = False
    sends_to: tuple[str, str] | None = None
    """Namespace and name of the upload server's pod that has everything when this one ends."""
    receives: bool = False
    """An upload server for a clone: it ends when its source has sent everything."""


FOREVER = Script(forever=True)


def script(seen: PodSeen, timings: Timings) -> Script:
    """Read off a pod what it does. Roles are CDI's labels; see control-plane.md §5 for what CDI expects of each."""
    pod = seen.pod
    if pod.metadata.labels.get("app") != "containerized-data-importer":
        return FOREVER
    env = {e.name: e.value for c in pod.spec.containers for e in c.env}
    match pod.metadata.labels.get(CDI_ROLE, ""):
        case "importer":
            return _importer(env, timings)
        case "cdi-clone-source":
            service, namespace, *_ = [*(urlsplit(env.get("UPLOAD_URL", "")).hostname or "").split("."), ""]
            return Script(timings.import_, sends_to=(namespace, service))
        case "cdi-upload-server":
            return Script(receives=True, forever=True)
        case _ if pod.metadata.name.startswith("size-detection-"):
            return Script(timings.import_ / 4, message=str(_virtual_size(seen)))
        case _:
            return Script(timings.import_ / 4)


def _importer(env: dict[str, str], timings: Timings) -> Script:
    endpoint, checksum = env.get("IMPORTER_ENDPOINT", ""), env.get("IMPORTER_CHECKSUM", "")
    if refused(endpoint):
        said = "Unable to connect to http data source: expected status code 200, got 404. Status: 404 Not Found"
        if endpoint.startswith("docker://"):
            said = f'Unable to connect to registry data source: Failed to find VM disk image file in "{endpoint}"'
        return Script(timings.import_error, 1, f"Unable to process data: {said}")
    if checksum and set(checksum.partition(":")[2]) <= {"0"}:
        said = f"checksum mismatch: expected {checksum}, got {checksum.partition(':')[0]}:{'1' * 64}"
        return Script(timings.import_, message=_termination(said))
    return Script(timings.import_, message=_termination("Import Complete"))


def refused(endpoint: str) -> bool:
    """Whether a URL says of itself that it cannot be fetched."""
    url = urlsplit(endpoint)
    return FAILING in [*(url.hostname or "").split("."), *url.path.split("/")]


def _termination(message: str) -> str:
    return msgspec.json.encode({"message": message}).decode()


def _virtual_size(seen: PodSeen) -> int:
    """The size of the image in the claim that a size-detection pod looks at: as much as fits beside CDI's overhead."""
    capacity = next((c.status.capacity.get("storage", 0) for c in seen.claims.values()), 0)
    return int(to_bytes(capacity) * (1 - FILESYSTEM_OVERHEAD)) // MEBIBYTE * MEBIBYTE
