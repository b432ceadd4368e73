"""Who may log in, where accounts come from, and how often somebody may try."""

import pytest

from curator.errors import CuratorError
from curator.review.logins import KEPT, Logins, accounts


def test_where_accounts_come_from(tmp_path, capsys):
    file = tmp_path / "people"
    file.write_text("# who\nann:from: a file\n\nben:x\n")
    file.chmod(0o600)
    assert accounts(["ann:a", "ben:b:c"], None, {"CURATOR_AUTH": "x:y"}) == {"ann": "a", "ben": "b:c"}
    assert accounts([], file, {"CURATOR_AUTH": "x:y"}) == {"ann": "from: a file", "ben": "x"}
    assert accounts([], None, {"CURATOR_AUTH": "x:y\nz:1 2"}) == {"x": "y", "z": "1 2"}
    assert accounts([], None, {}) == accounts([], None, {"CURATOR_AUTH": ""}) == {}
    assert capsys.readouterr().err == ""
    file.chmod(0o644)
    assert accounts([], file, {}) and "can be read by others: chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize(
    "auth, content, variable, expected",
    [
        (["annsecret"], None, "", "--auth: expected NAME:PASSWORD"),
        (["ann:secret", "ann:other"], None, "", "a name once"),
        (["ann:"], None, "", "expected NAME:PASSWORD"),
        (["ann\n:secret"], None, "", "expected a name of 1 to 100 characters"),
        ([" ann:secret"], None, "", "without spaces around it"),
        (["a" * 101 + ":secret"], None, "", "expected a name of 1 to 100 characters"),
        (["\udcff:secret"], None, "", "expected a name of 1 to 100 characters"),
        (["ann:" + "secret" * 1000], None, "", "a password of at most 1,000"),
        ([], None, "annsecret", "CURATOR_AUTH: expected NAME:PASSWORD"),
        ([], b"", "", "found none"),
        ([], b"annsecret", "", "--auth-file .*: expected NAME:PASSWORD"),
        ([], b"\xff:secret", "", "--auth-file .*: it cannot be read"),
        (["ann:secret"], b"ann:secret", "", "give only one of --auth and --auth-file"),
    ],
)
def test_accounts_that_do_not_fit(tmp_path, auth, content, variable, expected):
    file = None
    if content is not None:
        file = tmp_path / "people"
        file.write_bytes(content)
    with pytest.raises(CuratorError, match=expected) as error:
        accounts(auth, file, {"CURATOR_AUTH": variable})
    assert "secret" not in str(error.value).replace("ann:secret1 ben:secret2", "")


def test_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(CuratorError, match="no such file"):
            accounts([], path, {})


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def logins(clock):
    return Logins({"ann": "one", "ben": "two"}, now=lambda: clock[0])


def test_right_and_wrong(logins, capsys):
    assert logins.right("ann", "one", "1.2.3.4") and capsys.readouterr().err == ""
    for name, password in (("ann", "two"), ("ann", ""), ("", ""), ("carl", "one"), ("ann", "one "), ("ann", "\udcff")):
        assert not logins.right(name, password, "1.2.3.4")
    assert not logins.right("x" * 10_000 + "\n\x1b[31m", "word-that-is-wrong", "1.2.3.4")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "login failed: 'ann' from 1.2.3.4, wrong tries: 1" and len(lines) == 7
    assert all(len(line) < 200 and line.isprintable() and "word-that" not in line for line in lines)


def test_who_guesses_waits(logins, clock):
    """An address longer and longer, a name shortly, whoever tries it; a right try ends it."""
    waits = []
    for _ in range(8):
        assert not logins.right("ann", "guess", "evil")
        waits.append(logins.wait("somebody", "evil"))
        clock[0] += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30] and logins.wait("ann", "evil") == 0
    logins.right("ann", "guess", "evil")
    assert logins.wait("ann", "elsewhere") == 2 and logins.wait("ben", "elsewhere") == 0
    clock[0] += 3
    assert logins.right("ann", "one", "elsewhere") and logins.wait("ben", "evil") == 27
    clock[0] += 27
    assert logins.right("ben", "two", "evil") and not logins.right("ben", "guess", "evil")
    assert logins.wait("ben", "evil") == 1


def test_many_addresses_take_no_memory(logins):
    for i in range(KEPT + 100):
        logins.right("ann", "guess", str(i))
    assert len(logins._wrong) == KEPT
