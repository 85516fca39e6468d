"""Secrets are read from files or the environment, and are not said."""

from pathlib import Path

import pytest

from domain.errors import Misconfigured
from metering.stripe.keys import read_keys


@pytest.mark.parametrize("secret", ["sk_live_4eC39HqLyjW", "rk_test_4eC39HqLyjW", "whsec_4eC39HqLyjW"])
def test_a_secret_where_its_files_path_belongs_is_refused_and_not_said(tmp_path: Path, secret: str) -> None:
    with pytest.raises(Misconfigured) as refusal:
        read_keys(tmp_path / secret, None, environment={})
    assert refusal.value.message == "billing.stripe_secret_key_file is the secret itself"
    assert secret not in f"{refusal.value} {refusal.value.hint}"


def test_a_file_wins_over_the_environment(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk_test_file\n")
    keys = read_keys(tmp_path / "key", None, environment={"STRIPE_API_KEY": "sk_test_environment"})
    assert keys.secret_key == "sk_test_file"
    assert read_keys(None, None, environment={"STRIPE_API_KEY": "sk_test_environment"}).secret_key == (
        "sk_test_environment"
    )
