// Live pages: a beat, at most one a second, says that something happened, and the marked parts are asked for again.
(() => {
  const REDRAW_MS = 4000, RESIZE_MS = 200, COPIED_MS = 1500, HEIGHT = 220;
  const SERIES = {
    accuracy: ["accuracy", "--series-1", (value) => `${(value * 100).toFixed(1)} %`],
    loss: ["held-out loss", "--series-2", (value) => value.toPrecision(3)],
    train_loss: ["training loss", "--series-3", (value) => value.toPrecision(3)],
    num_updates: ["updates", "--series-4", (value) => `${value}`],
  };
  const MORE = ["--series-1", "--series-3", "--series-4", "--series-2"], DASHES = [undefined, [8, 4], [2, 3], [10, 3, 2, 3]];
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const charts = new Map();

  const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const isThere = (value) => value !== null && value !== undefined;

  // A series of the server is one that is known here, or any other name, which is then its own label.
  function seriesOf(name, index) {
    const [label, colour, say] = SERIES[name] || [name.replaceAll("_", " "), MORE[index % MORE.length], (value) => `${Number(value.toPrecision(4))}`];
    return { label, colour: ink(colour), say };
  }

  const widthOf = (figure) => Math.max(200, figure.clientWidth - 32);

  function options(figure, known, isShare) {
    const axis = { stroke: ink("--soft"), grid: { stroke: ink("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const say = (one) => (u, value) => (isThere(value) ? one.say(value) : "–");
    return {
      width: widthOf(figure), height: HEIGHT, cursor: { drag: { x: true, y: false }, points: { size: 7 } },
      legend: { markers: { width: 0, fill: (u, index) => known[index - 1]?.colour } }, hooks: { setCursor: [tellNewest] },
      scales: { x: { time: false }, y: isShare ? { range: [0, 1] } : { range: (u, low, high) => [Math.min(0, low || 0), (high || 1) * 1.08] } },
      axes: [{ ...axis, size: 28, space: 60, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }, { ...axis, size: 46, values: isShare ? (u, ticks) => ticks.map((tick) => `${Math.round(tick * 100)} %`) : undefined }],
      series: [{ label: "round", value: (u, value) => (isThere(value) ? `${value}` : "–") }, ...known.map((one) => ({ label: one.label, stroke: one.colour, dash: one.dash, fill: known.length === 1 ? `${one.colour}1f` : undefined, width: 2, spanGaps: true, points: { show: false }, value: say(one) }))],
    };
  }

  // Without a pointer on it, a chart tells the newest values that belong together.
  function tellNewest(chart) {
    if (isThere(chart.cursor.idx)) return;
    const newest = chart.data.slice(1).map((column) => column.findLastIndex(isThere)).filter((index) => index >= 0);
    chart.setLegend({ idx: Math.min(...newest) }, false);
  }

  function describe(figure, known, values, rounds) {
    const said = known.map((one, index) => {
      const last = [...values[index]].reverse().find(isThere);
      return `${one.label}: ${isThere(last) ? one.say(last) : "not measured yet"}`;
    });
    figure.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent}. ${rounds} rounds. Newest ${said.join(", ")}.`);
  }

  function wait(figure) {
    if (figure.querySelector(".waiting")) return;
    const line = document.createElement("p");
    line.className = "waiting";
    line.textContent = "Nothing is measured yet.";
    figure.append(line);
  }

  // Several sources are jobs to be drawn over each other: then each line is called like its job.
  function linesOf(jobs, names) {
    return jobs.flatMap((columns, place) => names.filter((name) => columns[name]).map((name, index) => {
      const known = seriesOf(name, index);
      const one = jobs.length === 1 ? known : { ...known, label: columns.job, colour: ink(MORE[place % MORE.length]), dash: DASHES[place % DASHES.length] };
      return { one, rounds: columns.round, values: columns[name] };
    }));
  }

  async function draw(figure, load) {
    const jobs = await Promise.all(figure.dataset.source.split(" ").map(load)), names = figure.dataset.series.split(",");
    if (!figure.isConnected || jobs.includes(null)) return;
    const lines = linesOf(jobs, names), known = lines.map((line) => line.one), values = lines.map((line) => line.values);
    describe(figure, known, values, Math.max(...jobs.map((columns) => columns.rounds)));
    const chart = charts.get(figure);
    if (!values.some((column) => column.some(isThere))) { if (!chart) wait(figure); return; }
    const data = jobs.length === 1 ? [jobs[0].round, ...values] : uPlot.join(lines.map((line) => [line.rounds, line.values]));
    if (chart) { chart.setData(data); tellNewest(chart); return; }
    figure.querySelector(".waiting")?.remove();
    charts.set(figure, new uPlot(options(figure, known, names[0].startsWith("accuracy")), data, figure));
    tellNewest(charts.get(figure));
  }

  // One request for each job, however many charts are drawn of it.
  function loader() {
    const asked = new Map();
    async function ask(source) {
      const answer = await fetch(source, { headers: { Accept: "application/json" } });
      return answer.ok ? answer.json() : null;
    }
    return (source) => { if (!asked.has(source)) asked.set(source, ask(source)); return asked.get(source); };
  }

  function redraw() {
    charts.forEach((chart, figure) => { if (!figure.isConnected) { chart.destroy(); charts.delete(figure); } });
    const load = loader();
    document.querySelectorAll(".chart").forEach((figure) => draw(figure, load).catch(() => {})); // the next beat asks again
  }

  function refit() { charts.forEach((chart, figure) => chart.setSize({ width: widthOf(figure), height: HEIGHT })); }
  function rebuild() { charts.forEach((chart) => chart.destroy()); charts.clear(); redraw(); }

  function say(state, word) {
    const live = document.getElementById("live");
    live.className = `live ${state}`;
    live.querySelector(".word").textContent = word;
  }

  // Charts change by the round: they are asked for more seldom than words and figures.
  let redrawing = null;
  function refresh() {
    htmx.trigger(document.body, "live");
    redrawing ??= setTimeout(() => { redrawing = null; redraw(); }, REDRAW_MS);
  }

  // A hidden page hears nothing, so that many open pages hold no connections; it looks again when it is shown.
  let feed = null;
  function follow() {
    feed?.close();
    feed = null;
    if (document.hidden) return;
    feed = new EventSource("/ui/live");
    feed.onopen = () => say("on", "live");
    feed.onmessage = refresh;
    feed.onerror = () => say("off", "not connected");
  }

  // What is being used stays as it is: an open menu or a field with the cursor is not replaced under the hand.
  function keep(event) {
    const part = event.detail.elt;
    if (part.querySelector && (part.querySelector("details[open]") || part.querySelector("input:focus, textarea:focus, select:focus"))) event.preventDefault();
  }

  // A wide table that is scrolled sideways stays so when it is replaced.
  const scrolled = new Map();
  function noteScrolls() { document.querySelectorAll(".scroll[id]").forEach((part) => scrolled.set(part.id, part.scrollLeft)); }
  function restoreScrolls() { scrolled.forEach((left, id) => { const part = document.getElementById(id); if (part && part.scrollLeft !== left) part.scrollLeft = left; }); }

  // Over plain HTTP from another machine browsers give no clipboard: then the text is selected and copied the old way.
  async function copy(text) {
    if (navigator.clipboard) { await navigator.clipboard.writeText(text.textContent.trim()); return true; }
    getSelection().selectAllChildren(text);
    return document.execCommand("copy");
  }

  // Whoever goes by keyboard stays where they are when it is replaced by its like: the nearest of the same name.
  let held = null;
  const reachable = () => [...document.querySelectorAll("main :is(a[href], button, summary, [tabindex='0'])")];
  const nameOf = (one) => one.getAttribute("href") || one.getAttribute("aria-label") || one.textContent.trim();
  function noteFocus() {
    const number = reachable().indexOf(document.activeElement);
    if (number >= 0) held = { number, name: nameOf(document.activeElement) };
  }
  function restoreFocus() {
    if (held !== null && document.activeElement === document.body) {
      const like = reachable().map((one, number) => ({ one, away: Math.abs(number - held.number) })).filter(({ one }) => nameOf(one) === held.name);
      like.sort((a, b) => a.away - b.away)[0]?.one.focus({ preventScroll: true });
    }
    held = null;
  }

  function offerCopies() {
    document.querySelectorAll("pre").forEach((text) => {
      const frame = document.createElement("div"), button = document.createElement("button");
      frame.className = "copied";
      button.className = "copy";
      button.type = "button";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        button.textContent = (await copy(text).catch(() => false)) ? "Copied" : "Selected";
        setTimeout(() => { button.textContent = "Copy"; }, COPIED_MS);
      });
      const holder = text.closest(".scroll") || text;
      holder.replaceWith(frame);
      frame.append(holder, button);
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    redraw();
    follow();
    offerCopies();
    document.querySelector(".bar [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });
    isDark.addEventListener("change", rebuild);
    document.body.addEventListener("htmx:beforeRequest", (event) => { if (event.detail.requestConfig?.triggeringEvent?.type === "live") keep(event); });
    document.body.addEventListener("htmx:beforeSwap", () => { noteScrolls(); noteFocus(); });
    document.body.addEventListener("htmx:afterSettle", () => { restoreScrolls(); restoreFocus(); });
    let resized = null;
    addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(refit, RESIZE_MS); });
    document.addEventListener("visibilitychange", follow);
    addEventListener("pagehide", () => feed?.close());
  });
})();
