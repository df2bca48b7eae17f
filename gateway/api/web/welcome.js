// What stands where there is no conversation yet: what the model knows and questions to ask it, or what is missing.

/** `onAsk(question)` is called with an example that was chosen. */
export class Welcome {
  constructor(root) {
    this.root = root;
    this.title = root.querySelector("#welcome-title");
    this.text = root.querySelector("#welcome-text");
    this.knows = root.querySelector("#welcome-knows");
    this.examples = root.querySelector("#examples");
    this.addVoice = root.querySelector("#welcome-voices");
    this.keyForm = root.querySelector("#key-form");
    this.onAsk = () => {};
    this.card = null;
    this.isRefused = false;
  }

  /** @param {{summary: string, topics: string[], examples: string[]} | null} card what the checkpoint says of itself */
  describe(card) {
    this.card = card;
    const topics = card?.topics ?? [];
    this.knows.textContent = topics.length ? `It knows about ${enumerate(topics)}.` : "";
    const chips = (card?.examples ?? []).map((question) => {
      const chip = Object.assign(document.createElement("button"), { type: "button", textContent: question });
      chip.className = "example";
      chip.addEventListener("click", () => this.onAsk(question));
      return chip;
    });
    this.examples.replaceChildren(...chips);
  }

  /** Invite to talk, or to add a voice if there is none. */
  invite(hasVoice) {
    this.isRefused = false;
    const plain = "You hear and read the reply while it is made. Speak at any time to interrupt it.";
    this.title.textContent = hasVoice ? "Say something." : "No voice yet.";
    this.text.textContent = hasVoice
      ? this.card?.summary || plain
      : "Replies are spoken in a cloned voice. Record ten seconds of speech to add one.";
    this.knows.hidden = !hasVoice || !this.knows.textContent;
    this.examples.hidden = !hasVoice || !this.examples.hasChildNodes();
    this.addVoice.hidden = hasVoice;
    this.keyForm.hidden = true;
  }

  /** Say which credential the server wants, and ask for an API key if it is one. */
  refuse(needsToken) {
    this.isRefused = true;
    this.title.textContent = "No access yet.";
    this.text.textContent = needsToken
      ? "The server was started again. Load this page again to talk to it."
      : "This server needs an API key.";
    this.knows.hidden = this.examples.hidden = this.addVoice.hidden = true;
    this.keyForm.hidden = needsToken;
  }
}

function enumerate(words) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
