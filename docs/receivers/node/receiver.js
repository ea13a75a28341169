// Receives outcomes of truenroll-edge: verifies each, stores it once, and only then answers 2xx.
import { createServer } from "node:http";
import Database from "better-sqlite3";
import { Webhook } from "standardwebhooks";

const { SINK_SECRET = "", DATABASE = "outcomes.db", PORT = "3000" } = process.env;
const secrets = SINK_SECRET.split(" ").filter(Boolean); // two while the secret is being changed
// The package takes a secret without the prefix as well, and then no signature is valid.
if (!secrets.length || !secrets.every((secret) => secret.startsWith("whsec_"))) {
  console.error("SINK_SECRET must be a secret that begins with whsec_, or several with spaces between them");
  process.exit(1);
}
const webhooks = secrets.map((secret) => new Webhook(secret));

const database = new Database(DATABASE);
database.exec(`CREATE TABLE IF NOT EXISTS outcomes (event_key TEXT PRIMARY KEY, case_id TEXT, feature TEXT, body BLOB);
               CREATE TABLE IF NOT EXISTS erased (case_id TEXT PRIMARY KEY);`);
const erased = database.prepare("SELECT 1 FROM erased WHERE case_id = ?");
const insert = database.prepare("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?)");

const store = database.transaction(({ eventKey, caseId, feature }, body) => {
  if (erased.get(caseId)) return 410; // never again
  // The event key is the Idempotency-Key. Whatever else the outcome changes belongs in here, too.
  insert.run(eventKey, caseId, feature, body);
  return 204;
});

async function receive(request) {
  if (request.method !== "POST" || request.url !== "/outcomes") return 404;
  const chunks = []; // the bytes as they arrived, which the signature covers
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > 65 << 20) return 413; // a translation is up to 64 MiB
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  for (const webhook of webhooks) {
    let delivery;
    try {
      delivery = webhook.verify(body, request.headers);
    } catch {
      continue;
    }
    return delivery.test ? 204 : store(delivery, body); // a test is from `backend doctor --probe-sink`
  }
  return 401;
}

createServer(async (request, response) => {
  const status = await receive(request).catch((error) => (console.error(error.message), 500));
  response.writeHead(status).end();
}).listen(Number(PORT), "127.0.0.1");
