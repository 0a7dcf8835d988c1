"""Words of high availability that several kinds share: restart order, readiness, guest monitoring, what stays down."""

from typing import Annotated, Literal, TypeVar

from pydantic import Field

from vdcos.api.meta import DnsLabel, LabelSelector, Timestamp
from vdcos.api.schema import ATOMIC, Model, OneOf, Rule

RestartPriority = Literal["Highest", "High", "Medium", "Low", "Lowest", "Disabled"]
ReadyCondition = Literal["PoweredOn", "GuestAgent", "Ready"]

_Timeout = Annotated[int, Field(ge=10, le=7200)]
_Delay = Annotated[int, Field(ge=0, le=3600)]
_Interval = Annotated[int, Field(ge=10, le=3600)]
_Uptime = Annotated[int, Field(ge=0, le=86400)]
_Resets = Annotated[int, Field(ge=1, le=20)]
_Window = Annotated[int, Field(ge=60, le=604800)]


class ReadyWhen(Model):
    """When a restarted VM counts as up, so that those that wait for it may start."""

    condition: ReadyCondition = "PoweredOn"
    """PoweredOn (its instance runs), GuestAgent (its guest's agent has answered) or Ready (as its condition Ready)."""
    timeout_seconds: _Timeout = 600
    """After so long nobody waits for it any more."""
    delay_seconds: _Delay = 0
    """Those that wait for it wait so much longer."""


class ReadyWhenOverride(Model):
    """When this VM counts as up. What is left out is as the policy says."""

    condition: ReadyCondition | None = None
    """PoweredOn (its instance runs), GuestAgent (its guest's agent has answered) or Ready (as its condition Ready)."""
    timeout_seconds: _Timeout | None = None
    """After so long nobody waits for it any more."""
    delay_seconds: _Delay | None = None
    """Those that wait for it wait so much longer."""


class Monitoring(Model):
    """Guest monitoring: VMs whose guest has stopped working are reset."""

    enabled: bool = False
    """Reset VMs whose guest agent has fallen silent: they are shut down, by force when their guest does not, and
    started again. VMs whose agent has not answered since they started are left alone, as are those that migrate or are
    paused."""
    failure_interval_seconds: _Interval = 60
    """The guest has failed when its agent was silent for so long."""
    minimum_uptime_seconds: _Uptime = 240
    """Nothing is reset so soon after it started."""
    max_resets: _Resets = 3
    """Resets of one VM within the window; after that it is left for people to look at."""
    window_seconds: _Window = 86400
    """Length of the window."""
    reset_on_panic: bool = True
    """With `enabled`: a panic that the guest reports through its panic device, upon which KubeVirt restarts the VM at
    once, counts as a reset."""

    rules = (
        Rule(
            "self.windowSeconds > self.maxResets * (self.failureIntervalSeconds + self.minimumUptimeSeconds)",
            "longer than maxResets x (failureIntervalSeconds + minimumUptimeSeconds), or the limit never takes effect",
            ".windowSeconds",
        ),
    )


class MonitoringOverride(Model):
    """Guest monitoring of this VM. What is left out is as the policy says."""

    enabled: bool | None = None
    """Reset the VM when its guest has stopped working."""
    failure_interval_seconds: _Interval | None = None
    """The guest has failed when its agent was silent for so long."""
    minimum_uptime_seconds: _Uptime | None = None
    """No reset so soon after it started."""
    max_resets: _Resets | None = None
    """Resets within the window; after that it is left for people to look at."""
    window_seconds: _Window | None = None
    """Length of the window."""
    reset_on_panic: bool | None = None
    """A panic, upon which KubeVirt restarts it, counts as a reset."""


class Dependency(OneOf):
    """VMs of the same namespace. Exactly one field is set."""

    name: DnsLabel | None = None
    """One VM by name."""
    selector: LabelSelector | None = None
    """All VMs whose VirtualMachine objects have such labels, but for the one that says this."""

    choices = ("name", "selector")


class GuestReset(Model):
    """A reset of the VM because its guest had stopped working."""

    at: Timestamp
    """When."""
    instance: Annotated[str, Field(max_length=36)]
    """The uid of the KubeVirt instance that it ended."""
    why: Literal["Silent", "Panicked"]
    """Silent (its agent did not answer any more) or Panicked (it reported a panic, and KubeVirt restarted it)."""


class GuestWatch(Model):
    """What is known of the guest, for as long as it is monitored."""

    instance: Annotated[str, Field(max_length=36)] = ""
    """The uid of the KubeVirt instance that all of this is about."""
    since: Timestamp | None = None
    """Since when it has been seen to run."""
    seen: bool = False
    """Its agent has answered since it started."""
    restarting: bool = False
    """It was reset, and is to be powered on again: by itself it would stay off (`onGuestShutdown`)."""
    resets: Annotated[tuple[GuestReset, ...], Field(max_length=20), ATOMIC] = ()
    """The last resets. They count for as long as the policy's `windowSeconds` says."""


class NotRestarted(Model):
    """A VM that does not restart, and why."""

    namespace: Annotated[str, Field(max_length=63)]
    """Its namespace."""
    name: Annotated[str, Field(max_length=63)]
    """Its name."""
    reason: Annotated[str, Field(max_length=64)]
    """Why, in one word such as NoCapacity or LocalDisk."""


Said = TypeVar("Said", bound=Model)


def overlaid(policy: Said, *overrides: Model | None) -> Said:
    """What holds when overrides, the weakest first, say some of what the policy says otherwise."""
    said = {
        name: value
        for override in overrides
        if override is not None
        for name in type(override).model_fields
        if (value := getattr(override, name)) is not None
    }
    return policy.model_copy(update=said)
