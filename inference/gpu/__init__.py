"""Serving from a device: one owner process for each, which takes images of all studies together.

    worker process (inference/analyst.py)                              owner process, one a device: owner.py
      children.py   decode, prepare: limited processes ──> trays.py ──> batches.py    which images go together
      devices.py    asks, tries again, falls back <────── outputs ───── residents.py  which networks stay loaded
                                                                        networks.py   what runs them: torch, ONNX
                                                                        device.py     memory, streams, graphs

Every file here runs with the device "cpu" as it does with "cuda:0"; what differs is in device.py alone.
"""
