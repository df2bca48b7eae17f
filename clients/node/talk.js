// One spoken question and one spoken reply over gRPC. Of the server it needs the protos only.
//
//   node talk.js 127.0.0.1:50051 amber ../../samples/question_make_taco.wav reply.wav

import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const PROTOS = process.env.CHROMA_PROTOS ?? fileURLToPath(new URL("../../protos", import.meta.url));
const REPLY_RATE_HZ = 24000;
const PIECE_BYTES = 32768;

const definition = loadSync("chroma/v1/dialogue.proto", { includeDirs: [PROTOS], keepCase: true, enums: String });
const { DialogueService } = grpc.loadPackageDefinition(definition).chroma.v1;

/** Read a mono 16-bit WAV file: {rate, samples}. */
function readWav(path) {
  const file = readFileSync(path);
  let [rate, at] = [0, 12];
  while (at + 8 <= file.length) {
    const [name, size] = [file.toString("latin1", at, at + 4), file.readUInt32LE(at + 4)];
    if (name === "fmt ") {
      if (file.readUInt16LE(at + 10) !== 1 || file.readUInt16LE(at + 22) !== 16) throw new Error("not 16-bit mono");
      rate = file.readUInt32LE(at + 12);
    }
    if (name === "data") return { rate, samples: file.subarray(at + 8, at + 8 + size) };
    at += 8 + size + (size % 2);
  }
  throw new Error(`${path} has no sound`);
}

function writeWav(path, pieces) {
  const data = Buffer.concat(pieces);
  const header = Buffer.alloc(44);
  header.write("RIFF", 0);
  header.writeUInt32LE(36 + data.length, 4);
  header.write("WAVEfmt ", 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20); // PCM
  header.writeUInt16LE(1, 22); // mono
  header.writeUInt32LE(REPLY_RATE_HZ, 24);
  header.writeUInt32LE(2 * REPLY_RATE_HZ, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write("data", 36);
  header.writeUInt32LE(data.length, 40);
  writeFileSync(path, Buffer.concat([header, data]));
}

/** Ask, and resolve to the reply's sound when the turn has ended. The text is printed while it comes. */
function ask(client, voice, { rate, samples }) {
  return new Promise((resolve, reject) => {
    const call = client.Converse();
    const sound = [];
    call.on("data", ({ text, audio, turn_done: done }) => {
      if (text) process.stdout.write(text.text);
      if (audio) sound.push(audio.pcm.data);
      if (!done) return;
      call.end(); // this conversation has one turn
      if (done.outcome === "TURN_OUTCOME_COMPLETED") resolve(sound);
      else reject(new Error(done.error?.message ?? done.outcome));
    });
    call.on("error", reject); // `error.code` and `error.details` are the gRPC status
    const input_format = { encoding: "AUDIO_ENCODING_PCM_S16LE", sample_rate_hz: rate };
    const new_session = { voice_id: voice, max_reply_s: Number(process.env.MAX_REPLY_S ?? 30) };
    call.write({ open: { new_session, input_format, max_lead_s: 0 } });
    for (let at = 0; at < samples.length; at += PIECE_BYTES) {
      call.write({ audio: samples.subarray(at, at + PIECE_BYTES) });
    }
    call.write({ commit: {} });
  });
}

const [address, voice, question, reply] = process.argv.slice(2);
if (!reply) {
  console.error("usage: node talk.js HOST:PORT VOICE QUESTION.wav REPLY.wav");
  process.exit(2);
}
const client = new DialogueService(address, grpc.credentials.createInsecure());
try {
  const sound = await ask(client, voice, readWav(question));
  writeWav(reply, sound);
  const seconds = sound.reduce((sum, piece) => sum + piece.length, 0) / 2 / REPLY_RATE_HZ;
  console.log(`\n${reply}: ${seconds.toFixed(2)} s`);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  client.close();
}
