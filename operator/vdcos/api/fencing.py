"""How a host is fenced: its power switches, and which ways to be sure that it is down are tried in which order."""

from typing import Annotated

from pydantic import Field

from vdcos.api.meta import DnsLabel, ObjectName, Parameters
from vdcos.api.schema import ListMap, Model, Must, Rule

_HOST = r"[A-Za-z0-9]([-A-Za-z0-9.]{0,251}[A-Za-z0-9])?"
_IPV6 = "[0-9a-fA-F]{0,4}(:[0-9a-fA-F.]{0,15}){2,8}"
_ADDRESS = rf"(\[[0-9a-fA-F:.]{{2,45}}\]|{_HOST})"

Address = Annotated[
    str,
    Field(max_length=253, pattern=f"^({_HOST}|{_IPV6})$"),
    Must("must be a host name or an IP address, without a port", "!self.contains(':') || isIP(self)"),
]

HttpsAddress = Annotated[
    str,
    Field(max_length=512, pattern=rf"^https://{_ADDRESS}(:[0-9]{{1,5}})?$"),
    Must("must be https://, a host name or address, and a port if it is not 443, such as https://bmc-7.example.com"),
]

RedfishPath = Annotated[
    str,
    Field(max_length=512, pattern=r"^/redfish/v1/Systems/[A-Za-z0-9][-A-Za-z0-9._~]*$"),
    Must("must be the path of one system, such as /redfish/v1/Systems/1"),
]

AgentName = Annotated[
    str,
    Field(max_length=63, pattern=r"^fence_[a-z0-9_]+$"),
    Must("must be the name of a fence agent, such as fence_ipmilan"),
]

# What tells a fence agent to run another program, to read or write a file, or what vdcos says itself.
_RESERVED = (
    r"^(action|method|login|username|passwd|password|debug|verbose|help|version|kubeconfig"
    r"|.*(path|script|options|file|cmd))$"
)

AgentParameters = Annotated[
    dict[str, Annotated[str, Field(max_length=1024)]],
    Field(max_length=32),
    Rule(
        r"self.all(k, k.matches(r'^[a-z][a-z0-9_]{0,62}$') && self[k].matches(r'^[^\r\n]*$'))",
        "parameters are named as in the agent's manual (systems_uri), and their values are single lines",
    ),
    Rule(
        f"self.all(k, !k.matches(r'{_RESERVED}'))",
        "the action and the credentials are given by vdcos, and what names programs, files or their options is refused",
    ),
]

ProviderName = DnsLabel
"""redfish, ipmi, fence-agent, medik8s, cloud, watchdog, or what a third party calls its own."""


class Redfish(Model):
    """A BMC that speaks Redfish."""

    address: HttpsAddress
    """Where it listens, such as https://bmc-7.example.com."""
    system: RedfishPath | None = None
    """The system that is this host; may be left out where the BMC has one only."""
    credentials: ObjectName
    """Secret in the namespace of vdcos, with username, password and, for a private authority, ca.crt."""
    insecure_skip_verify: bool = False
    """Take whoever answers for the BMC, whatever certificate it shows."""


class Ipmi(Model):
    """A BMC that speaks IPMI 2.0 over LAN."""

    address: Address
    """Where it listens."""
    port: Annotated[int, Field(ge=1, le=65535)] = 623
    """Its UDP port."""
    credentials: ObjectName
    """Secret in the namespace of vdcos, with username and password."""


class FenceAgent(Model):
    """A program of the fence-agents project, installed beside the operator."""

    agent: AgentName
    """The program, such as fence_apc."""
    parameters: AgentParameters = Field(default_factory=dict)
    """What the agent takes, by the names of its manual; neither action nor credentials."""
    credentials: ObjectName | None = None
    """Secret in the namespace of vdcos, with username and password."""


class FencingPlugin(Model):
    """A third party's power switch."""

    provider: ProviderName
    """The name under which it is installed in the operator."""
    parameters: Parameters = Field(default_factory=dict)
    """What it wants to know; it says what it takes. No secrets."""
    credentials: ObjectName | None = None
    """Secret in the namespace of vdcos, handed to it as it is."""


class Bmc(Model):
    """The power switches of one host."""

    redfish: Redfish | None = None
    """By Redfish."""
    ipmi: Ipmi | None = None
    """By IPMI."""
    fence_agent: FenceAgent | None = None
    """By a fence agent."""
    plugin: FencingPlugin | None = None
    """By a third party's provider."""

    rules = (
        Rule(
            "has(self.redfish) || has(self.ipmi) || has(self.fenceAgent) || has(self.plugin)",
            "set at least one of redfish, ipmi, fenceAgent, plugin",
        ),
    )


class RemediationTemplate(Model):
    """A FenceAgentsRemediationTemplate of medik8s."""

    namespace: DnsLabel
    """Where it is; remediations are made there, too."""
    name: ObjectName
    """Its name."""


class FencingProvider(Model):
    """One way to be sure that a host is down."""

    provider: ProviderName
    """redfish, ipmi, fence-agent, medik8s, cloud, watchdog, or a third party's."""
    timeout_seconds: Annotated[int, Field(ge=3, le=600)] = 30
    """How long one attempt may take until the host is seen to be off."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 2
    """Attempts in a row before the next provider is tried."""
    after_seconds: Annotated[int, Field(ge=10, le=86400)] | None = None
    """With watchdog: after so much silence hosts have stopped themselves. It is your promise that they do."""
    template: RemediationTemplate | None = None
    """With medik8s: what remediations are made from."""

    rules = (
        Rule(
            "has(self.afterSeconds) == (self.provider == 'watchdog')",
            "provider: watchdog, and only that, takes afterSeconds",
            ".afterSeconds",
        ),
        Rule(
            "has(self.template) == (self.provider == 'medik8s')",
            "provider: medik8s, and only that, takes a template",
            ".template",
        ),
        Rule("self.provider != 'manual'", "confirming by hand is always possible: leave it out", ".provider"),
    )


class Fencing(Model):
    """How failed hosts are fenced. Nothing of one is restarted elsewhere before it is proved to be down."""

    providers: Annotated[tuple[FencingProvider, ...], Field(max_length=8), ListMap("provider")] = ()
    """Tried in this order. Left out: the power switches that the Host declares."""
    quiet_seconds: Annotated[int, Field(ge=1, le=600)] = 12
    """A proof counts only after the host was silent this long. More than the pause between two renewals of a kubelet's
    Lease (10 s unless configured otherwise), or a BMC that lies is believed."""
    retry_seconds: Annotated[int, Field(ge=5, le=3600)] = 30
    """After the last provider has failed: how long until the first is tried again."""
