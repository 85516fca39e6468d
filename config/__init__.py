"""The node's configuration: one TOML file, checked before anything starts."""
