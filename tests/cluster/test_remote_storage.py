"""The small suite with its results in an S3 storage (moto's server): what is there in the end, and what a user is told."""

from __future__ import annotations

import pytest

from tests.faults.conftest import copy_of
from tests.faults.suite import CONFIG, Disturbed, is_of_suite, same

pytestmark = pytest.mark.cluster
BUCKET, PREFIX = "pmqbench", "results/of small"  # a prefix that could be taken for the results' own folder


@pytest.fixture(scope="module")
def storage():
    """A bucket on a server of this process, and how Snakemake reaches it."""
    boto3 = pytest.importorskip("boto3")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b", "region_name": "us-east-1"}
    url = f"http://{host}:{port}"
    client = boto3.client("s3", endpoint_url=url, **keys)
    client.create_bucket(Bucket=BUCKET)
    where = ("--default-storage-provider", "s3", "--default-storage-prefix", f"s3://{BUCKET}/{PREFIX}")
    reached = ("--storage-s3-endpoint-url", url, "--storage-s3-region", "us-east-1")
    secrets = {"SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "a", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "b"}
    yield client, (*CONFIG, *where, *reached), secrets
    server.stop()


@pytest.fixture(scope="module")
def remote(small, storage, tmp_path_factory) -> Disturbed:
    project = copy_of(small, tmp_path_factory.mktemp("remote"))
    project.variables |= storage[2]
    return project


def download(client, project: Disturbed) -> None:
    """Puts all results of the bucket where a local run has them."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page["Contents"]:
            path = project.work / entry["Key"].removeprefix(f"{PREFIX}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(BUCKET, entry["Key"], str(path))


def test_a_job_that_fails_says_why(remote, storage):
    weights = remote.work / "models/digits/open_clip_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    said = remote.snakemake(*storage[1], "--until", "fetch_expert", code=1)
    assert "put a whole copy there" in said[said.index("1 job failed") :]
    weights.write_bytes(whole)


def test_a_suite_ends_as_a_local_run_does(remote, storage, small, reference, tmp_path):
    said = remote.snakemake(*storage[1])
    assert f"s3://{BUCKET}/{PREFIX}/results/suites/small/leaderboard.csv" in said
    assert "Nothing to be done" in remote.snakemake(*storage[1])
    copied = copy_of(small, tmp_path)
    download(storage[0], copied)
    same(copied, {name: value for name, value in reference.items() if is_of_suite(name)})
