// Asks a typed question over the Realtime API, shows the reply's text and plays its sound as they come.

const RATE_HZ = 24000;
const shown = document.querySelector("p");

async function connect() {
  const { url, secret } = await (await fetch("/secret", { method: "POST" })).json();
  const socket = new WebSocket(url, ["realtime", `openai-insecure-api-key.${secret}`]);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = reject;
  });
  return socket;
}

// Plays pieces of 16-bit PCM one after the other.
class Player {
  #context = new AudioContext();
  #until = 0;

  play(base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const samples = new Int16Array(bytes.buffer);
    const sound = this.#context.createBuffer(1, samples.length, RATE_HZ);
    sound.getChannelData(0).set(Float32Array.from(samples, (sample) => sample / 32768));
    const source = this.#context.createBufferSource();
    source.buffer = sound;
    source.connect(this.#context.destination);
    this.#until = Math.max(this.#until, this.#context.currentTime + 0.05);
    source.start(this.#until);
    this.#until += sound.duration;
  }
}

let socket;
let player;

document.querySelector("form").onsubmit = async (event) => {
  event.preventDefault();
  const text = event.target.question.value;
  player ??= new Player(); // browsers allow sound after a click only
  if (socket?.readyState !== WebSocket.OPEN) {
    try {
      socket = await connect();
    } catch {
      shown.textContent = "The connection failed.";
      return;
    }
    socket.onmessage = ({ data }) => take(JSON.parse(data));
  }
  shown.textContent = "";
  const item = { type: "message", role: "user", content: [{ type: "input_text", text }] };
  socket.send(JSON.stringify({ type: "conversation.item.create", item }));
  socket.send(JSON.stringify({ type: "response.create" }));
};

function take(event) {
  switch (event.type) {
    case "response.output_audio_transcript.delta":
      shown.textContent += event.delta;
      break;
    case "response.output_audio.delta":
      player.play(event.delta);
      break;
    case "response.done":
      shown.dataset.status = event.response.status;
      break;
    case "error":
      shown.textContent = event.error.message;
  }
}
