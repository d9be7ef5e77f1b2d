"""SQLite → PostgreSQL through ADBC's drivers and Arrow: a bare table, without its key. Prints rows and seconds."""

import sys
import time

import adbc_driver_postgresql.dbapi as postgres
import adbc_driver_sqlite.dbapi as sqlite

path, table, url = sys.argv[1:4]
began = time.perf_counter()
with sqlite.connect(path) as source, postgres.connect(url) as target:
    with source.cursor() as reading, target.cursor() as writing:
        reading.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": "65536"})
        reading.execute(f'SELECT * FROM "{table}"')
        rows = writing.adbc_ingest(table, reading.fetch_record_batch(), mode="create")
        target.commit()
print(rows, time.perf_counter() - began)
