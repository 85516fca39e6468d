"""The receiver: what modalities and PACS talk to. It knows DICOM and the disk, and nothing else."""
