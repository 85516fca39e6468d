"""What a person may ask for a study, and what comes of it in each of the study's states.

                receiving   queued      delivering   done           held        failed      cancelled   withdrawn
    retry       -           no change   no change    -              queued      queued (1)  queued      (3)
    cancel      cancelled   cancelled   -            -              -           -           no change   -
    reanalyse   -           no change   -            a generation   -           -           -           a generation
    withdraw    -           -           withdrawn    withdrawn      (2)         (2)         (2)         no change

    -    refused, with the state that the study is in
    (1)  where a destination refused its results, or never committed to them: these are sent once more, without
         another analysis
    (2)  withdrawn, where this generation or one before it has results; refused where there are none
    (3)  the notes that were not taken are sent once more, or written where they could not be

What is under way already is left alone, so that asking twice is asking once.
"""

from dataclasses import dataclass
from enum import StrEnum

from domain.errors import Refuse
from domain.states import Reason, StudyState


class Verb(StrEnum):
    RETRY = "retry"
    CANCEL = "cancel"
    REANALYSE = "reanalyse"
    WITHDRAW = "withdraw"


class Rejection(StrEnum):
    """Why results are taken back: what PACS are told (PS3.16 CID 7031), and what that means there.

    SAFETY: they must not be used. QUALITY: they are of no use. WORKLIST: they were made for the wrong patient or order.
    RETENTION: their time is over.
    """

    SAFETY = "safety"
    QUALITY = "quality"
    WORKLIST = "worklist"
    RETENTION = "retention"


SPOKEN = {
    Rejection.SAFETY: "for patient safety",
    Rejection.QUALITY: "for quality reasons",
    Rejection.WORKLIST: "because of a wrong worklist entry",
    Rejection.RETENTION: "because its time is over",
}


class Action(StrEnum):
    NOTHING = "nothing"
    QUEUE = "queue"
    SEND = "send"
    CANCEL = "cancel"
    OPEN_GENERATION = "open generation"
    WITHDRAW = "withdraw"
    WITHDRAW_AGAIN = "withdraw again"


ACTIONS = {
    Verb.RETRY: {
        StudyState.QUEUED: Action.NOTHING,
        StudyState.DELIVERING: Action.NOTHING,
        StudyState.HELD: Action.QUEUE,
        StudyState.FAILED: Action.QUEUE,
        StudyState.CANCELLED: Action.QUEUE,
        StudyState.WITHDRAWN: Action.WITHDRAW_AGAIN,
    },
    Verb.CANCEL: {
        StudyState.RECEIVING: Action.CANCEL,
        StudyState.QUEUED: Action.CANCEL,
        StudyState.CANCELLED: Action.NOTHING,
    },
    Verb.REANALYSE: {
        StudyState.QUEUED: Action.NOTHING,
        StudyState.DONE: Action.OPEN_GENERATION,
        StudyState.WITHDRAWN: Action.OPEN_GENERATION,
    },
    Verb.WITHDRAW: {
        StudyState.DELIVERING: Action.WITHDRAW,
        StudyState.DONE: Action.WITHDRAW,
        StudyState.HELD: Action.WITHDRAW,
        StudyState.FAILED: Action.WITHDRAW,
        StudyState.CANCELLED: Action.WITHDRAW,
        StudyState.WITHDRAWN: Action.NOTHING,
    },
}
CANNOT = {
    Verb.RETRY: "tried again",
    Verb.CANCEL: "cancelled",
    Verb.REANALYSE: "analysed anew",
    Verb.WITHDRAW: "withdrawn",
}
HINTS = {
    Verb.RETRY: "a study that is held, failed or cancelled can be tried again; one that is done can be analysed anew",
    Verb.CANCEL: "a study can be cancelled until its results are written",
    Verb.REANALYSE: "a study that is done can be analysed anew; one that is held, failed or cancelled is tried again",
    Verb.WITHDRAW: "cancel it first; then what earlier generations of it have sent can be withdrawn",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What came of it: the study's newest generation, as it is now. `is_changed` False: it was so before."""

    clinic: str
    study_instance_uid: str
    generation: int
    state: StudyState
    is_changed: bool


def action_for(verb: Verb, state: StudyState, reason: str) -> Action:
    """What `verb` does to the newest generation of a study.

    Raises:
        Refuse: not in this state.
    """
    action = ACTIONS[verb].get(state)
    if action is None:
        raise Refuse(f"the study is {state} and cannot be {CANNOT[verb]}", reason="wrong_state", hint=HINTS[verb])
    if action is Action.QUEUE and reason in (Reason.NOT_DELIVERED, Reason.NOT_COMMITTED):
        return Action.SEND
    return action
