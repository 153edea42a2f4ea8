"""What `serve` checks and sets before the proxy starts."""

import socket
from pathlib import Path

import pytest

from embedllm_router.errors import ConfigError
from embedllm_router.proxy.serve import check_port, proxy_command, proxy_environment


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1, port {port}: Address already in use"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
    with pytest.raises(ConfigError, match="0 to 65535"):
        check_port("127.0.0.1", 70_000)


@pytest.mark.parametrize(
    ("general", "given", "is_made"),
    [
        ("{master_key: sk-literal}", {}, False),
        ("{master_key: os.environ/ANOTHER}", {}, False),
        ("{master_key: os.environ/LITELLM_MASTER_KEY}", {}, True),
        ("{}", {}, True),
        ("5", {}, True),
        ("{}", {"LITELLM_MASTER_KEY": "sk-set"}, False),
    ],
)
def test_a_master_key_is_made_only_where_none_is_stated(
    tmp_path: Path, general: str, given: dict[str, str], *, is_made: bool
) -> None:
    file = tmp_path / "proxy_config.yaml"
    file.write_text(f"general_settings: {general}\n")
    environment, made = proxy_environment(file, given)
    assert (made is not None) is is_made
    assert environment.get("LITELLM_MASTER_KEY") == (made or given.get("LITELLM_MASTER_KEY"))


def test_several_workers_get_time_to_load_litellm() -> None:
    one, two = (proxy_command(Path("config.yaml"), "127.0.0.1", 4000, workers=n) for n in (1, 2))
    assert "--num_workers" not in one
    assert two == [*one, "--num_workers", "2", "--timeout_worker_healthcheck", "60"]
