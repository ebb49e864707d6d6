import json
import threading
from pathlib import Path

import pytest

from services.serving.triton import layout
from services.serving.triton.launch import TritonSettings, command, from_environment
from services.serving.triton.layout import EngineArgs, NameRefused, add_generation, generations, install_backends

ENGINE = EngineArgs(model=Path("/m"), max_num_seqs=4)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "models" / "repository"


def test_a_model_is_written_as_the_vllm_backend_reads_it(repository: Path) -> None:
    folder = repository / add_generation(repository, "base-1", ENGINE, {"a": Path("/a")})
    assert 'backend: "vllm"' in (folder / "config.pbtxt").read_text()
    assert json.loads((folder / "1" / "model.json").read_text()) == {
        "model": "/m",
        "dtype": "auto",
        "enable_lora": True,
        "max_lora_rank": 64,
        "max_num_seqs": 4,
    }
    assert json.loads((folder / "1" / "multi_lora.json").read_text()) == {"a": "/a"}


def test_each_load_has_a_name_of_its_own(repository: Path) -> None:
    names = [add_generation(repository, model, ENGINE, {}) for model in ("m", "m", "m.deadbeef", "m-2")]
    assert generations(repository, "m").keys() == set(names[:2])
    assert generations(repository, "m.deadbeef") == {names[2]: layout.engine_arguments(ENGINE)}
    layout.remove_generations(repository, "m", names[1])
    assert {path.name for path in repository.iterdir()} == {*names[1:]}
    layout.remove_model(repository, "m")
    layout.remove_model(repository, "m")
    assert {path.name for path in repository.iterdir()} == {*names[2:]}
    assert list(layout.aside(repository).iterdir()) == []


def test_a_changed_list_of_adapters_changes_nothing_that_triton_sees(repository: Path) -> None:
    """A change below a model's folder makes Triton load it again."""
    folder = repository / add_generation(repository, "m", ENGINE, {})
    before = {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}
    layout.write_adapters(repository, "m", {"a": Path("/a")})
    assert layout.read_adapters(repository, "m") == {"a": Path("/a")}
    assert {path: path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))} == before
    assert json.dumps(str(layout.adapter_list(repository, "m"))) in (folder / "config.pbtxt").read_text()


def test_only_its_owner_writes_or_reads_the_repository(repository: Path) -> None:
    repository.mkdir(parents=True, mode=0o777)
    add_generation(repository, "m", ENGINE, {})
    assert [path.stat().st_mode & 0o777 for path in (repository, layout.aside(repository))] == [0o700, 0o700]


def test_a_start_clears_what_is_there_and_nothing_that_is_being_written(repository: Path) -> None:
    """A gateway that goes on writing while Triton's launcher empties the repository: no fault, no half folder."""
    faults: list[OSError] = []
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            try:
                add_generation(repository, "m", ENGINE, {})
            except OSError as fault:
                faults.append(fault)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(200):
        layout.clear(repository)
    over.set()
    writer.join()
    add_generation(repository, "m", ENGINE, {})
    whole = [{str(path.relative_to(folder)) for path in folder.rglob("*")} for folder in repository.iterdir()]
    assert faults == []
    assert whole
    assert all(files == {"config.pbtxt", "1", "1/model.json", "1/multi_lora.json"} for files in whole)
    layout.clear(repository)
    assert [*repository.iterdir(), *layout.aside(repository).iterdir()] == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", ".hidden", "a\n", "x" * 200])
def test_a_name_cannot_leave_the_repository(repository: Path, name: str) -> None:
    with pytest.raises(NameRefused):
        add_generation(repository, name, ENGINE, {})
    with pytest.raises(NameRefused):
        layout.remove_model(repository, name)


def test_backends_are_copied_once(tmp_path: Path) -> None:
    install_backends(tmp_path)
    stub = tmp_path / "python" / "triton_python_backend_stub"
    before = stub.stat()
    install_backends(tmp_path)
    assert stub.stat().st_ino == before.st_ino
    assert stub.stat().st_mode & 0o111
    assert "TritonPythonModel" in (tmp_path / "vllm" / "model.py").read_text()


def test_the_command_loads_for_nobody_and_listens_here_alone(tmp_path: Path) -> None:
    argv, env = command(TritonSettings(home=tmp_path))
    assert "--model-control-mode=poll" in argv
    for kind in ("http-restricted-api", "grpc-restricted-protocol"):
        (given,) = [argument for argument in argv if kind in argument]
        assert all(f"{api}," in f"{given},".replace(":", ",") for api in ("logging", "trace", "shared-memory"))
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
