"""Stripe as a copy of the ledger: what it has to know is sent to it, and what it decides is brought back.

    ledger row -> outbox.py -> sender.py -> meter.py, invoice_items.py     what was used
                               reconcile.py, settle.py                     whether that is what was billed
    catalogue.py, customers.py                                             what can be bought, and who buys
    webhooks.py -> effects.py -> metering.subscriptions                    what became of it
    entitlements.py                                                        which models were bought

Nothing of a patient and no UID ever goes there: a study is a number of the ledger and a keyed hash.
"""
