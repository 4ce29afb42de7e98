"""What `ngrokctl trust` prints for people. Pure."""

from __future__ import annotations

from typing import Optional

from ngrokd.control.answers import at, text
from ngrokd.control.text import clean, note, pairs

_INGRESS = {
    "trusted": "the ingress is trusted now",
    "untrusted": "the ingress is still not trusted: `ngrokctl status` shows what it presents",
    "wrong_name": "the ingress has a certificate for another name: see `ngrokctl status`",
    "wrong_date": "the ingress has a certificate that is not valid now: see `ngrokctl status`",
    "unreachable": "the ingress cannot be reached now, so it is not known whether that is enough",
}


def anchor_lines(found: object) -> list[str]:
    """A CA's certificate, before it is trusted and after."""
    return pairs(
        [
            ("Certificate", text(found, "subject")),
            ("Issued by", text(found, "issuer")),
            ("Valid", f"from {text(found, 'not_before')} to {text(found, 'not_after')}"),
            ("SHA-256", text(found, "sha256")),
        ]
    )


def trust_page(answer: object, width: Optional[int]) -> str:
    """`ngrokctl trust`: what was installed where, and what the ingress is worth now."""
    path, kept = clean(text(answer, "path")), text(answer, "kept")
    done = f"Installed as {path}." if at(answer, "installed") else f"It is in {path} already."
    remarks = [
        f"what was there is kept as {kept}; to trust it too, name it in server.ca_file"
        if kept
        else "",
        "" if at(answer, "daemon") else "no daemon answers: the next one trusts it from its start",
        _INGRESS.get(text(answer, "ingress"), ""),
    ]
    lines = [*anchor_lines(at(answer, "certificate")), "", done]
    return "\n".join(lines + [line for remark in remarks if remark for line in note(remark, width)])
