"""The clients as boto3 makes them: what they sign, and for whom. Nothing is sent."""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support import environment
from tests.support.environment import BUCKET
from workpool.aws import clients, payloads


@pytest.fixture(autouse=True)
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    environment.set_variables(monkeypatch)
    _forget_clients()
    yield
    _forget_clients()
    environment.forget()


def _forget_clients() -> None:
    """Also the session: it keeps the region that the process began with."""
    clients.client.cache_clear()  # type: ignore[attr-defined]
    clients._session.cache_clear()


@pytest.mark.promise(
    "Large payloads", "The URL of a return value is signed for S3 in the workpool's own region"
)
@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us-east-1", "s3.amazonaws.com"),  # the name of that region's own host
        ("eu-central-1", "s3.eu-central-1.amazonaws.com"),
        ("eu-south-2", "s3.eu-south-2.amazonaws.com"),
    ],
)
def test_a_url_names_and_is_signed_for_the_bucket_in_the_functions_region(
    monkeypatch: pytest.MonkeyPatch, region: str, host: str
) -> None:
    """S3's global host may redirect for a day after the bucket was made, and that breaks the
    signature. It does not know the buckets of regions that were opened since 2019."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    url = urlsplit(payloads.url("default/r1/c1-result"))
    assert (url.scheme, url.path) == ("https", "/default/r1/c1-result")
    assert url.hostname == f"{BUCKET}.{host}"
    query = parse_qs(url.query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Credential"][0].split("/")[2:] == [region, "s3", "aws4_request"]


def test_a_url_of_the_local_aws_names_the_bucket_in_its_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bucket has no name at an address of numbers."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4577")
    url = urlsplit(payloads.url("default/r1/c1-result"))
    assert url.netloc == "127.0.0.1:4577"
    assert url.path == f"/{BUCKET}/default/r1/c1-result"
