"""A kopf operator as its documentation teaches, with default settings, doing the same job as vdcos.

Per VirtualMachine: server-side apply of a KubeVirt VM, create of a DataVolume per disk, and the status through kopf's
patch. The bodies are templates from what vdcos wrote (the file in BENCH_TEMPLATE). ``kopf run`` runs it.
"""

import hashlib
import json
import os
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import yaml

TEMPLATE = json.loads(Path(os.environ["BENCH_TEMPLATE"]).read_text())
TEXTS = {name: json.dumps(content) for name, content in TEMPLATE.items()}
_CONFIG = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
SERVER = _CONFIG["clusters"][0]["cluster"]["server"]
TOKEN = _CONFIG["users"][0]["user"]["token"]
AUTHORITY = _CONFIG["clusters"][0]["cluster"]["certificate-authority"]


@kopf.on.startup()  # type: ignore[untyped-decorator]
async def connect(memo: Any, **_: Any) -> None:
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=AUTHORITY))
    memo.session = aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {TOKEN}"})


@kopf.on.cleanup()  # type: ignore[untyped-decorator]
async def disconnect(memo: Any, **_: Any) -> None:
    await memo.session.close()


@kopf.on.create("vdcos.dev", "v1alpha1", "virtualmachines")  # type: ignore[untyped-decorator]
@kopf.on.update("vdcos.dev", "v1alpha1", "virtualmachines", field="spec")  # type: ignore[untyped-decorator]
async def converge(name: str, namespace: str, uid: str, spec: Any, meta: Any, patch: Any, memo: Any, **_: Any) -> None:
    disk = ""
    for each in spec.get("disks", []):
        digest = hashlib.sha256(f"{name}/{each['name']}".encode()).hexdigest()[:8]
        disk = f"{name}-{each['name']}-{digest}"
        path = f"/apis/cdi.kubevirt.io/v1beta1/namespaces/{namespace}/datavolumes?fieldManager=peer"
        await _send(memo.session, "POST", path, _fill("volume", name, namespace, uid, disk), "application/json")
    path = f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachines/{name}?fieldManager=peer"
    body = _fill("child", name, namespace, uid, disk)
    await _send(memo.session, "PATCH", path, body, "application/apply-patch+yaml")
    patch.status.update(json.loads(_fill("status", name, namespace, uid, disk)))
    patch.status["observedGeneration"] = meta["generation"]


def _fill(what: str, name: str, namespace: str, uid: str, disk: str) -> str:
    text = TEXTS[what]
    for mark, value in (("@DISK@", disk), ("@NAMESPACE@", namespace), ("@NAME@", name), ("@UID@", uid)):
        text = text.replace(mark, value)
    return text


async def _send(session: aiohttp.ClientSession, method: str, path: str, body: str, content_type: str) -> None:
    async with session.request(
        method, SERVER + path, data=body.encode(), headers={"Content-Type": content_type}
    ) as response:
        answer = await response.text()
        if response.status >= 300 and response.status != 409:
            raise kopf.TemporaryError(f"{response.status}: {answer[:200]}", delay=1)
