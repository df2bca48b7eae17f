// What this tab keeps of its conversation over a reload: the id of the session, and the words that the user spoke,
// which the server does not store. The rest of the conversation is the server's.

import { ask } from "./server.js";
import { Turn } from "./turn.js";

const KEY = "chroma-voice.conversation";

/** The conversation that this tab keeps. */
export class Kept {
  constructor() {
    const { sessionId = "", words = {} } = JSON.parse(sessionStorage.getItem(KEY) ?? "{}");
    this.sessionId = sessionId;
    this.words = words;
  }

  /** Note the session of the conversation. A new one begins without words. */
  begin(sessionId) {
    if (sessionId === this.sessionId) return;
    this.sessionId = sessionId;
    this.words = {};
    this.save();
  }

  /** Note what the user said in a turn. */
  note({ turnId, userText, spoken }) {
    if (!spoken || !turnId || !userText || this.words[turnId] === userText) return;
    this.words[turnId] = userText;
    this.save();
  }

  /** Return the turns of the conversation, oldest first. The server may have forgotten it: then there are none. */
  async turns() {
    if (!this.sessionId) return [];
    let items;
    try {
      ({ items } = await ask(`v1/sessions/${encodeURIComponent(this.sessionId)}`));
    } catch (error) {
      if (error.status !== 404) throw error;
      this.begin("");
      return [];
    }
    const ids = [...new Set(items.map((item) => item.turn_id))];
    return ids.map((id) => {
      const of = (role) => items.find((item) => item.turn_id === id && item.role === role);
      return Turn.restored(id, of("user"), of("assistant"), this.words[id] ?? "");
    });
  }

  save() {
    sessionStorage.setItem(KEY, JSON.stringify({ sessionId: this.sessionId, words: this.words }));
  }
}
