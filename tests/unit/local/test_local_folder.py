from pathlib import Path

import pytest

from tidegate.local.data_folder import DataFolder, FolderRefused, default_data_folder
from tidegate.local.postgres import Status, status


def test_default_for_root_is_open_to_the_servers_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_data_folder() == Path("/var/lib/tidegate/postgres")


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (None, "/home/ada/.local/state/tidegate/postgres"),
        ("", "/home/ada/.local/state/tidegate/postgres"),
        ("relative", "/home/ada/.local/state/tidegate/postgres"),
        ("/state", "/state/tidegate/postgres"),
    ],
)
def test_default_for_others(monkeypatch: pytest.MonkeyPatch, state: str | None, expected: str) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    if state is not None:
        monkeypatch.setenv("XDG_STATE_HOME", state)
    assert default_data_folder() == Path(expected)


@pytest.mark.parametrize("found", [[], ["lost+found"], ["tidegate.lock"], ["tidegate.lock", "initialising-x"]])
def test_folders_that_can_be_used(tmp_path: Path, found: list[str]) -> None:
    for name in found:
        (tmp_path / name).touch()
    DataFolder.at(tmp_path).check()
    DataFolder.at(tmp_path / "absent").check()


def test_folder_with_other_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(FolderRefused, match=r"holds 'thesis.txt' and was not made by tidegate; choose an empty"):
        DataFolder.at(tmp_path).check()


def test_data_directory_of_another_server(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("16\n")
    with pytest.raises(FolderRefused, match="data directory of a Postgres 16 that tidegate did not make"):
        DataFolder.at(tmp_path).check()


def test_other_major_version(tmp_path: Path) -> None:
    (tmp_path / "tidegate.lock").touch()
    (tmp_path / "cluster").mkdir()
    with pytest.raises(FolderRefused, match="without PG_VERSION"):
        DataFolder.at(tmp_path).check()
    (tmp_path / "cluster" / "PG_VERSION").write_text("19\n")
    with pytest.raises(FolderRefused, match="made by Postgres 19"):
        DataFolder.at(tmp_path).check()


def test_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderRefused, match="is not a folder"):
        DataFolder.at(tmp_path / "file").check()


def test_password_is_made_once_and_private(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path)
    password = folder.make_password()
    assert len(password) >= 40
    assert folder.make_password() == folder.password() == password
    assert (tmp_path / "password").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["password"]


def test_links_planted_for_the_log_and_lock_are_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    data = tmp_path / "data"
    data.mkdir()
    (data / "server.log").symlink_to(victim)
    (data / "tidegate.lock").symlink_to(victim)
    folder = DataFolder.at(data)
    with pytest.raises(OSError):
        folder.open_log()
    with pytest.raises(FolderRefused), folder.locked():
        pytest.fail("locked")
    assert victim.read_text() == "precious"


def test_log_tail(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path)
    assert folder.log_since(0) == ""
    folder.log.write_text("earlier\n")
    begin = folder.log.stat().st_size
    with folder.log.open("a") as log:
        log.writelines(f"line {n}\n" for n in range(30))
    assert folder.log_since(begin).splitlines() == [f"line {n}" for n in range(10, 30)]
    assert folder.log_since(begin, lines=1) == "line 29"


@pytest.mark.parametrize(("content", "expected"), [("5432\n", 5432), ("", None), ("x", None)])
def test_remembered_port(tmp_path: Path, content: str, expected: int | None) -> None:
    (tmp_path / "port").write_text(content)
    assert DataFolder.at(tmp_path).port() == expected


def test_status_makes_nothing(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert status(absent) == Status(False, None, None, None, None, absent)
    assert status(tmp_path) == Status(False, None, None, None, None, tmp_path)
    assert list(tmp_path.iterdir()) == []
