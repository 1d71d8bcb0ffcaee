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
}

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", dark);
}

function buildReferences() {
  if (!contents.pairs) return;
  $("reference").append(...rows.map((_, number) => element("option", { value: number }, rowName(number))));
  $("reference").addEventListener("change", ({ target }) => {
    state.reference = target.value === "" ? null : Number(target.value);
    if (state.sort === DIFFERENCE && state.reference === null) state.sort = "";
    render();
  });
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
  drawer().addEventListener("close", () => history.replaceState(null, "", location.pathname));
  $("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme !== "dark"));
  const system = matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", ({ matches }) => setTheme(matches));
  setTheme(system.matches);
  addEventListener("resize", renderPareto);
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
