"""Records in a bucket, of a real server that speaks S3 on loopback: what is read there is what is read in a folder."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from reading import flat, write
from recorded import make_feedback, make_records

from embedllm_router.analysis.summary import summarize
from embedllm_router.errors import ConfigError, DataError
from embedllm_router.records.reader.find import follow
from embedllm_router.records.reader.source import Filters, open_source
from embedllm_router.records.writer.seal import seal_orphans

pytest.importorskip("obstore")
moto_server = pytest.importorskip("moto.server")

BUCKET, PREFIX = "llm", "proxies/one"
WHERE = f"s3://{BUCKET}/{PREFIX}"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield "http://{}:{}".format(*server.get_host_and_port())
    finally:
        server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed folder of requests and feedback."""
    where = tmp_path_factory.mktemp("records")
    records = make_records(3_000)
    write(where, [*records, *make_feedback(records)])
    assert len(seal_orphans(where)) == 2
    return where


@pytest.fixture
def bucket(endpoint: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The same files in a bucket, beside something else, and credentials in the environment."""
    environment = {"ACCESS_KEY_ID": "one", "SECRET_ACCESS_KEY": "two", "REGION": "us-east-1", "ENDPOINT_URL": endpoint}
    for name, value in environment.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    for file in folder.glob("*.parquet"):
        client.upload_file(str(file), BUCKET, f"{PREFIX}/{file.name}")
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/readme.txt", Body=b"no record")
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/later/requests-x.parquet", Body=b"no record either")
    yield client
    for one in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
        client.delete_object(Bucket=BUCKET, Key=one["Key"])
    client.delete_bucket(Bucket=BUCKET)
    client.close()


@pytest.mark.usefixtures("bucket")
def test_a_bucket_s_summary_is_the_folder_s(folder: Path, run_command: Callable[..., str]) -> None:
    found = [json.loads(run_command("logs", "summary", "--json", "--from", where)) for where in (str(folder), WHERE)]
    assert found[1].pop("where", WHERE) == WHERE
    found[0].pop("where", None)
    assert flat(found[1]) == pytest.approx(flat(found[0]))
    assert found[1]["n"] == 3_000


@pytest.mark.usefixtures("bucket")
def test_a_replay_from_a_bucket_is_the_folder_s(folder: Path, run_command: Callable[..., str]) -> None:
    said = [
        json.loads(run_command("replay", "--cost-weight", "500", "--json", "--from", where))
        for where in (str(folder), f"{WHERE}/")
    ]
    for one in said:
        one.pop("where", None)
    assert flat(said[1]) == pytest.approx(flat(said[0]))
    assert said[1]["n"] > 0


def test_a_bucket_and_a_folder_are_read_together_and_new_objects_are_seen(
    bucket: Any, folder: Path, tmp_path: Path
) -> None:
    write(tmp_path, make_records(5, seed=1))
    (lines,) = tmp_path.glob("requests-*.jsonl")
    source = open_source([WHERE, str(tmp_path)])
    try:
        assert summarize(source, Filters()).n == 3_005
        bucket.upload_file(str(lines), BUCKET, f"{PREFIX}/{lines.name.replace('-', '-9', 1)}")
        assert summarize(source, Filters()).n == 3_010
    finally:
        source.close()
    (sealed,) = folder.glob("requests-*.parquet")
    source = open_source(f"{WHERE}/{sealed.name}")
    try:
        assert source.rows("SELECT count(*) AS n FROM requests") == [{"n": 3_000}]
    finally:
        source.close()


def test_following_tells_of_new_objects(bucket: Any, tmp_path: Path) -> None:
    write(tmp_path, make_records(4, seed=2))
    seal_orphans(tmp_path)
    (sealed,) = tmp_path.glob("requests-*.parquet")
    source = open_source(WHERE)
    follower = follow(source, Filters())
    try:
        assert follower.new() == []
        bucket.upload_file(str(sealed), BUCKET, f"{PREFIX}/{sealed.name}")
        assert len(follower.new()) == 4
        assert follower.new() == []
    finally:
        follower.close()
        source.close()


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    ("where", "error", "said"),
    [
        ("s3://", ConfigError, "expected s3://bucket/prefix"),
        (f"{WHERE}/*.parquet", ConfigError, "without wildcards"),
        (f"s3://{BUCKET}/../other", ConfigError, r"empty parts, \. and \.\."),
        (f"s3://somebody:password@{BUCKET}/records", ConfigError, "from s3://…@…: expected"),
        (f"s3://{BUCKET}/elsewhere", DataError, "no records at"),
        (f"{WHERE}/requests-gone.parquet", DataError, "no such bucket or object"),
        ("s3://no-such-bucket/records", DataError, "no-such-bucket"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(where: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said) as told:
        open_source(where)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "endpoint", ["localhost", "http://", "http://a b", "http://somebody:secret@127.0.0.1:1", "x:y"]
)
def test_an_endpoint_that_is_no_address_is_refused_unrepeated(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL is no address") as told:
        open_source(WHERE, must_exist=True)
    assert "secret" not in str(told.value)
