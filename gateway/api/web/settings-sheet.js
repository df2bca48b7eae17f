// The sheet of settings. The browser keeps the settings.

const KEY = "chroma-voice.settings";

/** `onChange(settings)` is called with all settings at every change. */
export class SettingsSheet {
  constructor(dialog) {
    this.dialog = dialog;
    this.form = dialog.querySelector("form");
    this.onChange = () => {};
    const { apiKey, ...kept } = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    if (apiKey !== undefined) localStorage.setItem(KEY, JSON.stringify(kept)); // earlier versions kept the key here
    for (const field of this.fields) {
      if (!(field.name in kept)) continue;
      if (field.type === "checkbox") field.checked = kept[field.name];
      else field.value = kept[field.name];
    }
    this.form.addEventListener("input", () => this.showValues());
    this.form.addEventListener("change", () => {
      localStorage.setItem(KEY, JSON.stringify(this.values));
      this.onChange(this.values);
    });
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.showValues();
  }

  get fields() {
    return [...this.form.elements].filter((field) => field.name);
  }

  get values() {
    const read = (field) => {
      if (field.type === "checkbox") return field.checked;
      return field.type === "range" ? field.valueAsNumber : field.value.trim();
    };
    return Object.fromEntries(this.fields.map((field) => [field.name, read(field)]));
  }

  show() {
    this.dialog.showModal();
  }

  showValues() {
    for (const output of this.form.querySelectorAll("output")) {
      const range = this.form.querySelector(`#${output.htmlFor}`);
      output.textContent = range.dataset.unit ? `${range.value} ${range.dataset.unit}` : Number(range.value).toFixed(2);
    }
  }
}
