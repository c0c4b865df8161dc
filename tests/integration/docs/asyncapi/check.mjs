// Reads an AsyncAPI document with AsyncAPI's own parser: prints what it found in it, and every diagnostic, as JSON.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
console.log(JSON.stringify({
  diagnostics: diagnostics.map(({ severity, path, message }) => ({ severity, path: path.join("."), message })),
  channels: document?.allChannels().all().map((channel) => channel.address()) ?? [],
  messages: document?.allMessages().all().map((message) => message.name()) ?? [],
}));
