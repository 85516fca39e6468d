"""The story of a study, and the engine that lets it survive any crash. Start with process_study.py."""
