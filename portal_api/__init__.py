"""The portal's REST interface: what was done to each study and why, what it cost, and whether the node is well."""
