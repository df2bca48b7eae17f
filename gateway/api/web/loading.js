// Runs before the page's modules. When one of them does not come, the page is loaded once more, and then says so.

(() => {
  const KEY = "chroma-voice.loaded-again";
  const modules = document.querySelector("script[type=module]");
  modules.addEventListener("load", () => sessionStorage.removeItem(KEY));
  modules.addEventListener("error", () => {
    if (sessionStorage.getItem(KEY) === null) {
      sessionStorage.setItem(KEY, "");
      location.reload();
      return;
    }
    sessionStorage.removeItem(KEY);
    document.querySelector("#phase").textContent = "A part of this page did not come. Please load it again.";
  });
})();
