from pathlib import Path

import pytest

from dfw.atomic import new_folder, unused
from dfw.errors import CheckpointError, ConfigError
from dfw.runs.directory import RunDirectory, slug


def test_two_runs_in_one_second_get_two_directories(tmp_path):
    made = [RunDirectory.create(str(tmp_path), "n", "A red Mushroom!", 3).path for _ in range(3)]
    assert len(set(made)) == 3
    assert all(p.name.startswith("a-red-mushroom-3-") for p in made)


def test_slug_is_a_safe_name():
    assert slug("../../etc/Passwd: ünï") == "etc-passwd-n"
    assert slug("!!!") == "prompt"
    assert len(slug("word " * 50)) <= 40


def test_unused_never_names_an_existing_file(tmp_path):
    path = tmp_path / "mesh.glb"
    assert unused(path) == path
    path.touch()
    assert unused(path).name == "mesh-2.glb"
    unused(path).touch()
    assert unused(path).name == "mesh-3.glb"


def test_a_new_folder_never_is_one_that_exists(tmp_path):
    made = [new_folder(tmp_path / "below" / "v1.5") for _ in range(3)]
    assert [path.name for path in made] == ["v1.5", "v1.5-2", "v1.5-3"]
    assert all(path.is_dir() for path in made)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        new_folder(tmp_path / "file" / "below")


def test_an_output_that_cannot_be_made_is_a_config_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="output: cannot make"):
        RunDirectory.create(str(tmp_path / "file"), "n", "x", 0)


def test_open_refuses_what_is_no_run(tmp_path):
    with pytest.raises(CheckpointError, match="not a run directory"):
        RunDirectory.open(tmp_path)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("link", r"link is a link to /nowhere/mounted, which is not there"),
        ("link/below", r"link is a link to /nowhere/mounted, which is not there"),
        ("a\0b", r"a\\x00b/n/x-0-\S*: the name holds a NUL character"),
        ("x" * 300, "File name too long"),
        ("file", "Not a directory"),
        ("/dev/null", "Not a directory"),
    ],
)
def test_an_output_that_cannot_be_is_one_sentence(tmp_path: Path, monkeypatch, output: str, reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("/nowhere/mounted")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=rf"^output: cannot make .*{reason}; name a folder that you may write to$"):
        RunDirectory.create(output, "n", "x", 0)


def test_no_search_for_a_free_name_is_without_end(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("dfw.atomic.MOST", 5)
    for _ in range(5):
        new_folder(tmp_path / "a")
    with pytest.raises(FileExistsError, match="the first 5 names are taken"):
        new_folder(tmp_path / "a")
    with pytest.raises(FileExistsError, match="the first 5 names are taken"):
        unused(tmp_path / "a")


def test_a_link_to_nowhere_is_a_name_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "mesh.glb").symlink_to(tmp_path / "nothing")
    assert unused(tmp_path / "mesh.glb").name == "mesh-2.glb"
