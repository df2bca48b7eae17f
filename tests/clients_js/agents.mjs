// OpenAI's agents package over Realtime: `node agents.mjs SCENARIO ws://host:port/v1/realtime SPEECH`.
// SPEECH: an utterance, 16-bit little-endian at 24 kHz. Prints one JSON line with its observations.
import { readFileSync } from "node:fs";
import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession, tool } from "@openai/agents/realtime";
import { z } from "zod";

const [scenario, url, file] = process.argv.slice(2);
const seen = { errors: [], events: [], turns: 0, audioBytes: 0, interrupted: 0, calls: [], handoffs: [] };
const weather = tool({
  name: "get_weather",
  description: "The weather of a city",
  parameters: z.object({ city: z.string() }),
  execute: async ({ city }) => { seen.calls.push(city); return "clear"; },
});
const cook = new RealtimeAgent({ name: "Cook", instructions: "You are a cook.", handoffDescription: "Knows tacos" });
const agents = {
  calls: new RealtimeAgent({ name: "Guide", instructions: "You are a guide.", voice: "bob", tools: [weather] }),
  handoff: new RealtimeAgent({ name: "Guide", instructions: "You are a guide.", voice: "bob", handoffs: [cook] }),
};
const settings = {
  outputModalities: ["audio"],
  audio: {
    input: {
      noiseReduction: { type: "near_field" },
      turnDetection: { type: "server_vad", idleTimeoutMs: 6000, silenceDurationMs: 300 },
    },
    output: { speed: 1.2 },
  },
};
const agent = agents[scenario] ?? new RealtimeAgent({ name: "Test", instructions: "Be brief.", voice: "bob" });
const transport = new OpenAIRealtimeWebSocket({ url });
const session = new RealtimeSession(agent, { transport, model: "chroma-1.0", config: scenario === "talk" ? {} : settings });

const waiting = [];
const until = (type, fits = () => true) => new Promise((resolve) => { waiting.push({ type, fits, resolve }); });
session.on("error", (error) => seen.errors.push(JSON.stringify(error)));
session.on("audio", (audio) => { seen.audioBytes += audio.data.byteLength; });
session.on("audio_interrupted", () => { seen.interrupted += 1; });
session.on("agent_handoff", (_, from, to) => { seen.handoffs.push([from.name, to.name]); });
session.transport.on("*", (event) => {
  if (event.type === "session.created") seen.session = event.session.id;
  if (event.type === "response.done") { seen.turns += 1; seen.status = event.response.status; }
  for (const [index, wait] of [...waiting.entries()].reverse()) {
    if (wait.type === event.type && wait.fits(event)) { waiting.splice(index, 1); wait.resolve(event); }
  }
});
const turn = () => until("response.done");
const spokenTurn = () => until("response.done", (event) => event.response.output.some((item) => item.type === "message"));
const send = async (pcm) => {
  for (let start = 0; start < pcm.byteLength; start += 4800) {
    session.sendAudio(pcm.buffer.slice(pcm.byteOffset + start, pcm.byteOffset + Math.min(start + 4800, pcm.byteLength)));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};
// Waits until the package's history has an item of this kind.
const written = async (fits) => {
  while (!session.history.some(fits)) await new Promise((resolve) => { session.once("history_updated", resolve); });
};
const state = () => ({ turns: seen.turns, audioBytes: seen.audioBytes, status: seen.status });

const scenarios = {
  // A text, then an utterance that the server finds.
  async talk() {
    let done = turn();
    session.sendMessage("Please tell me how to make a taco.");
    await done;
    seen.afterText = state();
    done = turn();
    await send(new Uint8Array(readFileSync(file)));
    await send(new Uint8Array(48000 * 2)); // two seconds of silence
    await done;
    seen.afterSpeech = state();
  },
  async calls() {
    const done = spokenTurn();
    session.sendMessage("Is it warm in Bern?");
    await done;
  },
  async handoff() {
    const done = spokenTurn();
    session.sendMessage("How do I make a taco?");
    await done;
  },
  // One reply, whose text is then changed, and another turn.
  async edit() {
    let done = turn();
    session.sendMessage("Hello.");
    await done;
    await written((item) => item.role === "assistant" && item.status === "completed");
    const replaced = until("conversation.item.added", (event) => event.item.role === "assistant");
    session.updateHistory((history) => history.map((item) => (
      item.role === "assistant" ? { ...item, content: [{ type: "output_text", text: "Good morning." }] } : item
    )));
    await replaced;
    done = turn();
    session.sendMessage("And now?");
    await done;
  },
  // A turn, then the gateway goes away. The program connects again, to the same session, and takes another turn.
  async drained() {
    let done = turn();
    const left = new Promise((resolve) => {
      transport.on("connection_change", (status) => { if (status === "disconnected") resolve(); });
    });
    session.sendMessage("Hello.");
    await done;
    await left;
    await session.connect({ apiKey: "none", url: `${url}?session_id=${seen.session}` });
    done = turn();
    session.sendMessage("And now?");
    await done;
  },
  // A reply is stopped by the program while its sound comes.
  async interrupt() {
    const sound = until("response.output_audio.delta");
    let done = turn();
    session.sendMessage("Hello.");
    await sound;
    session.interrupt();
    await done;
    seen.afterInterrupt = seen.status;
    done = turn();
    session.sendMessage("And now?");
    await done;
  },
};
await session.connect({ apiKey: "none" });
const limit = setTimeout(() => { seen.errors.push("no end within 100 s"); finish(); }, 100_000);
const finish = () => {
  clearTimeout(limit);
  seen.history = session.history.map((item) => ({ role: item.role, content: item.content?.map((part) => part.type) }));
  session.close();
  console.log(JSON.stringify(seen));
  process.exit(0);
};
await scenarios[scenario]();
finish();
