"""Where a store is: URLs that name one or are refused, and the store that is used without one."""

from __future__ import annotations

import asyncio

import pytest
from durable_core import Client
from durable_core.exceptions import EngineURLError, NotSupported, StoreReadOnlyError
from support.doubling import run_once


async def connect(url):
    async with await Client.connect(url):
        pass


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://host/db",
        "durable.db",
        "/srv/durable.db",
        "sqlite:///",
        "sqlite:////",
        "sqlite://host/durable.db",
        "sqlite://durable.db",
        "sqlite:durable.db",
        "sqlite:/durable.db",
        "sqlite:///durable.db?mode=ro",
        "sqlite:///durable.db#part",
    ],
)
def test_a_url_that_names_no_file_is_refused_with_the_form_it_should_have(url, tmp_path):
    with pytest.raises(EngineURLError) as caught:
        asyncio.run(connect(url))

    assert isinstance(caught.value, ValueError)
    assert repr(url) in str(caught.value)
    assert "sqlite:///relative/path or sqlite:////absolute/path" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["postgresql://host/db", "postgres://host/db", "temporal://host"])
def test_a_url_of_an_engine_to_come_says_that_it_is_not_there_yet(url):
    with pytest.raises(NotSupported, match="not supported by this version yet; use sqlite:///path"):
        asyncio.run(connect(url))


def test_sqlite_in_memory_names_the_store_in_memory():
    with pytest.raises(NotSupported, match="use memory://"):
        asyncio.run(connect("sqlite:///:memory:"))


def test_a_url_may_be_relative_absolute_and_quoted(tmp_path):
    for url, file in (
        ("sqlite:///a.db", "a.db"),
        (f"sqlite:///{tmp_path}/b.db", "b.db"),
        ("sqlite:///new/folders/c.db", "new/folders/c.db"),
        ("sqlite:///50%25%20%23%3F.db", "50% #?.db"),
    ):
        asyncio.run(connect(url))
        assert (tmp_path / file).exists(), url


def test_a_path_with_characters_that_mean_something_in_a_url_works_as_default(
    tmp_path, monkeypatch
):
    folder = tmp_path / "100%25 #1? ü"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert run_once(None) == 8
    assert (folder / ".durable/durable.db").exists()
    assert [p.name for p in tmp_path.iterdir()] == [folder.name]


# The default store


def test_the_default_store_is_in_a_folder_that_git_ignores(tmp_path):
    assert run_once(None) == 8
    folder = tmp_path / ".durable"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"
    assert (folder / "durable.db").stat().st_mode & 0o777 == 0o600


def test_the_default_store_keeps_a_gitignore_that_is_there(tmp_path):
    (tmp_path / ".durable").mkdir()
    (tmp_path / ".durable/.gitignore").write_text("*.tmp\n")
    asyncio.run(connect(None))
    assert (tmp_path / ".durable/.gitignore").read_text() == "*.tmp\n"


def test_durable_url_takes_the_place_of_the_default_and_an_argument_the_place_of_both(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("DURABLE_URL", "sqlite:///variable.db")
    run_once(None)
    run_once("sqlite:///argument.db")
    assert {p.name for p in tmp_path.glob("*.db")} == {"variable.db", "argument.db"}
    assert not (tmp_path / ".durable").exists()


def test_a_file_in_the_place_of_the_default_folder_is_named(tmp_path):
    (tmp_path / ".durable").write_text("mine")
    with pytest.raises(StoreReadOnlyError, match=r"\.durable.*DURABLE_URL=sqlite:///path"):
        asyncio.run(connect(None))

    assert (tmp_path / ".durable").read_text() == "mine"
