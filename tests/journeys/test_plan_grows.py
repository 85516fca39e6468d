"""A study that the clinic's plan had no model for, from the modality to the ledger, once the plan has one."""

from pathlib import Path

from tests.journeys.house import Node, Orthanc

NO_CHEST = '\n[plans.professional]\npackages = ["dental"]\n'


def test_it_is_kept_and_explained_in_the_pacs_and_analysed_and_charged_by_itself_when_the_plan_has_grown(
    node: Node, orthanc: Orthanc, chest: Path
) -> None:
    orthanc.start(node_port=node.receiver_port)
    grown = node.config.read_text()
    node.config.write_text(grown + NO_CHEST)
    receiver, worker = node.start("receiver"), node.start("worker")
    assert node.send(chest) == ["stored"]
    held = node.wait_for("held")
    assert held.reason == "not_in_plan"
    assert {result.is_note for result in held.results} == {True}
    assert (len(orthanc.instances()), node.ledger()) == (len(held.results), [])

    worker.stop()
    receiver.stop()
    node.config.write_text(grown)
    node.start("worker")
    done = node.wait_for("done")
    assert [event.event for event in done.events if event.event in ("held", "in_plan", "requeued", "charged")] == [
        "held",
        "in_plan",
        "requeued",
        "charged",
    ]
    assert len(node.ledger()) == 1
