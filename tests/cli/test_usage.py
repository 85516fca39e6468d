"""Exit statuses: 0 done, 1 the thing asked for failed, 2 wrong usage or configuration; one clear line each."""

import pytest

from cli.__main__ import VERBS, main
from domain.errors import Misconfigured, Refuse, Retry


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    assert VERBS[verb] in " ".join(capsys.readouterr().out.split())


BECAUSE = ["study", "1.2.3", "--withdraw", "because"]


@pytest.mark.parametrize(
    "arguments", [[], ["sned"], ["serve", "--confg", "x"], ["send"], ["study"], ["models"], BECAUSE]
)
def test_wrong_usage_is_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: collimator" in capsys.readouterr().err


def test_why_without_a_reason_that_a_pacs_knows_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "1.2.3", "--why", "it was upside down"]) == 2
    assert "--withdraw REASON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (Misconfigured("a key is wrong", hint="mend it"), 2, "collimator: a key is wrong (mend it)\n"),
        (Refuse("it is not there", reason="x"), 1, "collimator: it is not there\n"),
        (Retry("nobody answers", hint="start it"), 1, "collimator: nobody answers (start it)\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_with_what_to_do(
    error: BaseException,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_args: object) -> int:
        raise error

    monkeypatch.setattr("cli.migrate.run", fail)
    assert main(["migrate"]) == status
    assert capsys.readouterr() == ("", line)
