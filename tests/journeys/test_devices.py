"""A node with a device, and one whose GPU is not there: the study gets its results, and its history says from where."""

from pathlib import Path

from tests.journeys.house import Node, Orthanc, wait_until

STUDY = "1.3.6.1.4.1.5962.1.2.9.20040826185059.5457"


def configure(node: Node, device: str, more: str = "") -> None:
    with open(node.config, "a") as config:
        config.write(
            f'\n[inference]\ndevices = ["{device}"]\npinned_packages = ["chest"]\nmemory_limit_mb = 8192\n{more}'
        )


def test_a_study_is_analysed_on_the_device_though_it_is_encrypted_at_rest(
    sqlite_node: Node, orthanc: Orthanc, chest: Path
) -> None:
    node, key_file = sqlite_node, sqlite_node.folder / "keys"
    key_file.write_text("6f" * 32)
    configure(node, "cpu", f'\n[storage]\nencryption_key_file = "{key_file}"\n')
    orthanc.start(node_port=node.receiver_port)
    serving = node.start("serve")
    log = node.folder / "serve.log"
    wait_until(lambda: "network_loaded" in log.read_text(), "the pinned network is loaded")
    node.send(chest)
    history = node.wait_for("done", STUDY)
    assert [result.kind for result in history.results] == ["overlay", "measurement_sr", "text_sr"]
    assert "chest 1.0.0" in [event.detail for event in history.events if event.event == "analysed"]
    assert node.counts().device_failed == ()
    assert "device=cpu" in next(line for line in log.read_text().splitlines() if "image_analysed" in line)
    assert serving.stop() == 0


def test_a_gpu_that_is_not_there_is_stood_in_for_by_the_cpu_and_everybody_is_told(
    sqlite_node: Node, orthanc: Orthanc, chest: Path
) -> None:
    node = sqlite_node
    configure(node, "cuda:99")
    orthanc.start(node_port=node.receiver_port)
    node.start("serve")
    node.send(chest)
    history = node.wait_for("done", STUDY)
    (analysed,) = [event.detail for event in history.events if event.event == "analysed"]
    assert analysed == "chest 1.0.0 on cpu instead of cuda:99"
    assert [(count.labels, count.value) for count in node.counts().device_failed] == [(("st-mary",), 1.0)]
    assert [row.study_instance_uid for row in node.ledger()] == [STUDY]
    assert "device_failed" in (node.folder / "serve.log").read_text()
    said = node.run("doctor").stdout.splitlines()
    (line,) = [line for line in said if "device cuda:99" in line]
    assert line.startswith("note  device cuda:99: cuda:99 cannot be used: ")
