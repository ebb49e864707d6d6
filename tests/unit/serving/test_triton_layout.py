import json
from pathlib import Path

import pytest

from services.serving.triton.launch import TritonSettings, admin_key, command, from_environment
from services.serving.triton.layout import (
    EngineArgs,
    NameRefused,
    install_backends,
    read_adapters,
    remove_model,
    write_adapters,
    write_model,
)


def test_a_model_is_written_as_the_vllm_backend_reads_it(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "base-1", EngineArgs(model=Path("/m"), max_num_seqs=4))
    assert 'backend: "vllm"' in (folder / "config.pbtxt").read_text()
    assert json.loads((folder / "1" / "model.json").read_text()) == {
        "model": "/m",
        "dtype": "auto",
        "enable_lora": True,
        "max_lora_rank": 64,
        "max_num_seqs": 4,
    }
    assert json.loads((folder / "1" / "multi_lora.json").read_text()) == {}


def test_writing_a_model_again_keeps_its_adapters(tmp_path: Path) -> None:
    for _ in range(2):
        write_model(tmp_path, "m", EngineArgs(model=Path("/m")))
        write_adapters(tmp_path, "m", {**read_adapters(tmp_path, "m"), "a": tmp_path})
    assert read_adapters(tmp_path, "m") == {"a": tmp_path}
    assert sorted(path.name for path in (tmp_path / "m" / "1").iterdir()) == ["model.json", "multi_lora.json"]
    remove_model(tmp_path, "m")
    remove_model(tmp_path, "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", ".hidden", "a\n", "x" * 200])
def test_a_name_cannot_leave_the_repository(tmp_path: Path, name: str) -> None:
    with pytest.raises(NameRefused):
        write_model(tmp_path, name, EngineArgs(model=Path("/m")))


def test_backends_are_copied_once(tmp_path: Path) -> None:
    install_backends(tmp_path)
    stub = tmp_path / "python" / "triton_python_backend_stub"
    before = stub.stat()
    install_backends(tmp_path)
    assert stub.stat().st_ino == before.st_ino
    assert stub.stat().st_mode & 0o111
    assert "TritonPythonModel" in (tmp_path / "vllm" / "model.py").read_text()


def test_the_admin_key_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key"
    assert admin_key(path) == admin_key(path)
    assert len(admin_key(path)) == 64
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_command_restricts_loading_and_listens_here_alone(tmp_path: Path) -> None:
    argv, env = command(TritonSettings(home=tmp_path))
    key = admin_key(tmp_path / "state" / "triton-admin-key")
    for kind in ("http-restricted-api", "grpc-restricted-protocol"):
        (given,) = [argument for argument in argv if kind in argument]
        assert given.endswith(f":admin-key={key}")
        assert "model-repository" in given
    assert {argument for argument in argv if "-address=" in argument} == {
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
    }
    assert "nvidia_pytriton.libs" in env["LD_LIBRARY_PATH"]


def test_homes_do_not_share_memory_and_settings_come_from_the_environment(tmp_path: Path) -> None:
    one = from_environment({"NORIA_HOME": str(tmp_path / "a"), "NORIA_TRITON_GRPC_PORT": "4"})
    two = from_environment({"NORIA_HOME": str(tmp_path / "b")})
    assert (one.grpc_port, two.grpc_port, one.home) == (4, 8001, tmp_path / "a")
    assert one.shared_memory_prefix != two.shared_memory_prefix


def test_what_says_the_same_is_not_written_again(tmp_path: Path) -> None:
    """Triton loads a model again whose files carry a later time."""
    folder = write_model(tmp_path, "m", EngineArgs(model=Path("/m")))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    write_model(tmp_path, "m", EngineArgs(model=Path("/m")))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    write_model(tmp_path, "m", EngineArgs(model=Path("/other")))
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} != before
