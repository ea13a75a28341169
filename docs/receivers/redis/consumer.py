"""Reads outcomes of truenroll-edge from a stream in Redis: stores each once, and only then acknowledges it."""

import json
import os
import sqlite3
from contextlib import closing, suppress

import redis

STREAM = os.environ.get("STREAM", "truenroll-outcomes")
GROUP = "application"
CONSUMER = os.environ.get("CONSUMER", "1")  # stays the same after a restart, and differs between processes

server = redis.Redis.from_url(
    os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"), protocol=2, socket_timeout=30
)


def connect():
    return closing(sqlite3.connect(os.environ.get("DATABASE", "outcomes.db")))


def store(body):
    delivery = json.loads(body)
    if delivery.get("test"):  # from `backend doctor --probe-sink`
        return
    with connect() as database, database:  # one transaction: commits, or rolls back on an exception
        # The event key is the entry's idempotency_key. Whatever else the outcome changes belongs in here, too.
        row = delivery["eventKey"], delivery["caseId"], delivery["feature"], body
        database.execute("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?)", row)


def read(position):
    # Waits for up to 10 s, less than the socket's timeout.
    found = server.xreadgroup(GROUP, CONSUMER, {STREAM: position}, count=16, block=10_000)
    return found[0][1] if found else []


def main():
    with connect() as database:
        database.execute(
            "CREATE TABLE IF NOT EXISTS outcomes (event_key TEXT PRIMARY KEY, case_id TEXT, feature TEXT, body BLOB)"
        )
    with suppress(redis.exceptions.ResponseError):  # the group exists already
        server.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    while True:  # an exception ends the process, which must be started again
        # First what was read before and not acknowledged, in the order of the stream; then what is new.
        for entry, fields in read("0") or read(">"):
            if fields:  # otherwise somebody has deleted the entry
                store(fields[b"body"])
            with server.pipeline(transaction=True) as done:
                done.xack(STREAM, GROUP, entry)
                done.xdel(STREAM, entry)  # nobody else does
                done.execute()


if __name__ == "__main__":
    main()
