// The sound of both sides in the last seconds: the user's below the line, the reply's above it.

const STEP_MS = 50;
const BAR_PX = 2;
const GAP_PX = 2;
const MIN_PX = 1;

/** Draws into `canvas`. */
export class Waves {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.steps = []; // the levels of both sides, 0 to 1, oldest first
    this.stepAt = 0;
    this.loudest = { you: 0, reply: 0 };
    this.isStill = true;
    this.readColours();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.readColours());
  }

  readColours() {
    const style = getComputedStyle(this.canvas);
    this.colours = ["--you", "--accent", "--line"].map((name) => style.getPropertyValue(name).trim());
  }

  /** Called at every frame of the screen, with the levels of this moment. Nothing is drawn while it stays silent. */
  add(you, reply, now) {
    this.loudest.you = Math.max(this.loudest.you, you);
    this.loudest.reply = Math.max(this.loudest.reply, reply);
    if (now - this.stepAt < STEP_MS) return;
    this.stepAt = now;
    this.steps.push(this.loudest);
    this.loudest = { you: 0, reply: 0 };
    const width = this.canvas.clientWidth;
    const count = Math.floor(width / (BAR_PX + GAP_PX));
    this.steps.splice(0, this.steps.length - count);
    const isStill = this.steps.every((step) => step.you === 0 && step.reply === 0);
    if (isStill && this.isStill && this.drawnWidth === width) return;
    this.isStill = isStill;
    this.draw(width, this.canvas.clientHeight);
  }

  draw(width, height) {
    const { canvas, context } = this;
    const scale = devicePixelRatio;
    canvas.width = width * scale;
    canvas.height = height * scale;
    this.drawnWidth = width;
    context.scale(scale, scale);
    const [you, reply, line] = this.colours;
    const middle = height / 2;
    if (this.isStill) return;
    context.fillStyle = line;
    context.fillRect(0, middle - 0.5, width, 1);
    this.steps.forEach((step, i) => {
      const x = width - (this.steps.length - i) * (BAR_PX + GAP_PX);
      const bar = (level, colour, direction) => {
        if (level === 0) return;
        const length = Math.max(MIN_PX, level * (middle - 1));
        context.fillStyle = colour;
        context.fillRect(x, direction < 0 ? middle - 1 - length : middle + 1, BAR_PX, length);
      };
      bar(step.reply, reply, -1);
      bar(step.you, you, 1);
    });
  }
}
