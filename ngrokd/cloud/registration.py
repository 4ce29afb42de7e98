"""What is said to ngrok about this machine, what its answer means, and what to do next."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ngrokd.cloud.certificate import Validity

DAY_S = 86400.0
RENEW_BEFORE_S = 30 * DAY_S  # as ngrok's own operator does
# Of a life shorter than 90 days, the last third: 30 days before its end would be all of it.
RENEW_LAST_PART = 3

# Limits of the API, in bytes of UTF-8.
MAX_DESCRIPTION_BYTES = 255
MAX_METADATA_BYTES = 4096

# The operator's metadata is a JSON object of its owner; this member marks the operator as ours.
INSTALLATION_MEMBER = "ngrokd.installation_id"
NAMESPACE = "ngrokd"

# Goes into URLs and into a file of one line. ngrok's look like `k8sop_2Nc...`.
_ID = re.compile(r"[A-Za-z0-9._:-]{1,200}")
_INGRESS = re.compile(r"[A-Za-z0-9._-]{1,253}(?::[0-9]{1,5})?")


class Step(enum.Enum):
    """What has to be asked of ngrok next."""

    REGISTER = "register"  # no operator, or no usable key and certificate for it
    RENEW = "renew"  # the certificate ends soon, or a new one is wanted: new key, new certificate
    UPDATE = "update"  # the selectors changed


@dataclass(frozen=True)
class Standing:
    """What is on disk about us."""

    operator_id: str = ""
    validity: Optional[Validity] = None  # of the certificate; None: no usable pair
    selectors: Optional[tuple[str, ...]] = None  # what this operator was last told; None: unknown


@dataclass(frozen=True)
class Wish:
    """What ngrok is to know about this machine."""

    installation_id: str
    host_name: str
    version: str
    selectors: tuple[str, ...]
    csr: str = ""  # PEM; "": the certificate is not asked for


@dataclass(frozen=True)
class Operator:
    """What the API says an operator is."""

    id: str
    certificate: str = ""  # PEM; "": the answer brings none
    ingress_endpoint: str = ""
    metadata: str = ""
    selectors: tuple[str, ...] = ()  # those it was told last


def next_step(standing: Standing, now: float, selectors: tuple[str, ...]) -> Optional[Step]:
    """The most urgent step; None: nothing to do."""
    if not standing.operator_id or standing.validity is None:
        return Step.REGISTER
    if now >= renewal_time(standing.validity):
        return Step.RENEW
    if standing.selectors != selectors:
        return Step.UPDATE
    return None


def renewal_time(validity: Validity) -> float:
    """From when on the certificate is to be renewed; Unix seconds."""
    life = validity.not_after - validity.not_before
    return validity.not_after - min(RENEW_BEFORE_S, max(life, 0) / RENEW_LAST_PART)


def creation(wish: Wish) -> dict[str, object]:
    """Body of `POST /kubernetes_operators`. The API refuses any field it does not know."""
    return {
        "description": _shortened(f"ngrokd on {wish.host_name}", MAX_DESCRIPTION_BYTES),
        "metadata": merged_metadata("", wish.installation_id),
        "enabled_features": ["bindings"],
        "region": "global",
        "deployment": {
            "name": wish.host_name,
            "namespace": NAMESPACE,
            "version": wish.version,
        },
        "binding": _binding(wish),
    }


def change(wish: Wish, known: Operator) -> dict[str, object]:
    """Body of `PATCH /kubernetes_operators/{id}`: what is ours to say, nothing a person wrote."""
    body: dict[str, object] = {
        "enabled_features": ["bindings"],
        "deployment": {"name": wish.host_name, "version": wish.version},
        "binding": _binding(wish),
    }
    metadata = merged_metadata(known.metadata, wish.installation_id)
    if metadata is not None:
        body["metadata"] = metadata
    return body


def merged_metadata(known: str, installation_id: str) -> Optional[str]:
    """The metadata with our mark. None: it stays as it is, marked already or not ours to edit."""
    members = _members(known or "{}")
    if members is None or members.get(INSTALLATION_MEMBER) == installation_id:
        return None
    merged = json.dumps({**members, INSTALLATION_MEMBER: installation_id})
    return merged if len(merged.encode()) <= MAX_METADATA_BYTES else None


def own_operator(items: Sequence[object], installation_id: str) -> str:
    """The id of the operator that carries our mark; "" if there is none.

    A crash after the request and before the answer was saved must not cost a second operator.
    """
    for item in items:
        try:
            operator = parse_operator(item)
        except ValueError:
            continue  # another client's; whatever it is, it is not ours
        members = _members(operator.metadata)
        if members is not None and members.get(INSTALLATION_MEMBER) == installation_id:
            return operator.id
    return ""


def parse_operator(document: object) -> Operator:
    """The operator in an answer. ValueError: it is none.

    The certificate's dates are not read: without a CSR the API answers `cert: ""` and dates of
    the year 1, and with one the certificate itself says them.
    """
    if not isinstance(document, Mapping):
        raise ValueError("it is not an object")
    identity = document.get("id")
    if not isinstance(identity, str) or not is_operator_id(identity):
        raise ValueError("it has no usable id")
    binding = _object(document.get("binding"))
    ingress = _text(binding.get("ingress_endpoint"))
    return Operator(
        id=identity,
        certificate=_text(_object(binding.get("cert")).get("cert")),
        ingress_endpoint=ingress if _INGRESS.fullmatch(ingress) else "",
        metadata=_text(document.get("metadata")),
    )


def is_operator_id(text: str) -> bool:
    """This can be an operator's id."""
    # A lone "." or ".." would change the path of the request.
    return _ID.fullmatch(text) is not None and text.strip(".") != ""


def _binding(wish: Wish) -> dict[str, object]:
    binding: dict[str, object] = {"endpoint_selectors": list(wish.selectors)}
    if wish.csr:
        binding["csr"] = wish.csr
    return binding


def _members(text: str) -> Optional[dict[str, object]]:
    """The members of a JSON object; None: it is something else."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _object(value: object) -> Mapping[object, object]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _shortened(text: str, limit: int) -> str:
    return text.encode()[:limit].decode(errors="ignore")
