import configparser
import os
import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from compose.local import kafka, ports, stack, supervisor
from compose.local.settings import SERVICES, StackSettings
from compose.local.supervisor import Program


def parsed(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return parser


def test_each_part_is_a_program_with_its_own_log(tmp_path: Path) -> None:
    conf = parsed(supervisor.configuration(tmp_path, stack.programs("12h"), tmp_path))
    for name in ("kafka", "triton", "gc", *SERVICES):
        program = conf[f"program:{name}"]
        assert program["stdout_logfile"] == str(tmp_path / "logs" / f"{name}.log")
        assert program["autorestart"] == "true"
        assert program["stopsignal"] == "TERM"


def test_artifacts_are_collected_by_the_stack_as_often_as_asked_or_never(tmp_path: Path) -> None:
    conf = parsed(supervisor.configuration(tmp_path, stack.programs("12h"), tmp_path))
    assert conf["program:gc"]["command"].endswith("-m services.cli.app gc --yes --every 12h")
    assert "gc" not in [program.name for program in stack.programs("never")]
    assert StackSettings().gc_every == "7d"
    with pytest.raises(ValidationError, match="gc_every"):
        StackSettings(gc_every="soon")


def test_every_part_stops_and_kafka_last() -> None:
    assert sorted(name for group in stack.STOP_ORDER for name in group) == sorted((*stack.PARTS, stack.TIMER))
    assert stack.STOP_ORDER[-1] == ("kafka",)


def test_words_with_blanks_and_percent_signs_reach_the_program(tmp_path: Path) -> None:
    conf = parsed(supervisor.configuration(tmp_path, [Program("a", ("/x y/python", "-c", "print('5%')"))], tmp_path))
    assert conf["program:a"]["command"] == '"/x y/python" -c "print(\'5%%\')"'


def test_socket_of_a_deep_home_lies_elsewhere_and_fits(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    path = supervisor.socket_path(deep)
    try:
        assert len(os.fsencode(path)) < 90
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert supervisor.socket_path(deep) == path
        assert supervisor.socket_path(tmp_path / "other" / ("d" * 120)) != path
    finally:
        path.parent.rmdir()


def test_socket_of_a_short_home_lies_in_it() -> None:
    assert supervisor.socket_path(Path("/srv/noria")) == Path("/srv/noria/supervisor.sock")


def test_broker_listens_where_the_settings_say(tmp_path: Path) -> None:
    settings = StackSettings(home=tmp_path, kafka_port=19092, kafka_controller_port=19093)
    lines = kafka.properties(settings).splitlines()
    assert "listeners=PLAINTEXT://127.0.0.1:19092,CONTROLLER://127.0.0.1:19093" in lines
    assert "auto.create.topics.enable=false" in lines
    assert f"log.dirs={tmp_path / 'kafka' / 'data'}" in lines


def test_broker_without_jars_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="scripts/setup"):
        kafka.prepare(StackSettings(home=tmp_path, cache=tmp_path / "nothing"))


def test_environment_carries_home_ports_and_bootstrap(tmp_path: Path) -> None:
    settings = StackSettings(home=tmp_path, kafka_port=19092, prep_port=18082)
    variables = stack.environment(settings)
    assert variables["NORIA_HOME"] == str(tmp_path)
    assert variables["NORIA_PREP_PORT"] == "18082"
    assert variables["NORIA_KAFKA_BOOTSTRAP"] == "127.0.0.1:19092"


def test_environment_file_reaches_services_and_the_environment_is_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("NORIA_PREP_DATABASE=sqlite:///a.db\nNORIA_LOG_LEVEL=debug\nOTHER=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NORIA_LOG_LEVEL", "error")
    monkeypatch.delenv("OTHER", raising=False)
    variables = stack.environment(StackSettings(home=tmp_path))
    assert variables["NORIA_PREP_DATABASE"] == "sqlite:///a.db"
    assert variables["NORIA_LOG_LEVEL"] == "error"
    assert "OTHER" not in variables


def test_taken_port_names_its_holder_and_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        monkeypatch.setattr(ports, "NAMES", ("prep",))
        with pytest.raises(ports.PortTaken) as caught:
            ports.check(StackSettings(prep_port=port))
    assert f"port {port} is taken by pid {os.getpid()}" in str(caught.value)
    assert "NORIA_PREP_PORT" in str(caught.value)
