"""Label Studio's server, spoken to through its own SDK, which is optional and imported late."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import textwrap
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from alss_ray.config import UsageError

TOKEN = "LABEL_STUDIO_API_KEY"
"""The environment variable of the token, under the SDK's own name: a personal access token or a legacy one."""
PATIENCE = 60.0
"""Seconds to wait for an answer."""


@contextlib.contextmanager
def connected(url: str, doing: str) -> Iterator[Any]:
    """The SDK's client for the server at `url`. It is closed behind the block, and the token is gone with it.

    Raises:
        UsageError: anything goes wrong between here and the server, in one sentence.
    """
    try:
        import httpx
        from label_studio_sdk.client import LabelStudio
        from label_studio_sdk.core.api_error import ApiError
    except ImportError as error:
        raise UsageError(
            f"Label Studio's SDK cannot be imported ({error}); pip install 'alss-ray[label-studio]'."
        ) from error

    token = _token()
    try:
        # A proxy of the environment knows nothing of this machine's own addresses.
        with httpx.Client(timeout=PATIENCE, follow_redirects=True, trust_env=not loopback(url)) as http:
            yield LabelStudio(base_url=url, api_key=token, httpx_client=http, timeout=PATIENCE)
            return
    except ApiError as error:
        fault = _fault(error, doing)
    except httpx.HTTPError as error:
        fault = f"does not answer ({error}); start it there, or give its address with --url"
    # Not in the handlers: the server's answer, with the cookies of its session, would show in tracebacks.
    raise UsageError(f"Label Studio at {url} {fault}.")


def _fault(error: Any, doing: str) -> str:
    """What an answer says that is no success."""
    detail = error.body.get("detail") if isinstance(error.body, dict) else None
    if detail is None:
        return f"is something else (it answers with status {error.status_code}); give the address with --url"
    detail = str(detail).rstrip(".")
    if error.status_code == 401:
        return f"does not accept the token in {TOKEN} ({detail}); copy one from its page Account & Settings"
    if problems := error.body.get("validation_errors"):
        detail = f"{detail}: {problems}"
    return f"refuses to {doing} (status {error.status_code}, {textwrap.shorten(detail, 300)})"


def _token() -> str:
    """The token of the environment.

    Raises:
        UsageError: there is none, or it is none. The message does not tell it.
    """
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        raise UsageError(
            f"The environment variable {TOKEN} is not set; copy an access token from Label Studio's page Account & "
            "Settings into it."
        )
    if not token.isascii() or any(character.isspace() for character in token):
        raise UsageError(
            f"The environment variable {TOKEN} holds blanks or accents, as no token does; copy it again."
        )
    return token


def loopback(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
