// What a cell shows when it is opened: why, the timeline with names, and every number as text.

// A word of the report is shown in the order in which it is read: what would turn that around goes by a sign for it.
const inOrder = (text) => text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");

function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  const there = children.filter((child) => child !== undefined && child !== null);
  element.append(...there.map((child) => (typeof child === "string" ? inOrder(child) : child)));
  return element;
}

const names = (members) => members.map((member) => `${member.pid} [${member.state}] ${member.command}`).join("\n");

// A row of the named timeline; on a narrow page the name stands above its band.
function band(it, name, note, height, draw) {
  const drawn = new Band(it.end, height);
  drawn.signals(it, 0, height);
  draw(drawn);
  drawn.returned(it);
  const label = html("span", { class: "label" }, html("b", {}, name), note ? html("span", { class: "quiet" }, note) : null);
  return html("div", { class: "band" }, label, html("span", { class: "drawing" }, drawn.element));
}

// 1, 2 or 5 times a power of ten: four to nine steps.
function step(end) {
  const rough = end / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((times) => times * power).find((step) => step >= rough);
}

function axis(it) {
  const zero = it.pulse ? "from the start of the watch" : "from the call of the subject";
  const marks = html("span", { class: "drawing axis" });
  const by = step(it.end);
  const unit = it.end >= 1000 ? ["s", 1000] : ["ms", 1];
  for (let at = 0; at <= it.end * 0.97; at += by) {
    const text = `${Number((at / unit[1]).toPrecision(3))}${at === 0 ? "" : ` ${unit[0]}`}`;
    const mark = html("span", {}, text);
    mark.style.left = `${(at / it.end) * 100}%`;
    marks.append(mark);
  }
  return html("div", { class: "band" }, html("span", { class: "label quiet" }, zero), marks);
}

function named(cell) {
  const it = story(cell);
  const all = html("div", { class: "bands" });
  if (it.grace > 0) {
    const sent = it.signals.map((sent) => `${sent.name} ${time(sent.at)}`).join(", ");
    all.append(band(it, "signals", sent || "the subject does not say", 14, (drawn) => drawn.grace(it, 9, 4)));
  }
  for (const life of it.lives) {
    const ended = life.until_ms === undefined ? "still there" : `${life.ended_by ?? "gone"} ${time(life.until_ms)}`;
    const row = band(it, life.role ?? "member", `${life.pid}, ${ended}`, 12, (drawn) => drawn.life(it, life, 2, 8));
    row.title = life.command;
    all.append(row);
  }
  const more = cell.timeline?.more_lives;
  if (more) all.append(html("p", { class: "quiet" }, `and ${more} more members, most of them short-lived`));
  if (cell.pulse) {
    const { beats, longest_ms } = cell.pulse;
    const count = `${beats} beat${beats === 1 ? "" : "s"}, longest ${time(longest_ms)}`;
    all.append(band(it, "beats", count, 22, (drawn) => (drawn.beats(it, 1, 20), drawn.stalls(it, 1, 20))));
  }
  if (it.grace > 0 || cell.pulse) all.append(axis(it));
  return all;
}

function culprit(stall) {
  const it = stall.culprit;
  if (!it) return "not seen";
  const what = it.syscall ? `waiting in ${it.syscall}` : "running: a computation or a spin";
  const samples = it.of ? ` (${it.samples} of ${it.of} samples)` : "";
  const missing = it.no_line ? `; source line: ${it.no_line.replaceAll("_", " ")}` : "";
  const line = it.line ? `, ${it.guessed ? "probably at" : "at"} ${it.line}` : missing;
  return `${what}${it.detail ? `: ${it.detail}` : ""}${samples}${line}`;
}

function stalls(cell) {
  const all = cell.pulse?.stalls ?? [];
  if (all.length === 0) return undefined;
  const row = (kind, cells) => html("tr", {}, ...cells.map((text) => html(kind, kind === "th" ? { scope: "col" } : {}, text)));
  const body = all.map((stall) => {
    const parts = [stall.wall_ms, stall.on_cpu_ms, stall.blocked_ms, stall.run_queue_ms].map(time);
    return row("td", [culprit(stall) + (stall.doubt ? `. Doubtful: ${stall.doubt}` : ""), time(stall.at_ms), ...parts]);
  });
  const head = row("th", ["stall", "at", "wall", "on a CPU", "blocked", "waiting for a CPU"]);
  const table = html("table", {}, html("thead", {}, head), html("tbody", {}, ...body));
  return html("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Stalls" }, table);
}

function facts(cell) {
  const list = html("dl", { class: "facts" });
  const about = Object.hasOwn(report.fixtures ?? {}, cell.fixture) ? report.fixtures[cell.fixture] : undefined;
  const fact = (name, text, kind = "dd") => {
    if (text) list.append(html("dt", {}, name), kind === "pre" ? html("dd", {}, html("pre", {}, text)) : html("dd", {}, text));
  };
  fact("fixture", about && `${cell.fixture}: ${about}`);
  const expected = cell.expected ?? {};
  const time_word = expected.timing === "grace" ? "after the whole grace" : "soon after the group is gone";
  fact("expected", `${expected.outcome ?? "any outcome"}, ${time_word}, pulse ${expected.pulse}`);
  fact("seen", `${cell.outcome ?? "outcome unknown"} after ${time(cell.elapsed_ms)}, pulse ${cell.pulse?.verdict ?? "none"}`);
  fact("pulse", cell.pulse?.why);
  if (cell.pulse?.verdict === "steady" && cell.pulse.beats < 0.8 * (cell.pulse.watched_ms / cell.pulse.interval_ms)) {
    fact("beats", "fewer than were due, and no worker to blame: the machine was busy, which is not charged");
  }
  fact("left in the group", cell.leftover && names(cell.leftover), "pre");
  fact("left the group", cell.escaped && names(cell.escaped), "pre");
  return list;
}

function again(cell) {
  if (!cell.again) return undefined;
  const button = html("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(cell.again);
      button.textContent = "Copied";
    } catch {
      // Not allowed here: then by hand.
      getSelection().selectAllChildren(button.previousSibling);
    }
  });
  return html("div", { class: "again" }, html("code", {}, cell.again), button);
}

function details(cell) {
  const why = cell.why ? html("p", { class: `why ${cell.verdict}` }, cell.why) : undefined;
  return html("div", { class: "details" }, why, named(cell), stalls(cell), facts(cell), again(cell));
}
