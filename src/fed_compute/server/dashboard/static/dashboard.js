// Live pages: the journal's feed says that something happened, and the marked parts are asked for again.
(() => {
  const REFRESH_MS = 1000, light = { accuracy: "#1d5fd1", loss: "#b3261e", train_loss: "#8a5200", num_updates: "#14703c" };
  const dark = { accuracy: "#7fb0ff", loss: "#ff9a92", train_loss: "#f0b765", num_updates: "#6fd39a" };
  const names = { accuracy: "accuracy", loss: "held-out loss", train_loss: "training loss", num_updates: "updates" };
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const charts = new Map();

  function ink(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

  function options(figure, series) {
    const colours = isDark.matches ? dark : light;
    const axis = { stroke: ink("--soft"), grid: { stroke: ink("--line"), width: 1 }, ticks: { stroke: ink("--line"), width: 1 } };
    return {
      width: Math.max(200, figure.clientWidth - 30), height: 220, cursor: { drag: { x: true, y: false } },
      scales: { x: { time: false }, y: series[0] === "accuracy" ? { range: [0, 1] } : { range: (u, low, high) => [0, (high || 1) * 1.05] } },
      axes: [{ ...axis, label: "round", labelSize: 18 }, { ...axis, size: 52 }],
      series: [{ label: "round" }, ...series.map((name) => ({ label: names[name], stroke: colours[name], width: 2, spanGaps: true, points: { show: false } }))],
    };
  }

  function describe(figure, series, columns) {
    const last = (values) => [...values].reverse().find((value) => value !== null && value !== undefined);
    const said = series.map((name) => `${names[name]}: ${last(columns[name]) === undefined ? "not measured yet" : Number(last(columns[name])).toPrecision(3)}`);
    figure.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent}. ${columns.round.length} rounds. Newest ${said.join(", ")}.`);
    figure.setAttribute("role", "img");
  }

  async function draw(figure) {
    const answer = await fetch(figure.dataset.source, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const columns = await answer.json(), series = figure.dataset.series.split(",");
    const data = [columns.round, ...series.map((name) => columns[name])];
    describe(figure, series, columns);
    const known = charts.get(figure);
    if (known) known.setData(data); else charts.set(figure, new uPlot(options(figure, series), data, figure));
  }

  function redraw() { document.querySelectorAll(".chart").forEach((figure) => draw(figure).catch(() => {})); }
  function rebuild() { charts.forEach((chart) => chart.destroy()); charts.clear(); redraw(); }

  function say(state, word) {
    const live = document.getElementById("live");
    live.className = `live ${state}`;
    live.querySelector(".word").textContent = word;
  }

  let waiting = null;
  function refresh() {
    if (waiting !== null || document.hidden) return;
    waiting = setTimeout(() => { waiting = null; htmx.trigger(document.body, "live"); redraw(); }, REFRESH_MS);
  }

  function follow() {
    const kinds = ["job_created", "round_opened", "round_started", "round_aggregating", "round_closed", "round_abandoned", "task_assigned",
      "task_expired", "task_released", "update_accepted", "update_refused", "update_late", "evaluation_recorded", "version_published", "client_registered"];
    const feed = new EventSource("/events");
    feed.onopen = () => { say("on", "live"); refresh(); };
    feed.onerror = () => say("off", "not connected");
    kinds.forEach((kind) => feed.addEventListener(kind, refresh));
    addEventListener("pagehide", () => feed.close());
  }

  document.addEventListener("DOMContentLoaded", () => {
    redraw();
    follow();
    isDark.addEventListener("change", rebuild);
    let resized = null;
    addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(rebuild, 200); });
    document.addEventListener("visibilitychange", refresh);
  });
})();
