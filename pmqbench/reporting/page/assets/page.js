// Brings the page to life.

function render() {
  renderForm();
  renderTable();
  renderPareto();
}

function reset() {
  Object.assign(state, structuredClone(initial), { cost: state.cost });
  $("filters").reset();
  render();
}

function download() {
  const address = URL.createObjectURL(new Blob([csvOfShown()], { type: "text/csv" }));
  element("a", { href: address, download: "leaderboard.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

function showPaper() {
  $("latex").value = latexOfShown();
  $("markdown").value = markdownOfShown();
  $("paper-view").showModal();
  for (const area of $("paper-view").querySelectorAll("textarea")) {
    area.setSelectionRange(0, 0);
    area.scrollTop = 0;
  }
}

function copyButton(text) {
  const button = element("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text());
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", dark);
}

function buildReferences() {
  if (!contents.pairs) return;
  $("reference").append(...rows.map((_, number) => element("option", { value: number }, rowName(number))));
  $("reference").addEventListener("change", ({ target }) => compareWith(target.value === "" ? null : Number(target.value)));
}

function compareWith(number) {
  state.reference = number;
  if (state.sort === DIFFERENCE && number === null) state.sort = "";
  render();
}

function buildCosts() {
  $("cost").append(...COSTS.map((name) => element("option", { value: name }, name)));
  state.cost = COSTS[0];
  $("cost").addEventListener("change", ({ target }) => {
    state.cost = target.value;
    renderPareto();
  });
}

function listen() {
  $("search").addEventListener("input", ({ target }) => {
    state.words = target.value.toLowerCase().split(/\s+/).filter(Boolean);
    render();
  });
  $("sort").addEventListener("change", ({ target }) => sortBy(target.value));
  $("direction").addEventListener("click", () => sortBy(state.sort));
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("reset").addEventListener("click", reset);
  $("csv").addEventListener("click", download);
  $("paper").addEventListener("click", showPaper);
  $("paper-view").querySelector(".close").addEventListener("click", () => $("paper-view").close());
  for (const area of $("paper-view").querySelectorAll("textarea")) area.parentElement.after(copyButton(() => area.value));
  drawer().addEventListener("close", () => history.replaceState(null, "", location.pathname));
  $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", ({ matches }) => setTheme(matches));
  setTheme(system.matches);
  addEventListener("resize", renderPareto);
  addEventListener("hashchange", openNamed);
  listenForTips();
}

function openNamed() {
  const named = new URLSearchParams(location.hash.slice(1)).get("row");
  const number = rows.findIndex((_, index) => rowName(index) === named);
  if (number >= 0) openDrawer(number);
}

buildChips();
buildPicker();
buildReferences();
buildCosts();
listen();
render();
openNamed();
