"""What a person may ask for a study in each of its states."""

import pytest

from domain.care import Action, Verb, action_for
from domain.errors import Refuse
from domain.states import StudyState

TABLE = {
    # state: retry, cancel, reanalyse, withdraw; None: refused
    "receiving": (None, Action.CANCEL, None, None),
    "queued": (Action.NOTHING, Action.CANCEL, Action.NOTHING, None),
    "delivering": (Action.NOTHING, None, None, Action.WITHDRAW),
    "done": (None, None, Action.OPEN_GENERATION, Action.WITHDRAW),
    "held": (Action.QUEUE, None, None, Action.WITHDRAW),
    "failed": (Action.QUEUE, None, None, Action.WITHDRAW),
    "cancelled": (Action.QUEUE, Action.NOTHING, None, Action.WITHDRAW),
    "withdrawn": (Action.WITHDRAW_AGAIN, None, Action.OPEN_GENERATION, Action.NOTHING),
}


def test_the_table_has_every_state() -> None:
    assert set(TABLE) == set(StudyState)


@pytest.mark.parametrize("state", TABLE)
@pytest.mark.parametrize(("column", "verb"), list(enumerate(Verb)))
def test_a_verb_does_what_its_state_allows_and_is_refused_otherwise(state: str, column: int, verb: Verb) -> None:
    expected = TABLE[state][column]
    if expected is not None:
        assert action_for(verb, StudyState(state), "") is expected
        return
    with pytest.raises(Refuse, match=f"the study is {state} and cannot be "):
        action_for(verb, StudyState(state), "")


def test_a_study_whose_results_were_refused_has_them_sent_again_and_is_not_analysed_again() -> None:
    assert action_for(Verb.RETRY, StudyState.FAILED, "not_delivered") is Action.SEND
    assert action_for(Verb.RETRY, StudyState.FAILED, "keeps_failing") is Action.QUEUE
