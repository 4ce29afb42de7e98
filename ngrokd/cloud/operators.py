"""The operator that stands for this machine at ngrok: what is said of it, what answers say."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ngrokd.cloud.ingressaddress import is_ingress_address
from ngrokd.cloud.registration import Profile

# Limits of the API, in bytes of UTF-8.
MAX_DESCRIPTION_BYTES = 255
MAX_METADATA_BYTES = 4096

# The operator's metadata is a JSON object of its owner; this member marks the operator as ours.
INSTALLATION_MEMBER = "ngrokd.installation_id"
NAMESPACE = "ngrokd"

# Goes into URLs and into a file of one line. ngrok's look like `k8sop_2Nc...`.
_ID = re.compile(r"[A-Za-z0-9._:-]{1,200}")


@dataclass(frozen=True)
class Wish:
    """What ngrok is to know about this machine."""

    installation_id: str
    profile: Profile
    csr: str = ""  # PEM; "": the certificate is not asked for
    first: bool = False  # nothing was ever sent with this id: no operator can bear it


@dataclass(frozen=True)
class Operator:
    """What the API says an operator is."""

    id: str
    certificate: str = ""  # PEM; "": the answer brings none
    ingress_endpoint: str = ""
    metadata: str = ""
    told: Optional[Profile] = None  # last; None: an answer does not say it


def creation(wish: Wish) -> dict[str, object]:
    """Body of `POST /kubernetes_operators`. The API refuses any field it does not know."""
    host_name = _encodable(wish.profile.host_name)
    return {
        "description": _shortened(f"ngrokd on {host_name}", MAX_DESCRIPTION_BYTES),
        "metadata": merged_metadata("", wish.installation_id),
        "enabled_features": ["bindings"],
        "region": "global",
        "deployment": {
            "name": host_name,
            "namespace": NAMESPACE,
            "version": wish.profile.version,
        },
        "binding": _binding(wish),
    }


def change(wish: Wish, known: Operator) -> dict[str, object]:
    """Body of `PATCH /kubernetes_operators/{id}`: what is ours to say, nothing a person wrote."""
    body: dict[str, object] = {
        "enabled_features": ["bindings"],
        "deployment": {
            "name": _encodable(wish.profile.host_name),
            "version": wish.profile.version,
        },
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
    """The id of the newest operator that carries our mark; "" if there is none.

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
        ingress_endpoint=ingress if is_ingress_address(ingress) else "",
        metadata=_text(document.get("metadata")),
    )


def is_operator_id(text: str) -> bool:
    """This can be an operator's id."""
    # A lone "." or ".." would change the path of the request.
    return _ID.fullmatch(text) is not None and text.strip(".") != ""


def _binding(wish: Wish) -> dict[str, object]:
    selectors = [_encodable(each) for each in wish.profile.selectors]
    binding: dict[str, object] = {"endpoint_selectors": selectors}
    if wish.csr:
        binding["csr"] = wish.csr
    return binding


def _members(text: str) -> Optional[dict[str, object]]:
    """The members of a JSON object; None: it is something else, or more than metadata can be."""
    if len(text) > MAX_METADATA_BYTES:
        return None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _object(value: object) -> Mapping[object, object]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _encodable(text: str) -> str:
    """Without lone surrogates: a host name of any bytes has them, and no JSON may."""
    return text.encode("utf-8", "replace").decode()


def _shortened(text: str, limit: int) -> str:
    return text.encode()[:limit].decode(errors="ignore")
