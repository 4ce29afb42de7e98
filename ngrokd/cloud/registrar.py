"""Register, renew, update, leave: jobs for a pool thread, functions of their arguments."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

from ngrokd.cloud.api import Api
from ngrokd.cloud.certificate import certificates_of, validity
from ngrokd.cloud.operators import (
    Operator,
    Wish,
    change,
    creation,
    own_operator,
    parse_operator,
)
from ngrokd.errors import ApiUnavailable, OperatorLost

logger = logging.getLogger(__name__)

Job = Callable[[Api, Wish, str], Operator]  # the API, what to say, the known operator's id


def register(api: Api, wish: Wish, known_id: str) -> Operator:
    """Have an operator and a certificate for it: the known one, else our own, else a new one.

    Raises ApiError.
    """
    if known_id:
        try:
            return renew(api, wish, known_id)
        except OperatorLost as exc:
            logger.warning("operator %s: %s", known_id, exc)
    own_id = "" if wish.first else own_operator(api.list_operators(), wish.installation_id)
    if own_id:
        logger.info("operator %s is this installation's; it is used again", own_id)
        return renew(api, wish, own_id)
    return _certified(_told(api.create_operator(creation(wish)), wish))


def renew(api: Api, wish: Wish, operator_id: str) -> Operator:
    """A certificate for the request in `wish`. Raises ApiError; OperatorLost: it is gone."""
    return _certified(_changed(api, wish, operator_id))


def update(api: Api, wish: Wish, operator_id: str) -> Operator:
    """Tell ngrok the profile. Raises ApiError; OperatorLost: it is gone."""
    # Whatever certificate the answer repeats was not asked for and changes nothing.
    return dataclasses.replace(_changed(api, wish, operator_id), certificate="")


def look(api: Api, _wish: Wish, operator_id: str) -> Operator:
    """What ngrok says of the operator. Raises ApiError; OperatorLost: it is gone."""
    return dataclasses.replace(_read(api, operator_id), certificate="")


def leave(api: Api, operator_id: str, installation_id: str) -> str:
    """Have no operator: the known one, else our own, is deleted. Its id, "" if there was none.

    That it is gone already is fine. Raises ApiError.
    """
    if not operator_id and installation_id:
        operator_id = own_operator(api.list_operators(), installation_id)
    if operator_id:
        api.delete_operator(operator_id)
    return operator_id


def _changed(api: Api, wish: Wish, operator_id: str) -> Operator:
    body = change(wish, _read(api, operator_id))
    return _told(api.update_operator(operator_id, body), wish, operator_id)


def _told(answer: object, wish: Wish, operator_id: str = "") -> Operator:
    return dataclasses.replace(_parsed(answer, operator_id), told=wish.profile)


def _read(api: Api, operator_id: str) -> Operator:
    return _parsed(api.get_operator(operator_id), operator_id)


def _parsed(answer: object, operator_id: str = "") -> Operator:
    """ApiUnavailable: it is none, or another one than was asked about ("": one that is new)."""
    try:
        operator = parse_operator(answer)
    except ValueError as exc:
        raise _unusable(f"it is not an operator: {exc}") from exc
    if operator_id and operator.id != operator_id:
        raise _unusable(f"it is about operator {operator.id} instead of {operator_id}")
    return operator


def _certified(operator: Operator) -> Operator:
    if not operator.certificate:
        raise _unusable(f"operator {operator.id} came without a certificate")
    try:
        certificate = certificates_of(operator.certificate)
        validity(certificate)
    except ValueError as exc:
        raise _unusable(f"the certificate of operator {operator.id} is unusable: {exc}") from exc
    return dataclasses.replace(operator, certificate=certificate)


def _unusable(what: str) -> ApiUnavailable:
    return ApiUnavailable(f"the ngrok API's answer cannot be used ({what}); it is tried again")
