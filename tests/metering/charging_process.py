"""Eight threads of one process, each with a study that wants quota and, where it gets some, is charged at once.

Says "ready", waits for its stdin to close, and then which studies were charged.
"""

import sys
import threading

import sqlalchemy as sa

from metering.ledger import charge
from metering.quota import reserve
from storage.database import Database
from storage.tables import studies
from tests.metering.rows import NOW


def main(url: str, first: int) -> None:
    database = Database(url)
    together = threading.Barrier(8)

    def run(number: int) -> None:
        uid = f"1.2.{number}"
        with database.read() as connection:
            study_id = connection.scalars(sa.select(studies.c.id).where(studies.c.study_instance_uid == uid)).one()
        together.wait(timeout=60)
        with database.write() as connection:
            if not reserve(connection, clinic="mercy", study_instance_uid=uid, now=NOW):
                return
        with database.write() as connection:
            charge(
                connection,
                clinic="mercy",
                study_instance_uid=uid,
                study_id=study_id,
                packages=["chest"],
                result_sop_instance_uid=f"2.25.{uid}",
                destination="pacs",
                now=NOW,
            )
        print(f"charged {uid}", flush=True)

    print("ready", flush=True)
    sys.stdin.read()
    threads = [threading.Thread(target=run, args=(number,)) for number in range(first, first + 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
