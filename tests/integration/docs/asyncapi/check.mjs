// Reads AsyncAPI documents with AsyncAPI's own parser: prints what it found in each, and every diagnostic, as JSON.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const found = [];
for (const file of process.argv.slice(2)) {
  const { document, diagnostics } = await new Parser().parse(readFileSync(file, "utf8"));
  found.push({
    diagnostics: diagnostics.map(({ severity, path, message }) => ({ severity, path: path.join("."), message })),
    channels: document?.allChannels().all().map((channel) => channel.address()) ?? [],
    messages: document?.allMessages().all().map((message) => message.name()) ?? [],
  });
}
console.log(JSON.stringify(found));
