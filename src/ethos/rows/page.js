// Filters over rows that are in the page already; what is asked for stands in the address, so that it can be shared.
const form = document.querySelector("form");
const rows = Array.from(document.querySelectorAll("article"), (place) => ({
  place,
  kind: place.dataset.kind,
  stage: place.dataset.stage,
  about: place.dataset.about.split(", "),
  text: place.textContent.toLowerCase(),
}));
const number = new Intl.NumberFormat("en");

function show() {
  const asked = Object.fromEntries(new FormData(form));
  const words = asked.q.trim().toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const fits =
      (!asked.kind || row.kind === asked.kind) &&
      (!asked.stage || row.stage === asked.stage) &&
      (!asked.about || row.about.includes(asked.about)) &&
      row.text.includes(words);
    row.place.hidden = !fits;
    shown += fits;
  }
  form.querySelector("output").value = `${number.format(shown)} of ${number.format(rows.length)} rows`;
  const kept = new URLSearchParams(Object.entries(asked).filter(([, value]) => value));
  history.replaceState(null, "", kept.size ? `#${kept}` : location.pathname + location.search);
}

function fill() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (form.elements[name]) form.elements[name].value = value;
  }
  show();
}

let waiting;
form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(show, 120);
});
form.addEventListener("reset", () => setTimeout(show));
form.addEventListener("submit", (event) => event.preventDefault());
addEventListener("hashchange", fill);
form.hidden = false;
fill();
