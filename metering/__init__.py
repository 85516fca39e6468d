"""What a clinic has used and what it owes: quota reserved before work, one ledger row a study."""
