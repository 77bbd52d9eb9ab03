// The page: a row a cell, filters over the rows, and a picture in each row once it is near the screen.

const report = JSON.parse(document.getElementById("report").textContent);
const cells = report.cells ?? [];
const form = document.getElementById("filters");
const FILTERS = ["verdict", "subject", "fixture", "runtime", "shell"];
const all = Object.fromEntries(FILTERS.map((name) => [name, [...new Set(cells.map((cell) => cell[name]))]]));
const several = (name) => all[name].length > 1;

function summary() {
  const { pass, fail, inconclusive } = report.summary;
  const counts = [["cells", cells.length, ""], ["as expected", pass, "pass"], ["failed", fail, "fail"], ["inconclusive", inconclusive, "inconclusive"]];
  const list = document.getElementById("summary");
  for (const [name, count, kind] of counts) {
    list.append(html("div", { class: count > 0 ? kind : "" }, html("dt", {}, name), html("dd", {}, String(count))));
  }
  const { os, kernel, arch, cores, backend, deadbeat } = report.host;
  const part = report.partition ? `part ${report.partition}, ` : "";
  document.getElementById("host").textContent =
    `${part}${os} ${kernel}, ${arch}, ${cores} core${cores === 1 ? "" : "s"}, groups by ${backend}, deadbeat ${deadbeat}`;
}

function legend() {
  const sign = (draw, name) => {
    const band = new Band(100, 14);
    draw(band);
    return html("span", {}, html("span", { class: "sign" }, band.element), name);
  };
  document.getElementById("legend").append(
    sign((band) => band.bar("grace", 0, 100, 5, 4), "grace"),
    sign((band) => band.bar("life leader", 0, 100, 4, 6), "leader"),
    sign((band) => band.bar("life", 0, 100, 4, 6), "other members"),
    sign((band) => band.mark("signal SIGTERM", 50), "signal"),
    sign((band) => band.mark("signal SIGKILL", 50), "SIGKILL"),
    sign((band) => band.bar("beats", 0, 100, 3, 9), "beats"),
    sign((band) => band.bar("stall", 0, 100, 3, 9), "stall"),
    sign((band) => band.bar("stall doubt", 0, 100, 3, 9), "doubtful stall"),
    sign((band) => (band.bar("life", 0, 98, 4, 6), band.mark("left", 98)), "still there"),
    sign((band) => band.mark("returned", 50), "the subject returned"),
  );
}

// Why a cell is not as expected stands in its row: its beginning, where it is long.
function because(cell) {
  if (cell.verdict === "pass" || !cell.why) return undefined;
  const short = cell.why.length > 400 ? `${cell.why.slice(0, 400)} …` : cell.why;
  return html("span", { class: `because ${cell.verdict}` }, short);
}

function row(cell) {
  const repeat = cell.repeat ? ` #${cell.repeat}` : "";
  const shell = several("shell") ? ` · ${cell.shell}` : "";
  const starved = cell.pulse?.verdict === "starved";
  const caught = starved && cell.known_bad ? "caught" : "";
  const pulse = starved ? `starved ${time(cell.pulse.longest_ms)}` : (cell.pulse?.verdict ?? "no pulse");
  const picture = html("span", { class: "glance", role: "img", "aria-label": inWords(cell) });
  const line = html(
    "summary",
    {},
    html("span", { class: `verdict ${cell.verdict}` }, cell.verdict),
    html("span", { class: "fixture" }, cell.fixture + repeat),
    html("span", { class: "runtime" }, (cell.runtime === "none" ? "no runtime" : cell.runtime) + shell),
    html("span", { class: "outcome" }, cell.outcome ? cell.outcome.replace("_", " ") : "outcome ?"),
    html("span", { class: "elapsed" }, time(cell.elapsed_ms)),
    html("span", { class: `pulse ${cell.pulse?.verdict ?? ""} ${caught}` }, pulse),
    picture,
    because(cell),
  );
  const element = html("details", { class: "cell" }, line);
  element.addEventListener("toggle", () => {
    if (element.open && element.children.length === 1) element.append(details(cell));
  });
  const words = [cell.subject, cell.fixture, cell.runtime, cell.shell, cell.outcome, cell.verdict, cell.why, pulse];
  const culprits = (cell.pulse?.stalls ?? []).map(culprit);
  return { cell, element, picture, text: [...words, ...culprits].join("\n").toLowerCase() };
}

// What is not as expected comes first; the rest by subject.
function groups(rows) {
  const groups = new Map();
  const off = "Not as expected";
  if (rows.some(({ cell }) => cell.verdict !== "pass")) groups.set(off, []);
  const failed = ({ cell }) => cell.verdict === "fail";
  for (const row of [...rows.filter(failed), ...rows.filter((row) => !failed(row))]) {
    const name = row.cell.verdict === "pass" ? row.cell.subject : off;
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  return [...groups].map(([name, rows]) => {
    const bad = name !== off && rows[0].cell.known_bad;
    const count = html("span", { class: "quiet" });
    const heading = html("h2", {}, name, bad ? html("span", { class: "quiet" }, "known to be bad, and caught") : null, count);
    if (name === off) {
      for (const { cell, element } of rows) element.querySelector(".fixture").prepend(`${cell.subject} · `);
    }
    const element = html("section", {}, heading, html("div", { class: "rows" }, ...rows.map((row) => row.element)));
    return { element, rows, count };
  });
}

function filter(groups) {
  const wanted = Object.fromEntries(FILTERS.map((name) => [name, form.elements[name].value]));
  const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const { element, rows, count } of groups) {
    let here = 0;
    for (const row of rows) {
      const fits = FILTERS.every((name) => !wanted[name] || row.cell[name] === wanted[name]);
      const show = fits && words.every((word) => row.text.includes(word));
      if (row.element.hidden === show) row.element.hidden = !show;
      here += show;
    }
    element.hidden = here === 0;
    count.textContent = here === rows.length ? `${here}` : `${here} of ${rows.length}`;
    shown += here;
  }
  document.getElementById("shown").textContent = `${shown} of ${cells.length} cells`;
  document.getElementById("nothing").hidden = shown > 0;
}

// The filters are in the address, so that a view can be passed on.
function remember() {
  const chosen = new URLSearchParams();
  for (const name of [...FILTERS, "text"]) if (form.elements[name].value) chosen.set(name, form.elements[name].value);
  history.replaceState(null, "", `#${chosen}`);
}

function recall() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if ([...FILTERS, "text"].includes(name)) form.elements[name].value = value;
  }
}

function filters(groups) {
  for (const name of FILTERS) {
    const select = form.elements[name];
    select.append(html("option", { value: "" }, "all"), ...all[name].map((value) => html("option", { value }, value)));
    select.closest("label").hidden = !several(name);
  }
  recall();
  const apply = () => (filter(groups), remember());
  form.addEventListener("input", apply);
  // Its fields are empty only after the event.
  form.addEventListener("reset", () => setTimeout(() => (apply(), form.elements.same.dispatchEvent(new Event("change")))));
  form.addEventListener("submit", (event) => event.preventDefault());
  filter(groups);
}

// Thousands of pictures are drawn as they come near the screen.
function pictures(rows) {
  const end = Math.max(...cells.map((cell) => story(cell).end));
  const rowOf = new Map(rows.map((row) => [row.element, row]));
  const draw = ({ cell, picture }) => picture.replaceChildren(glance(cell, form.elements.same.checked ? end : undefined));
  const watch = new IntersectionObserver(
    (seen) => {
      for (const { target, isIntersecting } of seen) {
        if (!isIntersecting) continue;
        watch.unobserve(target);
        draw(rowOf.get(target));
      }
    },
    { rootMargin: "600px" },
  );
  const again = () => rows.forEach(({ element }) => watch.observe(element));
  form.elements.same.addEventListener("change", () => (watch.disconnect(), again()));
  // Paper has no screen to come near to.
  addEventListener("beforeprint", () => rows.forEach(draw));
  again();
}

function theme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const say = () => (button.textContent = dark() ? "Light" : "Dark");
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    say();
  });
  system.addEventListener("change", say);
  say();
}

const rows = cells.map(row);
const sections = groups(rows);
summary();
legend();
theme();
filters(sections);
document.getElementById("cells").append(...sections.map(({ element }) => element));
pictures(rows);
