"""Structured Reports and selections: content trees in the terms of PS3.16."""
