"""Fence Agents Remediation of the medik8s project, as far as plans read it."""

from typing import Any, ClassVar

import msgspec

from vdcos.core.objects import Object, Resource


class RemediationCondition(msgspec.Struct, frozen=True):
    type: str
    status: str
    message: str = ""


class RemediationStatus(msgspec.Struct, frozen=True):
    conditions: tuple[RemediationCondition, ...] = ()


class FenceAgentsRemediation(Object, frozen=True):
    """A node to be fenced; it has the node's name."""

    resource: ClassVar[Resource] = Resource(
        "fence-agents-remediation.medik8s.io", "v1alpha1", "fenceagentsremediations", "FenceAgentsRemediation"
    )
    status: RemediationStatus = RemediationStatus()

    def condition(self, kind: str) -> RemediationCondition | None:
        return next((condition for condition in self.status.conditions if condition.type == kind), None)


class TemplateContent(msgspec.Struct, frozen=True):
    spec: dict[str, Any] = {}


class TemplateSpec(msgspec.Struct, frozen=True):
    template: TemplateContent = TemplateContent()


class FenceAgentsRemediationTemplate(Object, frozen=True):
    """What remediations are made from."""

    resource: ClassVar[Resource] = Resource(
        "fence-agents-remediation.medik8s.io",
        "v1alpha1",
        "fenceagentsremediationtemplates",
        "FenceAgentsRemediationTemplate",
    )
    spec: TemplateSpec = TemplateSpec()
