"""Where things are kept: the database, the spool of received instances, the results, the queue of durable jobs.

database.py and tables.py are what all else here stands on; a file is about the rows whose name it has. Rooms in it:

    arrivals/   from the spool to rows, behind every C-STORE
    requests/   storage commitment and MPPS: what was asked, by either side
    answers/    what models said, and what came of it
    shared/     a store for several machines

What runs for every study, or every second, is built once, as a constant in the file that runs it: to build a statement
takes SQLAlchemy two to three times as long as to run it.
"""
