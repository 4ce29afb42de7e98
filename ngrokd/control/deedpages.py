"""What ngrokctl prints of what was done at a person's wish. Pure."""

from __future__ import annotations

from typing import Optional

from ngrokd.control.answers import at, number, text, texts
from ngrokd.control.text import clean, count, note, pairs

_INGRESS = {
    "trusted": "the ingress is trusted now",
    "untrusted": "the ingress is still not trusted: `ngrokctl status` shows what it presents",
    "wrong_name": "the ingress has a certificate for another name: see `ngrokctl status`",
    "wrong_date": "the ingress has a certificate that is not valid now: see `ngrokctl status`",
    "unreachable": "the ingress cannot be reached now, so it is not known whether that is enough",
}

_CHANGES = ("opened", "closed", "failed")


def deregistration_page(answer: object) -> str:
    """What `deregister` did."""
    operator_id = clean(text(answer, "operator_id"))
    first = f"Operator {operator_id} is deleted." if operator_id else "There was no operator."
    return f"{first} `ngrokctl set-api-key` registers this machine again."


def key_page(answer: object, width: Optional[int]) -> str:
    """`ngrokctl set-api-key`: what the key brought, if ngrok has answered already."""
    if at(answer, "endpoints") is not None:
        found = count(int(number(answer, "endpoints")), "endpoint")
        return f"API key set: {found}. `ngrokctl list` shows them."
    lines = ["API key set. `ngrokctl wait` returns when the daemon is ready."]
    return "\n".join(lines + (note(text(answer, "note"), width) if text(answer, "note") else []))


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


def trust_page(answer: object, width: Optional[int], was_shown: bool = False) -> str:
    """`ngrokctl trust`: what was installed where, and what the ingress is worth now.

    `was_shown`: the certificate stands above already.
    """
    path, kept = clean(text(answer, "path")), text(answer, "kept")
    done = f"Installed as {path}." if at(answer, "installed") else f"It is in {path} already."
    remarks = [
        f"what was there is kept as {kept}; to trust it too, name it in server.ca_file"
        if kept
        else "",
        "" if at(answer, "daemon") else "no daemon answers: the next one trusts it from its start",
        _INGRESS.get(text(answer, "ingress"), ""),
    ]
    lines = [done] if was_shown else [*anchor_lines(at(answer, "certificate")), "", done]
    return "\n".join(lines + [line for remark in remarks if remark for line in note(remark, width)])


def refresh_page(answer: object, width: Optional[int]) -> str:
    """`ngrokctl refresh`: what the poll changed."""
    first = f"Polled: {count(int(number(answer, 'endpoints')), 'endpoint')} open"
    told = [at(answer, word) for word in _CHANGES]
    lines = [f"{first}; nothing opened, closed or failed." if told == [[], [], []] else first]
    for word in _CHANGES:
        for name in texts(answer, word):
            lines += note(f"{word} {name}", width)
    if texts(answer, "failed"):
        lines.append("`ngrokctl list` gives the reasons.")
    return "\n".join(lines)


def reload_page(answer: object) -> str:
    """`ngrokctl reload`: the settings that changed, now or at the next start."""
    done = "Configuration read again."
    if not isinstance(answer, dict):
        return done
    lines = pairs(
        [
            ("changed", ", ".join(texts(answer, "changed"))),
            ("needs restart", ", ".join(texts(answer, "needs_restart"))),
        ]
    )
    return "\n".join([done, *lines]) if lines else f"{done} Nothing has changed."
