"""Where a command looks: the cluster and the namespace that were named, else those of the kubeconfig's context."""

import argparse
import asyncio

from vdcos.runtime.credentials import NoCluster, Origin


def origin_of(chosen: argparse.Namespace) -> Origin:
    """Raises NoCluster."""
    return Origin.find(chosen.kubeconfig, chosen.context)


def namespace_of(chosen: argparse.Namespace) -> str:
    """The one that was named, else that of the context; "" for all. Raises NoCluster."""
    if getattr(chosen, "all_namespaces", False):
        return ""
    if chosen.namespace:
        return str(chosen.namespace)
    return asyncio.run(_of_context(origin_of(chosen)))


async def _of_context(origin: Origin) -> str:
    from kubernetes.aio import config

    if not origin.kubeconfig:
        return "default"
    try:
        contexts, current = config.list_kube_config_contexts(origin.kubeconfig)  # type: ignore[no-untyped-call]
    except Exception as error:  # the loader stumbles over a malformed file in any way it likes
        raise NoCluster(f"{origin.kubeconfig} cannot be used: {error}") from error
    named = [each for each in contexts if each["name"] == origin.context] if origin.context else [current]
    if not named:
        raise NoCluster(f"there is no context {origin.context} in {origin.kubeconfig}")
    return str(named[0]["context"].get("namespace") or "default")
