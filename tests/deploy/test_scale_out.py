"""Three proxies behind nginx, under load: each part dies in turn, and every request and record is accounted for.

`scripts/test-scale-out` does the same at length: each proxy killed and started again, versions rolled through and back.
"""

from pathlib import Path

import pytest
from balancer import require_nginx
from fleet import KEY, Fleet, fleet
from postgres_server import why_absent
from steady_load import Load, account, await_records, load, stand_in

OLD, NEW = 1.0, 500.0
"""Cost weights of two configurations, which records hold."""


def test_each_part_dies_in_turn_and_every_request_and_record_is_accounted_for(
    artifact_dir: Path, tmp_path: Path
) -> None:
    require_nginx()
    if why := why_absent():
        pytest.skip(why)
    with stand_in() as (upstream, llms), fleet(tmp_path, artifact_dir, upstream) as parts:
        parts.nginx.take_out("proxy-3")
        parts.start(parts.configuration(OLD), "proxy-1", "proxy-2")
        with load(f"{parts.nginx.url}/v1", KEY, n_clients=6) as clients:
            let_each_part_die(parts, clients)
        assert parts.proxies["proxy-3"].end() == 0
        records = parts.records()
        found = account(clients.asked, records, llms.asked, parts.nginx.log, parts.deaths)
    assert found.wrong == ()
    assert found.refused == 0
    assert found.failed <= 6, "one request of each client, at most, was with the proxy that was killed"
    assert found.recorded + found.lost >= found.answered > 70
    assert {weight for rows in records.values() for weight in rows} == {OLD, NEW}


def let_each_part_die(parts: Fleet, clients: Load) -> None:
    """Redis, PostgreSQL, nginx's workers; a new version joins; one old proxy is told to end, the other is killed."""
    clients.await_answers(10)
    parts.redis.kill()
    clients.await_answers(10)
    parts.postgres.stop("immediate")
    clients.await_answers(10)
    parts.redis.start()
    parts.postgres.start()
    parts.nginx.reload()
    clients.await_answers(10)
    parts.start(parts.configuration(NEW), "proxy-3")
    parts.nginx.put_in("proxy-3")
    assert parts.end("proxy-1") == 0
    clients.await_answers(10)
    await_records(clients, parts.records)
    parts.kill("proxy-2")
    clients.await_answers(20)
