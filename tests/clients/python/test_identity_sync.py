from azure.communication.chat import CommunicationTokenCredential
from azure.communication.identity import CommunicationIdentityClient

from identity_cases import IdentityCases


class TestSyncClient(IdentityCases):
    client_class = CommunicationIdentityClient
    credential_class = CommunicationTokenCredential
