"""Receives outcomes of truenroll-edge: verifies each, stores it once, and only then answers 2xx."""

import os
import sqlite3
from contextlib import closing

from flask import Flask, request
from standardwebhooks import Webhook, WebhookVerificationError

SECRETS = os.environ.get("SINK_SECRET", "").split()  # two while the secret is being changed
# The package takes a secret with another prefix as well, and then no signature is valid.
if not SECRETS or not all(secret.startswith("whsec_") for secret in SECRETS):
    raise SystemExit("SINK_SECRET must be a secret that begins with whsec_, or several with spaces between them")
WEBHOOKS = [Webhook(secret) for secret in SECRETS]

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 65 << 20  # a translation is up to 64 MiB


def connect():
    return closing(sqlite3.connect(os.environ.get("DATABASE", "outcomes.db")))


with connect() as database:
    database.execute(
        "CREATE TABLE IF NOT EXISTS outcomes (event_key TEXT PRIMARY KEY, case_id TEXT, feature TEXT, body BLOB)"
    )
    database.execute("CREATE TABLE IF NOT EXISTS erased (case_id TEXT PRIMARY KEY)")


def verified(body):
    for webhook in WEBHOOKS:
        try:
            return webhook.verify(body, request.headers)
        except (WebhookVerificationError, ValueError):  # ValueError: not UTF-8, or not base64
            continue
    return None


@app.post("/outcomes")
def receive():
    body = request.get_data()  # the bytes as they arrived, which the signature covers
    delivery = verified(body)
    if delivery is None:
        return "", 401
    if delivery.get("test"):  # from `backend doctor --probe-sink`
        return "", 204
    with connect() as database, database:  # one transaction: commits, or rolls back on an exception
        if database.execute("SELECT 1 FROM erased WHERE case_id = ?", [delivery["caseId"]]).fetchone():
            return "", 410  # never again
        # The event key is the Idempotency-Key. Whatever else the outcome changes belongs in here, too.
        row = delivery["eventKey"], delivery["caseId"], delivery["feature"], body
        database.execute("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?)", row)
    return "", 204


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "3000")))
