// The microphone as a stream of 16-bit PCM at 24 kHz.

const CONSTRAINTS = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/**
 * An open microphone. `onPiece(samples, level)` gets 40 ms of Int16 samples at a time and their RMS level. `onEnd()` is
 * called when the browser takes the microphone away.
 */
export class Microphone {
  constructor(stream, context, source, node) {
    this.stream = stream;
    this.context = context;
    this.source = source;
    this.node = node;
    this.onPiece = () => {};
    this.onEnd = () => {};
    stream.getAudioTracks()[0].addEventListener("ended", () => this.onEnd());
    node.port.onmessage = ({ data }) => this.onPiece(data.samples, data.level);
  }

  /**
   * Ask for the microphone and open it. Throws an Error whose message can be shown to the user.
   * @param {string} deviceId empty: the browser's default; also where there is no such device any more
   */
  static async open(deviceId = "") {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers allow the microphone only over HTTPS and on localhost. Start with --tls.");
    }
    let stream;
    try {
      stream = await openStream(deviceId);
    } catch (error) {
      throw new Error(MESSAGES[error.name] ?? `The microphone could not be opened: ${error.message}`);
    }
    const context = new AudioContext({ latencyHint: "interactive" });
    await context.audioWorklet.addModule("capture-worklet.js");
    const source = context.createMediaStreamSource(stream);
    const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    source.connect(node);
    await context.resume();
    return new Microphone(stream, context, source, node);
  }

  async close() {
    this.onPiece = () => {};
    for (const track of this.stream.getTracks()) track.stop();
    this.source.disconnect();
    await this.context.close();
  }
}

async function openStream(deviceId) {
  const open = (audio) => navigator.mediaDevices.getUserMedia({ audio });
  if (!deviceId) return open(CONSTRAINTS);
  try {
    return await open({ ...CONSTRAINTS, deviceId: { exact: deviceId } });
  } catch (error) {
    if (error.name !== "OverconstrainedError") throw error;
    return open(CONSTRAINTS); // it is not connected any more
  }
}

const MESSAGES = {
  NotAllowedError: "The microphone is blocked for this page. Allow it in the browser's address bar.",
  NotFoundError: "No microphone was found.",
  NotReadableError: "The microphone is in use by another program.",
};
