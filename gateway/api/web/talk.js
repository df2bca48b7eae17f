// The conversation: joins microphone, connection and loudspeaker. It does not touch the document.

import { SAMPLE_RATE_HZ } from "./pcm.js";
import { Microphone } from "./microphone.js";
import { ServerEvents } from "./server-events.js";
import { Turn } from "./turn.js";

const MIN_SPEECH_S = 0.2;
const LIMIT_MARGIN_S = 0.3; // a turn is ended this long before the server's limit
const KEPT_SOUND_S = 900; // of replies, for playing them again: 43 MB

/**
 * The state of the conversation. Two modes: "push" (hold to talk) and "free" (the server detects the turns).
 * `onChange(turn)` is called when a turn has changed, and `onChange(null)` when the phase has changed.
 * `onError(message)` gets messages for the user. `onVoiceLost()`: the voice does not exist any more.
 * `onTranscribes(does)` tells whether the server writes down what the user says.
 */
export class Talk {
  constructor(realtime, speaker) {
    this.realtime = realtime;
    this.speaker = speaker;
    this.onChange = () => {};
    this.onError = () => {};
    this.onVoiceLost = () => {};
    this.onTranscribes = () => {};
    this.mode = "push";
    this.microphone = null;
    this.isOpening = false; // the browser opens the microphone
    this.listening = false; // the microphone's sound is sent to the server
    this.spokenS = 0; // sound sent since the button went down
    this.streamS = 0; // sound sent on this connection with turn detection
    this.userSpeaks = false; // the server detects speech
    this.level = 0;
    this.connection = "connecting";
    this.knowsVoices = false; // the list of voices was read
    this.turns = [];
    this.replayed = null; // {turn, id}: the reply that is played again
    this.replays = 0;
    this.maxInputS = 120;
    this.settings = {
      voice: "",
      instructions: "",
      transcribe: true,
      threshold: 0.5,
      silenceMs: 500,
      prefixMs: 300,
      microphone: "",
    };
    this.events = new ServerEvents(this);
    realtime.onEvent = (event) => this.events.receive(event);
    realtime.onState = (state) => this.connected(state);
    speaker.onReport = (report) => this.updatePlayback(report);
  }

  /** "offline", "idle", "opening", "ready" (the microphone is open), "listening", "waiting" or "speaking". */
  get phase() {
    if (this.connection !== "open") return "offline";
    if (this.isOpening) return "opening";
    if (this.mode === "push" ? this.listening : this.userSpeaks) return "listening";
    const turn = this.current;
    if (turn && turn.played.first !== null && !turn.playedOut) return "speaking";
    if (turn && !turn.over) return "waiting";
    return this.listening ? "ready" : "idle";
  }

  get current() {
    return this.turns.at(-1) ?? null;
  }

  /** Seconds that the user may still speak in this turn. */
  get leftS() {
    return Math.max(0, this.maxInputS - LIMIT_MARGIN_S - this.spokenS);
  }

  configure(settings) {
    const { microphone } = this.settings;
    for (const [name, value] of Object.entries(settings)) {
      if (name in this.settings) this.settings[name] = value;
    }
    const { threshold, silenceMs, prefixMs } = this.settings;
    const turns = this.mode === "free" ? { threshold, silenceMs, prefixMs } : null;
    if (this.settings.voice) this.realtime.configure({ ...this.settings, turns });
    if (this.settings.microphone !== microphone && this.microphone) this.changeMicrophone();
  }

  async setMode(mode) {
    if (mode === this.mode) return;
    this.listening = false;
    this.mode = mode;
    this.userSpeaks = false;
    this.realtime.clear();
    this.configure({});
    await this.closeMicrophone();
    this.onChange(null);
  }

  /** Push to talk: the button was pressed. Interrupts a reply. */
  async press() {
    this.stopReplay();
    this.interrupt();
    await this.openMicrophone();
    this.realtime.clear();
    this.spokenS = 0;
    this.listening = true;
    this.onChange(null);
  }

  /** Push to talk: the button was released. Commits the user's turn, and closes the microphone. */
  release() {
    if (!this.listening) return;
    this.listening = false;
    this.closeMicrophone();
    if (this.spokenS < MIN_SPEECH_S) {
      this.realtime.clear();
      this.onError("Hold the button for as long as you speak.");
      this.onChange(null);
      return;
    }
    this.begin(new Turn(performance.now()));
    this.realtime.commit();
  }

  /** Hands-free: open the microphone, or close it. */
  async toggle() {
    if (this.listening) {
      this.listening = false;
      this.userSpeaks = false;
      this.realtime.clear();
      await this.closeMicrophone();
    } else {
      this.stopReplay();
      await this.openMicrophone();
      this.listening = true;
    }
    this.onChange(null);
  }

  async write(text) {
    this.stopReplay();
    await this.speaker.open();
    this.interrupt();
    this.begin(new Turn(performance.now(), { spoken: false, text }));
    this.realtime.say(text);
  }

  /** Stop the reply, and tell the server how much of it was played. */
  interrupt() {
    const turn = this.current;
    if (!turn?.responseId || turn.playedOut) return;
    const running = !turn.over;
    turn.playedOut = true;
    this.speaker.stop(turn.responseId);
    if (turn.isLost) return; // its reply stays what it is: another connection knows nothing of it
    if (turn.itemId && turn.soundS > 0) this.realtime.truncate(turn.itemId, turn.playedS); // stops a running reply too
    else if (running) this.realtime.cancel();
    turn.outcome = "interrupted";
    this.onChange(turn);
  }

  /** Play a reply again, or stop that. */
  async replay(turn) {
    const isPlaying = this.replayed?.turn === turn;
    this.stopReplay();
    if (isPlaying) return;
    this.interrupt();
    await this.speaker.open();
    this.replays += 1;
    this.replayed = { turn, id: `replay-${this.replays}` };
    for (const samples of turn.chunks) this.speaker.play(this.replayed.id, samples);
    this.speaker.end(this.replayed.id);
    this.onChange(turn);
  }

  stopReplay() {
    if (!this.replayed) return;
    const { turn, id } = this.replayed;
    this.speaker.stop(id);
    this.replayed = null;
    this.onChange(turn);
  }

  /** Leave this conversation and begin another one. */
  async renew() {
    this.stopReplay();
    const turn = this.current;
    if (turn?.responseId) this.speaker.stop(turn.responseId);
    this.turns = [];
    this.userSpeaks = false;
    await this.realtime.renew();
    this.onChange(null);
  }

  /** Return why the model cannot use a system prompt; empty: it can, or there is no connection to ask. */
  async checkPrompt(instructions) {
    if (!instructions || !this.realtime.open) return "";
    return this.events.checked(this.realtime.check(instructions));
  }

  async openMicrophone() {
    if (this.microphone) return;
    this.isOpening = true;
    this.onChange(null);
    try {
      const [microphone] = await Promise.all([Microphone.open(this.settings.microphone), this.speaker.open()]);
      this.microphone = microphone;
    } finally {
      this.isOpening = false;
      this.onChange(null);
    }
    this.microphone.onPiece = (samples, level) => this.hear(samples, level);
    this.microphone.onEnd = () => this.microphoneLost();
  }

  hear(samples, level) {
    this.level = this.listening ? level : 0;
    if (!this.listening) return;
    const seconds = samples.length / SAMPLE_RATE_HZ;
    this.realtime.append(samples);
    if (this.mode === "free") {
      this.streamS += seconds;
      return;
    }
    const before = Math.ceil(this.leftS);
    this.spokenS += seconds;
    if (this.leftS === 0) {
      this.onError(`A turn can have ${this.maxInputS} seconds. Yours was sent.`);
      this.release();
    } else if (Math.ceil(this.leftS) !== before) {
      this.onChange(null);
    }
  }

  async closeMicrophone() {
    const { microphone } = this;
    this.microphone = null;
    this.level = 0;
    await microphone?.close();
  }

  /** Go over to the microphone of the settings while the present one is open. */
  async changeMicrophone() {
    await this.closeMicrophone();
    await this.openMicrophone().catch((error) => {
      this.listening = false;
      this.onError(error.message);
    });
  }

  microphoneLost() {
    this.onError("The microphone was taken away.");
    if (this.mode === "push") {
      this.release();
      return;
    }
    this.listening = false;
    this.closeMicrophone();
    this.onChange(null);
  }

  begin(turn) {
    this.turns.push(turn);
    let keptS = 0;
    for (const older of this.turns.toReversed()) {
      keptS += older.soundS;
      if (keptS > KEPT_SOUND_S && older.over) older.chunks = [];
    }
    this.onChange(turn);
  }

  connected(state) {
    this.connection = state;
    if (state === "lost" || state === "refused") {
      this.userSpeaks = false;
      this.streamS = 0;
      this.events.forget();
      if (this.mode === "push" && this.listening) {
        this.listening = false;
        this.closeMicrophone();
        this.onError("The connection was lost while you spoke. Please say it again.");
      }
      const turn = this.current;
      if (turn && !turn.over) this.lose(turn);
    }
    this.onChange(null);
  }

  /** The connection ended during a turn. What came of the reply is played. */
  lose(turn) {
    turn.isLost = true;
    if (turn.responseId) this.speaker.end(turn.responseId);
    if (turn.soundS === 0) turn.playedOut = true;
    const what = turn.soundS > 0 ? "the reply ends here" : "there is no reply";
    this.finish(turn, "failed", `The connection was lost: ${what}. Please ask again.`);
  }

  finish(turn, outcome, failure) {
    turn.outcome = outcome;
    if (outcome === "failed") turn.failure = failure;
    if (outcome === "interrupted" && !turn.playedOut) {
      turn.playedOut = true;
      this.speaker.stop(turn.responseId);
    }
    this.onChange(turn);
  }

  /** Take the loudspeaker's report. */
  updatePlayback({ reply, started, finished, played_s, underruns }) {
    if (reply === this.replayed?.id) {
      if (finished) this.stopReplay();
      return;
    }
    const turn = this.turns.findLast((candidate) => candidate.responseId === reply);
    if (!turn) return;
    if (started && played_s > turn.playedS) turn.mark("played", performance.now());
    turn.playedS = played_s;
    turn.underruns = underruns;
    if (finished) turn.playedOut = true;
    this.onChange(turn);
  }
}
