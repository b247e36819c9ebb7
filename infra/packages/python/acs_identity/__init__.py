"""A local identity service for Azure Communication Services, for tests.

    from acs_identity import acs_identity

    with acs_identity() as server:
        client = CommunicationIdentityClient.from_connection_string(server.connection_string)

The pytest fixture `acs_identity` needs no import.
"""

from .control import ControlError
from .server import Server, StartError, acs_identity, start

__all__ = ["ControlError", "Server", "StartError", "acs_identity", "start"]
