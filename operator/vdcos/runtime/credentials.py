"""Where the API server is and who we are there: kubeconfig files, exec plug-ins, pods' service accounts."""

import asyncio
import os
import pathlib
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# How often a token may be asked for anew: exec plug-ins start a process, token files are read from disk.
REFRESH_EVERY = 60.0


class NoCluster(Exception):
    """No API server is configured, or its configuration cannot be used. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which configuration to use. An empty ``kubeconfig`` is the service account of the pod that we run in."""

    kubeconfig: str = ""
    context: str = ""

    @classmethod
    def find(cls, kubeconfig: str = "", context: str = "", environ: Mapping[str, str] = os.environ) -> "Origin":
        """What was asked for; else the pod we run in; else KUBECONFIG; else ~/.kube/config. Raises NoCluster."""
        if not kubeconfig and not context and environ.get("KUBERNETES_SERVICE_HOST"):
            return cls()
        found = kubeconfig or environ.get("KUBECONFIG", "") or str(pathlib.Path.home() / ".kube" / "config")
        if not any(pathlib.Path(path).expanduser().is_file() for path in found.split(os.pathsep)):
            raise NoCluster(f"there is no kubeconfig at {found}: give one with --kubeconfig or KUBECONFIG")
        return cls(found, context)


class Credentials:
    """A loaded configuration. Belongs to the event loop that loaded it."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._loaded = -float("inf")
        self._lock = asyncio.Lock()
        self._configuration: Any = None
        self._proxy: str | None = None
        self.tls: ssl.SSLContext | None = None

    @classmethod
    async def load(cls, origin: Origin) -> "Credentials":
        """Raises NoCluster when the configuration cannot be used."""
        credentials = cls(origin)
        await credentials.refresh()
        return credentials

    @property
    def server(self) -> str:
        """The API server's URL, without a slash at the end."""
        return str(self._configuration.host).rstrip("/")

    @property
    def server_name(self) -> str | None:
        """The name in the API server's certificate where it differs from the URL's."""
        return self._configuration.tls_server_name or None

    @property
    def proxy(self) -> str | None:
        """Of the kubeconfig, else of the environment as it was when the configuration was loaded."""
        return self._configuration.proxy or self._proxy

    async def headers(self) -> dict[str, str]:
        """The authorization header, with a service account's token read anew once a minute."""
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        return {"Authorization": token} if token else {}

    async def refresh(self) -> None:
        """Load again what may have changed on disk or expired; at most once a minute. Raises NoCluster."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if now - self._loaded < REFRESH_EVERY:
                return
            self._configuration = await _read(self._origin)
            self.tls = self.tls or _tls(self._configuration)
            self._proxy = _environments_proxy(self.server)
            self._loaded = now


async def _read(origin: Origin) -> Any:
    # Imported here because it costs 17 MiB and half a second, which `vdcos version` should not pay.
    from kubernetes.aio import client, config

    configuration = client.Configuration()
    try:
        if origin.kubeconfig:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=origin.kubeconfig,
                context=origin.context or None,
                client_configuration=configuration,
                persist_config=False,
            )
        else:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except Exception as error:  # the loader stumbles over a malformed file in any way it likes
        raise NoCluster(f"{origin.kubeconfig or 'the service account of this pod'} cannot be used: {error}") from error
    return configuration


def _environments_proxy(server: str) -> str | None:
    """What HTTPS_PROXY and NO_PROXY say about a server."""
    url = urllib.parse.urlsplit(server)
    if url.hostname is None or urllib.request.proxy_bypass(url.hostname):
        return None
    return urllib.request.getproxies().get(url.scheme)


def _tls(configuration: Any) -> ssl.SSLContext | None:
    if not str(configuration.host).startswith("https"):
        return None
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert, cadata=configuration.ca_cert_data)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
