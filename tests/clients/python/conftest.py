import os

import pytest

pytest.register_assert_rewrite("environment", "identity_cases", "raw_http")

from environment import VARIABLES, Resource  # noqa: E402 (the rewrite must be registered first)


def pytest_configure(config):
    missing = [name for name in VARIABLES if not os.environ.get(name)]
    if missing:
        raise pytest.UsageError(f"not set: {', '.join(missing)}; load .local/env first (see tests/clients/README.md)")


@pytest.fixture(scope="session")
def resource():
    return Resource()
