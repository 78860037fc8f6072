"""client.yaml: what is kept, for whom, and what is told when it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mulligan.client import Client, Context, Credentials, InMemoryTransport, contexts
from mulligan.config import Settings
from mulligan.errors import InvalidArgument, NotFound
from tests.fake_system import FakeIam, WallClock

GATEWAYS = ("node1.example:7400", "node1.example:7401")
LAB = Context(("10.0.0.5:7400",), ca_file="/etc/ca.crt", account="ada", project="lab", region="east")


def test_contexts_survive_being_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "mulligan" / "client.yaml"
    contexts.set_context("lab", LAB, path=path)
    contexts.set_context("other", Context(("a:1", "b:2")), path=path)
    found = contexts.load(path)
    assert found.current == "lab"
    assert found.get() == found.get("lab") == LAB
    assert found.get("other").addresses == ("a:1", "b:2")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert contexts.Contexts("lab", found.contexts).without("lab").current == ""


def test_the_file_is_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert contexts.default_path() == tmp_path / "mulligan" / "client.yaml"
    assert contexts.load() == contexts.Contexts()


def test_a_missing_context_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="mulligan bootstrap"):
        contexts.load(tmp_path / "none.yaml").get()
    with pytest.raises(NotFound, match="known are: lab"):
        contexts.Contexts("lab", {"lab": LAB}).get("lba")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("version: 2\n", "version: 1"),
        ("- a\n", "a mapping"),
        ("contexts: {lab: [a]}\n", "contexts.lab must be a mapping"),
        ("contexts: {lab: {addresses: a}}\n", "contexts.lab.addresses must be a list"),
        ("contexts: {lab: {addresses: [a], adress: b}}\n", "unknown key 'adress'"),
        ("contexts: {lab: \n", "client.yaml"),
    ],
)
def test_a_malformed_file_names_the_place(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "client.yaml"
    path.write_text(text)
    with pytest.raises(InvalidArgument, match=complaint):
        contexts.load(path)


@pytest.mark.parametrize("name", ["", "../lab", "a/b", "-x"])
def test_names_cannot_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidArgument, match="a context's name"):
        contexts.set_context(name, LAB, path=tmp_path / "client.yaml")


def test_the_local_system_is_written_without_its_secret(tmp_path: Path) -> None:
    path, secrets = tmp_path / "client.yaml", tmp_path / "state" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "admin.json").write_text(json.dumps({"account": "admin", "secret": "hush"}))
    contexts.write_local_context(Settings(state_dir=tmp_path / "state"), GATEWAYS, path)
    local = contexts.load(path).get()
    assert local.addresses == GATEWAYS
    assert local.ca_file == str(tmp_path / "state" / "tls" / "ca.crt")
    assert "hush" not in path.read_text()
    assert "hush" not in repr(local.credentials())
    assert (local.credentials().account, local.credentials().secret) == ("admin", "hush")


def test_bootstrapping_again_keeps_what_the_administrator_chose(tmp_path: Path) -> None:
    path, settings = tmp_path / "client.yaml", Settings(state_dir=tmp_path)
    contexts.write_local_context(settings, GATEWAYS, path)
    contexts.set_context("local", Context(("old:1",), account="admin", region="east"), path=path)
    contexts.write_local_context(settings, GATEWAYS, path)
    assert contexts.load(path).get().region == "east"
    assert contexts.load(path).get().addresses == GATEWAYS
    contexts.set_context("local", Context(("old:1",), account="ada", project="lab"), path=path)
    contexts.write_local_context(settings, GATEWAYS, path)
    assert (contexts.load(path).get().account, contexts.load(path).get().project) == ("admin", "")


def test_a_host_without_the_administrators_secret_does_not_name_it(tmp_path: Path) -> None:
    contexts.write_local_context(Settings(state_dir=tmp_path), GATEWAYS, tmp_path / "client.yaml")
    assert contexts.load(tmp_path / "client.yaml").get().credential_file == ""


@pytest.mark.parametrize("content", [None, "not json", "[]", '{"account": "admin"}'])
def test_a_credential_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "admin.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(InvalidArgument, match=r"cannot log in with .*admin\.json"):
        Context(("a:1",), credential_file=str(file)).credentials()


def test_a_ca_file_or_an_address_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"cannot read the CA file .*; give the ca\.crt of the system"):
        Client.connect("a:1", ca_file=tmp_path / "none.crt")
    with pytest.raises(InvalidArgument, match="the address of at least one gateway"):
        Client.connect([], transport=InMemoryTransport())


async def test_credentials_of_ones_own_go_before_saved_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    secret_file = tmp_path / "admin.json"
    secret_file.write_text(json.dumps({"account": "admin", "secret": "secret"}))
    contexts.set_context("lab", Context(("a",), account="admin", credential_file=str(secret_file)))
    iam = FakeIam(WallClock())
    transport = InMemoryTransport(require_login=True)
    transport.serve("a", iam=iam)
    for _ in range(2):
        async with Client.connect(context="lab", transport=transport) as client:
            assert client.account
    assert iam.logins == 1
    async with Client.connect(context="lab", credentials=Credentials("eve", "secret"), transport=transport):
        pass
    assert [call.request.account for call in transport.calls if call.method == "Login"] == ["admin", "eve"]
    async with Client.connect(context="lab", transport=transport):
        pass
    assert iam.logins == 2
