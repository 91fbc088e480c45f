// A producer in Node: npm install amqplib, then AMQP_URL=amqp://... node producer.js org-123 100
//
// Publishes persistent messages with confirms and `mandatory`, and waits for all confirms before it closes: a message
// whose producer closes at once may be lost. Ends with 1 if an event is not confirmed; publish it again with the same event_id.
"use strict";

const { randomUUID } = require("node:crypto");
const amqp = require("amqplib");

const EXCHANGE = process.env.CNS_EVENTS_EXCHANGE || "cns.events";
const [organization = "org-123", count = "100"] = process.argv.slice(2);

function event(number, bomId) {
  return {
    // The same for each attempt of a step: built from its run, its name and the event.
    event_id: `${bomId}/enrichment/${number}`,
    event_type: "enrichment_progress",
    bom_id: bomId,
    organization_id: organization,
    workflow_id: `enrich-${bomId}`,
    source: "customer",
    state: { status: "running", percent: number },
    payload: { mpn: `MPN-${number}`, status: "matched", confidence: 0.97, supplier: "DigiKey" },
    created_at: new Date().toISOString(),
  };
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createConfirmChannel();
  const returned = new Set();
  channel.on("return", (message) => returned.add(message.properties.messageId));

  const bomId = randomUUID();
  const confirms = Array.from({ length: Number(count) }, (_, number) => {
    const body = event(number, bomId);
    const properties = {
      mandatory: true, // returned, instead of lost, if no queue takes it
      persistent: true,
      contentType: "application/json",
      messageId: body.event_id,
      type: body.event_type,
      priority: 4,
      appId: "producer.js",
      timestamp: Math.floor(Date.now() / 1000),
    };
    return new Promise((resolve) => {
      const content = Buffer.from(JSON.stringify(body));
      // A broker that returns a message confirms it too; the return comes first.
      channel.publish(EXCHANGE, "cns.enrichment.progress", content, properties, (error) =>
        resolve(!error && !returned.has(body.event_id)));
    });
  });
  const confirmed = (await Promise.all(confirms)).filter(Boolean).length;
  console.log(`confirmed: ${confirmed}, left: ${confirms.length - confirmed}`);
  await connection.close();
  process.exitCode = confirmed === confirms.length ? 0 : 1;
}

main().catch((error) => {
  console.error(`not published: ${error.message}`);
  process.exitCode = 1;
});
