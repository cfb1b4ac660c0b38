"""A server on this machine that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def serving() -> Iterator[str]:
    """Address of a server that stops at the end."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        running.stop()


def client(address: str) -> Any:
    """boto3's client of a server."""
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1")


def only_this_server(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Credentials that everybody has, and no store from the environment."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("EARTHGEN_STORE", raising=False)
