// The drawing of one cell: everything on one time axis, in milliseconds from the start of the watch.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1000;

function time(ms) {
  if (ms === undefined) return "?";
  if (ms >= 9995) return `${(ms / 1000).toFixed(1)} s`;
  if (ms >= 999.5) return `${(ms / 1000).toFixed(2)} s`;
  if (ms >= 99.5) return `${ms.toFixed(0)} ms`;
  return `${ms.toFixed(1)} ms`;
}

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// What a cell has to show on an axis, whichever parts of it there are.
function story(cell) {
  const line = cell.timeline ?? { called_ms: 0, until_ms: 0, grace_ms: 0 };
  const called = line.called_ms;
  const returned = cell.elapsed_ms === undefined ? undefined : called + cell.elapsed_ms;
  const signals = (cell.signals ?? []).map((sent) => ({ name: sent.signal, at: called + sent.at_ms }));
  const stalls = cell.pulse?.stalls ?? [];
  const ends = [line.until_ms, returned ?? 0, cell.pulse?.watched_ms ?? 0];
  ends.push(...signals.map((sent) => sent.at), ...stalls.map((stall) => stall.at_ms + stall.wall_ms));
  const end = Math.max(...ends, 0.1);
  return { called, returned, signals, stalls, end, grace: line.grace_ms, lives: line.lives ?? [], pulse: cell.pulse };
}

// One band of the drawing, stretched to whatever width there is: only rectangles and upright lines keep their looks.
class Band {
  constructor(end, height) {
    this.scale = WIDTH / end;
    this.height = height;
    const size = { viewBox: `-4 0 ${WIDTH + 8} ${height}`, preserveAspectRatio: "none", height, width: "100%" };
    this.element = svg("svg", { ...size, "aria-hidden": "true", focusable: "false" });
  }
  bar(kind, from, to, y, height) {
    const x = Math.min(from * this.scale, WIDTH);
    const width = Math.max(Math.min(to * this.scale, WIDTH) - x, 2);
    this.element.append(svg("rect", { class: kind, x, y, width, height }));
  }
  mark(kind, at, y = 0, height = this.height) {
    const x = Math.min(at * this.scale, WIDTH);
    this.element.append(svg("line", { class: kind, x1: x, x2: x, y1: y, y2: y + height }));
  }
  grace(it, y, height) {
    if (it.grace > 0) this.bar("grace", it.called, it.called + it.grace, y, height);
  }
  signals(it, y, height) {
    for (const sent of it.signals) this.mark(`signal ${sent.name}`, sent.at, y, height);
  }
  life(it, life, y, height) {
    this.bar(`life ${life.role === "leader" ? "leader" : ""}`, life.from_ms, life.until_ms ?? it.end, y, height);
    if (life.until_ms === undefined) this.mark("left", it.end, y, height);
  }
  // As full as the slice: all the beats that were due are a full bar, none is a gap.
  beats(it, y, height) {
    const rhythm = it.pulse?.rhythm;
    if (!rhythm) return;
    const due = rhythm.slice_ms / it.pulse.interval_ms;
    this.bar("quiet-beats", 0, it.pulse.watched_ms, y + height - 1, 1);
    let path = "";
    (rhythm.beats ?? []).forEach((beats, i) => {
      if (beats === 0) return;
      const from = i * rhythm.slice_ms * this.scale;
      const to = Math.min((i + 1) * rhythm.slice_ms, it.end) * this.scale;
      const tall = height * Math.min(beats / due, 1);
      path += `M${from.toFixed(1)} ${y + height}V${(y + height - tall).toFixed(1)}H${to.toFixed(1)}V${y + height}Z`;
    });
    this.element.append(svg("path", { class: "beats", d: path }));
  }
  stalls(it, y, height) {
    for (const stall of it.stalls) {
      this.bar(stall.doubt ? "stall doubt" : "stall", stall.at_ms, stall.at_ms + stall.wall_ms, y, height);
    }
  }
  returned(it) {
    if (it.returned !== undefined) this.mark("returned", it.returned);
  }
}

const GLANCE = 38;

// All of a cell in one small picture.
function glance(cell, end) {
  const it = story(cell);
  const band = new Band(end ?? it.end, GLANCE);
  band.grace(it, 0, 3);
  const room = 20;
  const step = Math.min(room / Math.max(it.lives.length, 1), 6);
  it.lives.forEach((life, i) => band.life(it, life, 5 + i * step, Math.max(step - 1, 1)));
  band.beats(it, 28, 9);
  band.stalls(it, 28, 9);
  band.signals(it, 0, 26);
  band.returned(it);
  return band.element;
}

// The same in words.
function inWords(cell) {
  const it = story(cell);
  const words = it.signals.map((sent) => `${sent.name} at ${time(sent.at)}`);
  words.push(`${it.lives.length} member${it.lives.length === 1 ? "" : "s"} seen`);
  if (cell.timeline?.gone_ms !== undefined) words.push(`gone at ${time(cell.timeline.gone_ms)}`);
  if (cell.pulse) words.push(`${cell.pulse.beats} beats, ${it.stalls.length} stall${it.stalls.length === 1 ? "" : "s"}`);
  if (it.returned !== undefined) words.push(`returned at ${time(it.returned)}`);
  return `Timeline of ${time(it.end)}: ${words.join("; ")}`;
}
