"""Kubernetes operators as the API keeps them: what a request makes of them, how they are shown."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ngrokd.sandbox import rules
from ngrokd.sandbox.ca import Issued
from ngrokd.sandbox.rules import Refusal, Schema, at_most, text, texts
from ngrokd.sandbox.selectors import SelectorError, compile_selector

ZERO_DATE = "0001-01-01T00:00:00Z"  # what the API gives for a certificate that does not exist

_BINDING: Schema = {"endpoint_selectors": texts, "csr": text, "ingress_endpoint": text}
UPDATE_FIELDS: Schema = {
    "description": at_most(rules.MAX_DESCRIPTION_BYTES),
    "metadata": at_most(rules.MAX_METADATA_BYTES),
    "enabled_features": texts,
    "region": text,
    "deployment": {"name": text, "version": text},
    "binding": _BINDING,
}
CREATE_FIELDS: Schema = {
    **UPDATE_FIELDS,
    "deployment": {"name": text, "namespace": text, "version": text, "cluster_name": text},
}

Sign = Callable[[str, str], Issued]  # (CSR, operator id) -> certificate; raises Refusal


@dataclass(frozen=True)
class Deployment:
    """Where the operator says it runs."""

    name: str = ""
    namespace: str = ""
    version: str = ""
    cluster_name: str = ""


@dataclass(frozen=True)
class Binding:
    """The operator's share in the bindings feature. `cert` "": no CSR was sent yet."""

    endpoint_selectors: Optional[tuple[str, ...]] = None
    ingress_endpoint: str = ""  # "": the sandbox's own
    cert: str = ""
    not_before: float = 0  # Unix seconds
    not_after: float = 0


@dataclass(frozen=True)
class Operator:
    """One registered operator. The dates are RFC 3339."""

    id: str
    created_at: str
    updated_at: str
    description: str = ""
    metadata: str = ""
    enabled_features: tuple[str, ...] = ()
    region: str = "global"
    deployment: Deployment = Deployment()
    binding: Optional[Binding] = None


def changed(operator: Operator, body: Mapping[str, Any], now: str, sign: Sign) -> Operator:
    """The operator after a request whose fields have been checked: what it leaves out stays."""
    given = {name: value for name, value in body.items() if value is not None}
    changes: dict[str, Any] = {name: given[name] for name in _PLAIN if name in given}
    if "enabled_features" in given:
        changes["enabled_features"] = _features(given["enabled_features"])
    if given.get("region", "global") not in rules.REGIONS:
        raise Refusal(400, "ERR_NGROK_19002", _invalid(f"unknown region {given['region']!r}"))
    if "deployment" in given:
        fields = {name: value for name, value in given["deployment"].items() if value is not None}
        changes["deployment"] = dataclasses.replace(operator.deployment, **fields)
    if "binding" in given:
        before = operator.binding or Binding()
        changes["binding"] = _binding(before, given["binding"], operator.id, sign)
    return dataclasses.replace(operator, updated_at=now, **changes)


_PLAIN = ("description", "metadata", "region")


def _features(given: list[str]) -> tuple[str, ...]:
    features = tuple(feature.lower() for feature in given)
    unknown = sorted(set(features) - set(rules.FEATURES))
    if unknown:
        raise Refusal(400, "ERR_NGROK_19002", _invalid(f"unknown features {', '.join(unknown)}"))
    return features


def _binding(before: Binding, given: Mapping[str, Any], operator_id: str, sign: Sign) -> Binding:
    changes: dict[str, Any] = {}
    if given.get("endpoint_selectors") is not None:
        changes["endpoint_selectors"] = _selectors(given["endpoint_selectors"])
    if given.get("ingress_endpoint") is not None:
        changes["ingress_endpoint"] = given["ingress_endpoint"]
    if given.get("csr"):
        issued = sign(given["csr"], operator_id)
        changes.update(
            cert=issued.pem, not_before=issued.not_before, not_after=issued.not_after
        )
    return dataclasses.replace(before, **changes)


def _selectors(given: list[str]) -> tuple[str, ...]:
    for selector in given:
        try:
            compile_selector(selector)
        except SelectorError as exc:
            text = f"Failed to validate endpoint selectors! Reason: {exc}"
            raise Refusal(400, "ERR_NGROK_19003", text) from exc
    return tuple(given)


def _invalid(reason: str) -> str:
    return f"Failed to validate Kubernetes Operator! Reason: {reason}"


def to_json(operator: Operator, api_url: str, ingress: str) -> dict[str, object]:
    """The API's object."""
    return {
        "id": operator.id,
        "uri": f"{api_url}/kubernetes_operators/{operator.id}",
        "created_at": operator.created_at,
        "updated_at": operator.updated_at,
        "description": operator.description,
        "metadata": operator.metadata,
        "principal": {"id": "usr_sandbox", "uri": f"{api_url}/users/usr_sandbox"},
        "enabled_features": list(operator.enabled_features),
        "region": operator.region,
        "deployment": dataclasses.asdict(operator.deployment),
        "binding": _binding_json(operator.binding, ingress) if operator.binding else None,
    }


def _binding_json(binding: Binding, ingress: str) -> dict[str, object]:
    selectors = binding.endpoint_selectors
    shown: dict[str, object] = {
        "endpoint_selectors": None if selectors is None else list(selectors),
        "cert": certificate_json(Issued(binding.cert, binding.not_before, binding.not_after)),
    }
    if binding.cert or binding.ingress_endpoint:  # left out before there is a certificate
        shown["ingress_endpoint"] = binding.ingress_endpoint or ingress
    return shown


def certificate_json(issued: Issued) -> dict[str, object]:
    """`pem` "": there is none yet."""
    return {
        "cert": issued.pem,
        "not_before": rfc3339(issued.not_before) if issued.pem else ZERO_DATE,
        "not_after": rfc3339(issued.not_after) if issued.pem else ZERO_DATE,
    }


def rfc3339(seconds: float) -> str:
    """As ngrok writes times: UTC, whole seconds."""
    return dt.datetime.fromtimestamp(int(seconds), dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def dump(operator: Operator) -> dict[str, object]:
    """For the sandbox's own file."""
    return dataclasses.asdict(operator)


def load(saved: Mapping[str, Any]) -> Operator:
    """What `dump` gave. `TypeError` or `KeyError` for anything else."""
    fields = dict(saved)
    fields["enabled_features"] = tuple(fields["enabled_features"])
    fields["deployment"] = Deployment(**fields["deployment"])
    if fields["binding"] is not None:
        binding = dict(fields["binding"])
        if binding["endpoint_selectors"] is not None:
            binding["endpoint_selectors"] = tuple(binding["endpoint_selectors"])
        fields["binding"] = Binding(**binding)
    return Operator(**fields)
