"""The pytest fixtures. The entry point `pytest11` loads this module."""

from __future__ import annotations

from typing import Iterator, Sequence

import pytest

from .server import Server
from .server import acs_identity as running


@pytest.fixture(scope="session")
def acs_identity_options() -> Sequence[str]:
    """The options of the server. Override this fixture to change them."""
    return ()


@pytest.fixture(scope="session")
def acs_identity_server(acs_identity_options: Sequence[str]) -> Iterator[Server]:
    """One server for the session, with free ports and temporary state."""
    with running(*acs_identity_options) as server:
        yield server


@pytest.fixture
def acs_identity(acs_identity_server: Server) -> Iterator[Server]:
    """The server without identities, in real time. Its variables are in the environment until the test ends."""
    acs_identity_server.reset()
    with acs_identity_server.environ():
        yield acs_identity_server
